"""The Keras example from study file to `thaw train`: two workers, one of them killed, and a script that resumes from its own checkpoint.

THAW_EXAMPLES_FULL=1 runs the study as its file has it, with 12 trials and a confirmation of three configurations; `-rP` shows the figures.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.test_confirmation import call
from tests.end_to_end.test_scripts import THAW, thaw, until, worker
from tests.examples.studies import EXAMPLES, GOOD_AND_POOR, document, own_home
from tests.processes import alive, below
from tests.serving import served
from thawline import Client

FULL = bool(os.environ.get("THAW_EXAMPLES_FULL"))
GOOD, POOR = GOOD_AND_POOR["keras"]
SMALL = {"baseline": GOOD, "budget": {"trials": 2}, "pruner": {"name": "none"}, "confirm": {"top": 1, "seeds": 2}}
KILLED_TRIAL = 6 if FULL else 1  # the trial whose worker is killed


@pytest.fixture
def place(libraries: None, tmp_path: Path) -> Iterator[Path]:
    with own_home(tmp_path, HEARTBEAT_SECONDS="1", LEASE_SECONDS="10"):  # a worker that is killed is missed soon
        yield tmp_path


@pytest.mark.slow
def test_keras_is_searched_killed_resumed_confirmed_exported_and_run_again(place: Path) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(served(THAW, place / "home", workers=0))
        workers = [stack.enter_context(worker(place, "--allow-scripts", str(EXAMPLES))) for _ in range(2)]
        study = stack.enter_context(Client(server)).create(document("keras") | ({} if FULL else SMALL))
        if not FULL:
            study.queue(POOR)
        mine = f"{server}/api/v1/studies/{study.id}/trials/{KILLED_TRIAL}"

        def lost_worker() -> Any:
            """The worker of the trial, once it runs."""
            name = next((one.worker or "" for one in study.trials() if one.number == KILLED_TRIAL and one.state == "running"), "")
            return next((one for one in workers if f"-{one.pid}-" in name), None)

        lost = until(lost_worker, place)
        until(lambda: [*place.glob(f"home/**/{KILLED_TRIAL}/checkpoint/*/checkpoint.keras")], place, 0.01)
        processes = below(lost.pid)
        lost.kill()
        killed_after = time.monotonic() - began
        until(lambda: not any(map(alive, processes)), place)
        study.wait(3000)

        assert study.info.state == "complete", study.info.notices
        trials = {one.number: one for one in study.trials()}
        assert {one.state for one in trials.values()} <= ({"complete", "pruned"} if FULL else {"complete"})
        endings = [one["ending"] for one in call(mine)["attempts"]]
        assert endings == ["lost", trials[KILLED_TRIAL].state]
        log = "".join(chunk["text"] for chunk in call(f"{mine}/log")["chunks"])
        [resumed] = re.findall(r"^resumed after epoch (\d+)$", log, re.MULTILINE)
        assert 1 <= int(resumed) < 12
        verdict = study.confirmation().verdict
        assert verdict is not None and verdict.expected is not None and verdict.expected.value > 0.85
        exported = study.best()
        thaw(server, place, "best", study.name, "-o", "best.yaml")
        seconds = time.monotonic() - began
    done = thaw(server, place, "train", "best.yaml", "--out", "trained", "--allow-scripts", str(EXAMPLES))
    result = json.loads((place / "trained" / "result.json").read_text())
    assert result["equal"] is True or exported.origin.trial == KILLED_TRIAL, (
        done
    )  # an interrupted trial shuffles otherwise after it resumes
    model = (place / "trained" / "output" / "model.keras").read_bytes()
    assert result["files"]["model.keras"] == hashlib.sha256(model).hexdigest()
    print(f"worker of trial {KILLED_TRIAL} killed after {killed_after:.0f} s; resumed after epoch {resumed}; {seconds:.0f} s for the study")
    for one in trials.values():
        print(one.number, one.round, one.state, one.step, one.value, dict(one.params))
    print(*verdict.words, verdict.model_dump_json(), done, json.dumps(result, indent=1), sep="\n")
