"""A trial that takes down whatever runs it ends; machines that go away are not held against the study."""

import os
import signal
from collections import deque
from contextlib import suppress

from service import operations
from service.domain.records import Study, Trial
from service.domain.states import AttemptEnd, StudyState, TrialState
from service.store import queries
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.lab import LONG, Lab, Process
from tests.processes import children

ATTEMPTS = 8 if LONG else 3
MACHINES = 8 if LONG else 3
EPOCHS, STEP_SECONDS = 60, "0.05"  # so long that a trial is met while it runs
LIMIT_SECONDS = 240
REASONS = {AttemptEnd.CRASHED: "its process crashed", AttemptEnd.LOST: "its worker was lost"}


def test_a_trial_that_takes_down_its_process_or_its_worker_ends_after_its_attempts(make_lab: MakeLab) -> None:
    """I14: crashes and lost workers count together; the reason is that of the last, and the next trial is trained."""
    lab = make_lab(lease_seconds=4.0)
    study = lab.study(trials=2, epochs=EPOCHS, limits={"attempts": ATTEMPTS})
    operations.enqueue_trials(lab.store, study.id, [{"lr": 0.1}, {"lr": 0.9}])
    worker = lab.work("--step", STEP_SECONDS)
    victims = deque(lab.random.sample(["workers", "trainers"], 2) + lab.random.choices(["workers", "trainers"], k=ATTEMPTS))
    lab.counts |= dict.fromkeys(("workers killed", "trainers killed"), 0)
    attempt = 0
    while (trial := next_attempt(lab, study, after=attempt)).state is TrialState.RUNNING:
        attempt = trial.attempt
        assert attempt <= ATTEMPTS, f"I14: attempt {attempt} runs after {attempt - 1} deaths"
        lab.counts[f"{victims[0]} killed"] += 1
        if victims.popleft() == "trainers":
            kill_trainer(worker)
        else:
            worker.kill()
            worker = lab.work("--step", STEP_SECONDS)
    endings = [one.ending for one in lab.store.read(queries.attempts, trial.id)]
    assert set(endings) <= set(REASONS), f"the attempts ended so: {endings}"
    assert (trial.state, trial.reason, len(endings)) == (TrialState.FAILED, endings[-1], ATTEMPTS)
    for ending, cause in REASONS.items():
        if count := endings.count(ending):
            assert f"{cause} {'once' if count == 1 else f'{count} times'}" in (trial.detail or "")
    lab.until(lambda: lab.now(study).state.terminal, "the other trial ends", LIMIT_SECONDS)
    assert (lab.now(study).state, lab.trials(study)[1].state) == (StudyState.COMPLETE, TrialState.COMPLETE)
    check(lab, study)
    lab.tell("crash loop")


def test_machines_that_go_away_are_not_held_against_the_study(lab: Lab) -> None:
    """I14: several trials are lost for good, one after the other, with a study that bears not even two failures."""
    study = lab.study(trials=MACHINES + 2, epochs=EPOCHS, limits={"attempts": 1, "failures": 2})
    workers = [lab.work("--step", STEP_SECONDS) for _ in range(MACHINES)]
    lab.until(lambda: len(running(lab, study)) == MACHINES, "each machine has a trial", LIMIT_SECONDS)
    gone = {trial.number for trial in running(lab, study)}
    for worker in workers:
        worker.kill()
        lab.counts["machines lost"] += 1
    lab.work("--step", "0.002")
    lab.until(lambda: lab.now(study).state.terminal, "the study ends", LIMIT_SECONDS)
    assert lab.now(study).state is StudyState.COMPLETE, f"I14: the study has {lab.now(study).state}: {lab.now(study).reason}"
    lost = [trial for trial in lab.trials(study) if trial.state is TrialState.FAILED]
    assert {trial.number for trial in lost} >= gone
    assert {trial.reason for trial in lost} == {"lost"}
    assert len(lost) < MACHINES + 2, "the machine that came afterwards trained nothing"
    check(lab, study)
    lab.tell("lost machines")


def next_attempt(lab: Lab, study: Study, after: int) -> Trial:
    """The first trial as it stands once a later attempt has reported something, or once it has ended."""
    seen = lab.trials(study)[:1]

    def under_way() -> bool:
        seen[0] = trial = lab.trials(study)[0]
        return trial.state.terminal or (trial.attempt > after and trial.state is TrialState.RUNNING and reported(lab, trial))

    lab.until(under_way, f"trial 0 runs again after attempt {after}, or has ended", LIMIT_SECONDS)
    return seen[0]


def reported(lab: Lab, trial: Trial) -> bool:
    return any(metric.attempt == trial.attempt for metric in lab.store.read(queries.metrics, trial.id))


def running(lab: Lab, study: Study) -> list[Trial]:
    return lab.store.read(queries.trials, study.id, states=[TrialState.RUNNING])


def kill_trainer(worker: Process) -> None:
    for pid in children(worker.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
