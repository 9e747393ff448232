"""Studies with something of everything, for tests of what travels."""

import base64
import hashlib
import io
import json
import math
from typing import Any

from service import operations
from service.domain.pruning import Finding, Peer, with_sentence
from service.domain.records import Claim, MetricReport, Study
from service.domain.samplers import Median
from service.operations import Write
from service.operations.importing import import_study
from service.store import Store, queries
from service.study_io.import_ import sound
from service.web.study_io import pieces
from tests.operations.driving import claim_trials
from tests.web.laboratory import Laboratory
from trainer.protocol import Failed, Finished, Scores

Documents = list[dict[str, Any]]

EVIDENCE = with_sentence(
    Finding(rule=Median(), metric="accuracy", direction="maximize", step=1, value=0.1, threshold=0.9, peers=(Peer(number=0, value=0.9),))
)
HOSTILE = '<script>alert(1)</script>\n=HYPERLINK("http://x")\u2028\'; DROP TABLE study; --'


def mixed_study(store: Store, name: str = "digits", **changes: Any) -> Study:
    """A study with trials in every state: complete, pruned, failed, cancelled, a duplicate, one running and one queued."""
    space = {
        "lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
        "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": ["sgd"]}},
    }
    lab = Laboratory(store)
    study = lab.study(name, search_space=space, baseline={"optimizer": "adam"}, **changes)
    lab.finish(lab.claim(), 0.91)  # the baseline
    diverging, pruned, failed, cancelled, _running = (lab.claim() for _ in range(5))
    lab.report(diverging, 1, accuracy=0.5, loss=math.inf)
    lab.report(diverging, 2, accuracy=math.nan, loss=-math.inf, lr=0.1)
    lab.finish(diverging, math.nan)
    lab.report(pruned, 1, accuracy=0.1)
    operations.record(store, [Write(pruned.lease, outcome=operations.Pruned(HOSTILE, EVIDENCE))])
    operations.record(store, [Write(failed.lease, outcome=Failed(reason="script_error", detail="it said:\n\tno"))])
    operations.cancel_trial(store, study.id, cancelled.lease.number)
    operations.queue_trial(store, study.id, {"lr": 0.01, "optimizer": "sgd", "momentum": 0.5})
    return store.read(queries.find_study, study.id)


def confirmed_study(store: Store, name: str = "digits") -> Study:
    """A study whose confirmation is under way: some of its trials are complete, with what they scored on the test images."""
    lab = Laboratory(store)
    study = lab.study(
        name, data={"path": "/data/digits", "location": "workers", "test": 0.2}, budget={"trials": 3}, confirm={"top": 1, "seeds": 3}
    )
    for accuracy in (0.7, 0.8, 0.9):
        lab.finish(lab.claim(), accuracy)
    claim_trials(store, lab.searches, "worker-1")  # nobody finds work, and the confirmation begins
    for _ in range(2):
        score(store, lab.claim())
    return store.read(queries.find_study, study.id)


def score(store: Store, claim: Claim) -> None:
    """The end of a run that was scored on 20 test images."""
    scores = Scores(
        metrics={"accuracy": 0.8, "loss": 0.5},
        report={
            "per_class_recall": {"cat": 1.0, "dog": 0.6},
            "confusion_matrix": ((10, 0), (4, 6)),
            "predicted": base64.b64encode(b"\0\0" * 14 + b"\1\0" * 6).decode(),
            "losses": base64.b64encode(b"\0\x38" * 20).decode(),
        },
    )
    metrics = {"accuracy": 0.85, "loss": 0.4}
    report = {"per_class_recall": {"cat": 1.0, "dog": 0.7}, "confusion_matrix": ((10, 0), (3, 7))}
    done = Finished(step=3, metrics=metrics, report=report, train_seconds=1.0, peak_memory=1, test=scores)
    assert operations.record(store, [Write(claim.lease, reports=[MetricReport(3, metrics)], outcome=done)]) == []


def exported(store: Store, study: Study) -> bytes:
    """The study's file."""
    return b"".join(pieces(store, store.read(queries.find_study, study.id)))


def imported(store: Store, raw: bytes, name: str | None = None, paused: bool = False) -> Study:
    """The study that the file becomes."""
    file = io.BytesIO(raw)
    return import_study(store, sound(file, name), file, paused=paused)


def documents(raw: bytes) -> list[dict[str, Any]]:
    """The lines as they can be compared: without what an import changes."""
    found = [json.loads(line) for line in raw.splitlines()]
    for one in found:
        if one["kind"] == "thawline/study":
            del one["id"], one["name"], one["spec"]["name"]
        if one["kind"] == "thawline/end":
            del one["sha256"]
    return found


def sealed(documents: Documents) -> bytes:
    """The documents as lines, with a last line that vouches for them: whoever forges a file can count."""
    lines = [json.dumps(one).encode() + b"\n" for one in documents[:-1]]
    trials = sum(one.get("kind") == "thawline/trial" for one in documents[:-1])
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    end = {"kind": "thawline/end", "trials": trials, "lines": len(lines), "sha256": digest}
    return b"".join(lines) + json.dumps(end).encode() + b"\n"
