"""A study's records as the lines of a file, one after the other."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from service.domain.records import Report, Study, Trial
from service.domain.states import ValueKind
from service.travel.form import SCHEMA_VERSION, Word, moment_text

WORDS: Mapping[float, Word] = {math.nan: "nan", math.inf: "pos_inf", -math.inf: "neg_inf"}
ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))
Document = dict[str, Any]


class Lines:
    """Documents into lines. Each passes through it once, so that the last line can vouch for all of them."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._lines = 0
        self._trials = 0

    def line(self, document: Document) -> bytes:
        """The document as a line."""
        raw = ENCODER.encode(document).encode() + b"\n"
        self._digest.update(raw)
        self._lines += 1
        self._trials += document["kind"] == "thawline/trial"
        return raw

    def end(self) -> bytes:
        """The last line."""
        document = {"kind": "thawline/end", "trials": self._trials, "lines": self._lines, "sha256": self._digest.hexdigest()}
        return ENCODER.encode(document).encode() + b"\n"


def study_document(study: Study) -> Document:
    """The first line."""
    return {
        "kind": "thawline/study",
        "schema_version": SCHEMA_VERSION,
        "id": study.id,
        "name": study.name,
        "state": study.state,
        "reason": study.reason,
        "spec": study.spec.model_dump(mode="json"),
        "facts": None if study.facts is None else study.facts.model_dump(mode="json"),
        "confirmation": None if study.confirmation is None else study.confirmation.model_dump(mode="json"),
        "created": study.created,
        "created_at": moment_text(study.created_at),
        "started_at": _moment(study.started_at),
        "finished_at": _moment(study.finished_at),
    }


def trial_document(trial: Trial, reports: Iterable[Report]) -> Document:
    """A trial's line with what it reported in its first `CHUNK_STEPS` steps."""
    return {
        "kind": "thawline/trial",
        "number": trial.number,
        "state": trial.state,
        "params": dict(trial.params),
        "value": trial.value if trial.value is not None else _word(trial.value_kind),
        "metrics": {name: worded(value) for name, value in trial.metrics.items()},
        "step": trial.step,
        "attempt": trial.attempt,
        "reason": trial.reason,
        "detail": trial.detail,
        "worker": trial.worker,
        "duplicate_of": trial.duplicate_of,
        "source": trial.source,
        "confirms": trial.confirms,
        "round": trial.round,
        "result": dict(trial.result),
        "queued_at": moment_text(trial.queued_at),
        "started_at": _moment(trial.started_at),
        "finished_at": _moment(trial.finished_at),
        "reports": _columns(reports),
    }


def reports_document(trial: Trial, reports: Iterable[Report]) -> Document:
    """A line with what the trial reported in as many later steps."""
    return {"kind": "thawline/reports", "number": trial.number, **_columns(reports)}


def _columns(reports: Iterable[Report]) -> Document:
    """Reports by metric: a value for each step, null where the step has none."""
    listed = list(reports)
    names = sorted({name for report in listed for name in report.metrics})
    return {
        "steps": [report.step for report in listed],
        "metrics": {name: [worded(report.metrics[name]) if name in report.metrics else None for report in listed] for name in names},
    }


def _word(kind: ValueKind) -> str | None:
    return None if kind in (ValueKind.FINITE, ValueKind.MISSING) else str(kind)


def worded(number: float) -> float | Word:
    """The number, or the word for what JSON cannot say."""
    return number if math.isfinite(number) else WORDS.get(number, "nan")


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else moment_text(seconds)
