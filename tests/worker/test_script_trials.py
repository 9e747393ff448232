"""Scripts as trials of a real worker: each misbehaviour has its outcome, and the next trial runs."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import Study, Trial
from service.domain.states import StudyState, TrialState
from service.settings import Settings
from service.store import Store, queries
from service.worker import slot_runner
from service.worker.devices import SlotLayout, lay_out
from service.worker.supervisor import Supervisor
from tests.processes import alive
from tests.worker.conftest import until

GOOD = "print('epoch=1 score=0.5')\nprint('epoch=2 score=0.75')\n"
RESUMED = (
    "saved = pathlib.Path(os.environ['THAW_CHECKPOINT'], 'last')\ndone = saved.exists()\n"
    "for epoch in range(3 if done else 1, 3):\n    print(f'epoch={epoch} score={epoch / 4}', flush=True)\n"
    "saved.write_text('2')\nprint('resumed', os.environ['THAW_RESUMED'])\nif not done: raise SystemExit(75)\n"
)
DAEMON = "if os.fork() == 0:\n    os.setsid()\n    open('daemon', 'w').write(str(os.getpid()))\n    time.sleep(300)\n"
SOURCES = {
    "good": GOOD,
    "no number": "print('epoch=1 score=nan')",
    "1e400": "print('epoch=1 score=1e400')",
    "never": "print('epoch=1 loss=0.5')",
    "ends at once": "",
    "twice": "print('epoch=2 score=0.75\\nepoch=2 score=0.75\\nepoch=1 score=0.5')",
    "gigabyte": "for _ in range(1000): sys.stdout.write('x' * 2**20 + '\\n')",
    "binary": "os.write(1, bytes(range(256)) * 100 + b'\\n\\x1b[31mepoch=1 score=0.75\\x1b[0m\\n')",
    "fills the disk": "open(os.environ['THAW_OUT'] + '/x', 'wb').write(b'x' * 10**7)",
    "daemon": DAEMON + GOOD,
    "killed": "os.kill(os.getpid(), 9)",
    "error": "raise ValueError('odd')",
    "later": RESUMED,
}
"""By the value of the parameter, what the script does."""
OUTCOMES = {
    "good": (None, 1), "no number": ("diverged", 1), "1e400": ("diverged", 1), "never": ("metric_missing", 1),
    "ends at once": ("metric_missing", 1), "twice": (None, 1), "gigabyte": ("script_error", 1), "binary": (None, 1),
    "fills the disk": ("script_error", 1), "daemon": (None, 1), "killed": ("crashed", 2), "error": ("script_error", 1), "later": (None, 2),
}  # fmt: skip
"""The reason of the failure, None for a complete trial, and the number of attempts."""
SCRIPT = f"import os, pathlib, subprocess, sys, time\nexec({SOURCES!r}[sys.argv[1].partition('=')[2]])\n"


class Bench:
    """A worker that runs scripts in a folder, in a thread."""

    def __init__(self, store: Store, settings: Settings, code: Path) -> None:
        self.store, self.code = store, code
        own = settings.model_copy(update={"allow_scripts": (code,), "lease_seconds": 6.0})
        self._worker = Supervisor(store, own, SlotLayout(lay_out((), 1, 1)), command=())
        self._thread = threading.Thread(target=self._worker.run, daemon=True)
        self._thread.start()

    def study(self, source: str, *does: str, **document: Any) -> Study:
        """A study of this script, with a trial for each value of its parameter."""
        (self.code / "train.py").write_text(source)
        whole = {
            "name": "scripted", "task": "script", "command": ["python", "train.py", "${args}"], "workdir": str(self.code),
            "search_space": {"do": {"type": "categorical", "choices": [*SOURCES, "nothing"]}}, "sampler": {"name": "random"},
            "objective": {"metric": "score", "direction": "maximize"}, "budget": {"trials": len(does)}, **document,
        }  # fmt: skip
        study = operations.create_study(self.store, parse_study(whole))
        operations.enqueue_trials(self.store, study.id, [{"do": one} for one in does])
        return study

    def ended(self, study: Study) -> list[Trial]:
        """The trials once the study has ended."""
        until(lambda: self.store.read(queries.find_study, study.id).state.terminal)
        return self.store.read(queries.trials, study.id)

    def close(self) -> None:
        self._worker.leave()
        self._thread.join(120)
        assert not self._thread.is_alive()


@pytest.fixture
def bench(store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(slot_runner, "DEFERRED", (0.1, 0.2))
    (tmp_path / "code").mkdir()
    opened = Bench(store, settings, tmp_path / "code")
    yield opened
    opened.close()


def test_each_way_to_end_has_its_outcome_and_the_next_trial_runs(bench: Bench) -> None:
    does = [one for name in OUTCOMES for one in (name, "good")]
    limits = {"attempts": 2, "output_mb": 1, "disk_gb": 0.005, "failures": len(does)}
    study = bench.study(SCRIPT, *does, limits=limits)
    trials = bench.ended(study)
    assert bench.store.read(queries.find_study, study.id).state is StudyState.COMPLETE
    ends = [(str(trial.params["do"]), trial.reason, trial.attempt) for trial in trials]
    assert ends == [(name, *OUTCOMES[name]) for name in does]
    for trial in trials:
        assert trial.state is (TrialState.COMPLETE if OUTCOMES[str(trial.params["do"])][0] is None else TrialState.FAILED)
    values = {str(trial.params["do"]): trial.value for trial in trials if trial.state is TrialState.COMPLETE}
    assert values == {"good": 0.75, "twice": 0.75, "binary": 0.75, "daemon": 0.75, "later": 0.5}
    until(lambda: not alive(int((bench.code / "daemon").read_text())))


def test_a_trial_that_asked_to_be_queued_again_resumes_and_keeps_what_it_had_reported(bench: Bench) -> None:
    later, good = bench.ended(bench.study(SCRIPT, "later", "good"))
    first, second = bench.store.read(queries.attempts, later.id)
    assert (first.ending, second.ending) == ("released", "complete") and "asks to be queued again" in (first.detail or "")
    assert (later.state, later.value, later.step, second.resumed) == (TrialState.COMPLETE, 0.5, 2, 2)
    curve = {one.step: one.value for one in bench.store.read(queries.metrics, later.id) if one.name == "score"}
    assert curve == {1: 0.25, 2: 0.5} and good.state is TrialState.COMPLETE


def test_a_script_that_runs_longer_than_limits_minutes_ends_with_all_its_processes(bench: Bench) -> None:
    endless = "child = subprocess.Popen(['sleep', '300'])\nopen('child', 'w').write(str(child.pid))\nprint('score=0.5')\ntime.sleep(300)\n"
    source = f"import subprocess, sys, time\nif 'never' in sys.argv[1]:\n    exec({endless!r})\n{GOOD}"
    late, good = bench.ended(bench.study(source, "never", "good", limits={"minutes": 0.08}))
    assert (late.state, late.reason, late.attempt) == (TrialState.FAILED, "timeout", 1)
    assert "the trial ran longer than limits.minutes (0.08)" in (late.detail or "")
    until(lambda: not alive(int((bench.code / "child").read_text())))
    assert good.state is TrialState.COMPLETE and good.value == 0.75


def test_a_script_that_changes_its_files_ends_the_study_at_the_next_trial(bench: Bench) -> None:
    study = bench.study(GOOD + "open('train.py', 'a').write('# changed')\n", "good", "good")
    good, changed = bench.ended(study)
    assert (good.state, changed.state, changed.reason) == (TrialState.COMPLETE, TrialState.FAILED, "bad_data")
    ended = bench.store.read(queries.find_study, study.id)
    assert ended.state is StudyState.FAILED and "files of the script have changed since the study's check: train.py" in (ended.reason or "")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": ["no-such-program"]}, "there is no program no-such-program on this worker's PATH"),
        ({"templates": {"run.yaml": "run.yaml"}}, "run.yaml, line 1: there is no parameter 'rate'"),
        ({"environment": ["NOT_SET_ANYWHERE"]}, "the variable NOT_SET_ANYWHERE is not set on this worker"),
        ({"files": ["lib/*.py"]}, "nothing in"),
    ],
)
def test_what_the_check_finds_ends_the_study_before_a_trial_starts(bench: Bench, fields: dict[str, Any], words: str) -> None:
    (bench.code / "run.yaml").write_text("lr: {{rate}}\n")
    study = bench.study(GOOD, "good", **fields)
    (trial,) = bench.ended(study)
    failed = bench.store.read(queries.find_study, study.id)
    assert failed.state is StudyState.FAILED and words in (failed.reason or "") and trial.attempt == 0
    fine = bench.study(GOOD, "good", name="next")
    assert [trial.state for trial in bench.ended(fine)] == [TrialState.COMPLETE]


def test_a_pruned_script_is_stopped_and_the_next_trial_runs(bench: Bench) -> None:
    source = (
        "import sys, time\nlow = 'never' in sys.argv[1]\nfor epoch in range(1, 5):\n"
        "    print(f'epoch={epoch} score={0.1 if low else 0.9}')\n    time.sleep(300 if low and epoch == 2 else 0)\n"
    )
    pruner = {"name": "median", "n_startup_trials": 2}
    study = bench.study(source, "good", "twice", "never", "good", steps=4, pruner=pruner)
    states = [trial.state for trial in bench.ended(study)]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
