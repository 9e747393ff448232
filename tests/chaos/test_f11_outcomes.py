"""F11: whatever a trainer does, it is an outcome from the closed list; the worker goes on, and nothing is left of it."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from service import operations
from service.domain.records import Attempt, Study, Trial
from service.domain.states import AttemptEnd, TrialState
from service.store import queries
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.faults.toy_misdeeds import STEP, number_of
from tests.chaos.lab import LONG, Lab, Process
from tests.processes import alive, below

EPOCHS = 5
ATTEMPTS = 2
ROUNDS = 3 if LONG else 1
LIMIT_SECONDS = 240 * ROUNDS
MOST_GROWTH = 200e6  # bytes; of a line without an end 64 MB are kept until it is given up, and a flood brings gigabytes

ENDS = {
    "becomes nan": "diverged",
    "becomes infinite": "diverged",
    "runs out of memory": "out_of_memory",
    "raises": "crashed",
    "segfaults": "crashed",
    "exits": "crashed",
    "is killed": "crashed",
    "forks": "crashed",
    "ends no line": "crashed",
    "deadlocks": "timeout",
    "never reports": "timeout",
    "floods stdout": "timeout",
    "floods stderr": "timeout",
    "heeds no signal": "timeout",
}
FAULTS = {"THAW_CHAOS_FAULTS": "tests.chaos.faults.impatient", "THAW_CHAOS_TOY_FAULTS": "tests.chaos.faults.toy_misdeeds"}
SPACE = {"lr": {"type": "float", "low": 1e-4, "high": 1.0}, "lr_step_epochs": {"type": "int", "low": 1, "high": 1_000}}
HEALTHY = 5  # an `lr_step_epochs` that is no misdeed


@pytest.fixture
def patient_lab(make_lab: MakeLab) -> Lab:
    """Leases are long: this is not about them."""
    return make_lab(lease_seconds=15.0)


def study_of(lab: Lab, misdeeds: Iterable[str]) -> Study:
    """A healthy trial, then each misdeed with a healthy trial behind it, in that order."""
    ends = [HEALTHY]
    for misdeed in misdeeds:
        ends += [number_of(misdeed), HEALTHY]
    limits = {"attempts": ATTEMPTS}
    study = lab.study(trials=len(ends), epochs=EPOCHS, search_space=SPACE, limits=limits)
    operations.enqueue_trials(lab.store, study.id, [{"lr": (place + 1) / 1_000, "lr_step_epochs": end} for place, end in enumerate(ends)])
    return study


def test_whatever_a_trainer_does_is_an_outcome_and_the_next_trial_runs_on_the_same_worker(patient_lab: Lab) -> None:
    """I14, I21: a reason from the closed list, as many attempts as it deserves, no process left, bounded memory."""
    lab = patient_lab
    misdeeds = ROUNDS * list(ENDS)
    study = study_of(lab, misdeeds)
    worker = lab.work(**FAULTS)
    lab.until(lambda: not worker.runs or lab.trials(study)[0].state.terminal, "the first trial ends")
    before = peak_memory(worker)
    lab.until(lambda: not worker.runs or lab.now(study).state.terminal, "all trials end", LIMIT_SECONDS)
    assert worker.runs, f"I21: the worker died with one of its trainers\n{worker.said()[-2_000:]}"
    lab.measured["memory growth, MB"] = round((peak_memory(worker) - before) / 1e6, 1)

    assert lab.measured["memory growth, MB"] < MOST_GROWTH / 1e6, "the worker's memory grows with what its trainers print"
    assert lab.now(study).state == "complete", lab.now(study).reason
    trials = lab.trials(study)
    for misdeed, bad, good in zip(misdeeds, trials[1::2], trials[2::2], strict=True):
        assert (bad.state, bad.reason) == (TrialState.FAILED, ENDS[misdeed]), f"I21: {misdeed}: {bad.state}, {bad.reason}: {bad.detail}"
        assert good.state is TrialState.COMPLETE, f"I21: after one that {misdeed}: {good.state}, {good.reason}: {good.detail}"
        follows_on_the_same_worker(attempts_of(lab, bad), attempts_of(lab, good))
        assert "misdeed" not in log_of(lab, good), f"the log of trial {good.number} holds what another one printed"
    assert "RuntimeError: a misdeed was done" in log_of(lab, trials[1 + 2 * misdeeds.index("raises")])
    nothing_is_left(lab, worker)
    check(lab, study)
    count(lab, trials)
    lab.tell("F11")


def test_a_trial_that_kills_its_worker_ends_after_its_attempts(lab: Lab) -> None:
    """I14: it does not circulate, and the successor runs the next trial."""
    study = study_of(lab, ["kills its parent"])
    workers = [lab.work(**FAULTS)]
    while not lab.now(study).state.terminal:
        lab.until(lambda: not workers[-1].runs or lab.now(study).state.terminal, "the worker is killed, or all trials end", LIMIT_SECONDS)
        if not workers[-1].runs:
            lab.counts["workers killed"] += 1
            assert lab.counts["workers killed"] <= ATTEMPTS, "I14: the trial kills one worker after the other"
            workers.append(lab.work(**FAULTS))
    first, bad, good = lab.trials(study)
    assert (bad.state, bad.reason, bad.attempt) == (TrialState.FAILED, "lost", ATTEMPTS), bad.detail
    assert [one.ending for one in attempts_of(lab, bad)] == ATTEMPTS * [AttemptEnd.LOST]
    assert (first.state, good.state) == (TrialState.COMPLETE, TrialState.COMPLETE)
    assert lab.counts["workers killed"] == len(lab.reported("parent killed")) == ATTEMPTS
    nothing_is_left(lab, workers[-1])
    check(lab, study)
    lab.tell("F11, the parent")


def follows_on_the_same_worker(bad: list[Attempt], good: list[Attempt]) -> None:
    """The healthy trial began when the other had ended, and took one attempt."""
    [only] = good
    assert bad[-1].ended_at is not None and only.started_at >= bad[-1].ended_at
    assert {one.worker for one in bad} == {only.worker}


def nothing_is_left(lab: Lab, worker: Process) -> None:
    """Of all trainers and what they started there is at most the one that waits for the next trial."""
    lab.until(lambda: len(below(worker.pid)) <= 1, "the killed trainers are gone")
    for line in lab.reported("forked"):
        assert not alive(line["child"]), f"a trainer's child outlived it: {line}"


def count(lab: Lab, trials: list[Trial]) -> None:
    for line in lab.reported("misdeed"):
        lab.counts[line["misdeed"]] += 1
    for misdeed, reason in ENDS.items():
        wanted = ROUNDS * (ATTEMPTS if reason == "crashed" else 1)
        assert lab.counts[misdeed] >= wanted, f"one that {misdeed} was injected {lab.counts[misdeed]} times, not {wanted}"
    assert {trial.step for trial in trials if trial.reason == "crashed"} == {STEP - 1}


def attempts_of(lab: Lab, trial: Trial) -> list[Attempt]:
    return lab.store.read(queries.attempts, trial.id)


def log_of(lab: Lab, trial: Trial) -> str:
    attempts = range(1, trial.attempt + 1)
    return "".join(chunk.text for attempt in attempts for chunk in lab.store.read(queries.log_chunks, trial.id, attempt, limit=10_000))


def peak_memory(process: Process) -> int:
    """Bytes that were resident at most."""
    [line] = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
