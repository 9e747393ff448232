"""F19: a machine without the data, and a folder that is moved away for a while. It is the worker's fault, and no end of the study."""

from pathlib import Path

from service import operations
from service.domain.records import Study
from service.domain.states import AttemptEnd, StudyState, TrialState
from service.store import queries
from tests.chaos.checker import check
from tests.chaos.faults.toy_unmounted import MOUNT
from tests.chaos.lab import LONG, Lab, Process

TRIALS = 40 if LONG else 8
MOVES = 4 if LONG else 2
ENDLESS = 10_000  # trials
MOST_TRIES = 3  # of the worker without the data, before it is found: the check, and what it claimed at the same moment


def worker(lab: Lab, mount: Path) -> Process:
    return lab.work("--step", "0.05", THAW_CHAOS_TOY_FAULTS="tests.chaos.faults.toy_unmounted", **{MOUNT: str(mount)})


def put_data(mount: Path) -> None:
    (mount / "class").mkdir(parents=True)


def blind(lab: Lab) -> list[str]:
    """The reasons that workers give for leaving a study alone."""
    return [one.detail for one in lab.store.read(queries.unavailabilities)]


def released(lab: Lab, study: Study) -> int:
    """How many attempts were handed back."""
    attempts = [attempt for trial in lab.trials(study) for attempt in lab.store.read(queries.attempts, trial.id)]
    assert {attempt.ending for attempt in attempts} <= {AttemptEnd.COMPLETE, AttemptEnd.RELEASED, AttemptEnd.CANCELLED, None}
    return sum(attempt.ending is AttemptEnd.RELEASED for attempt in attempts)


def test_a_worker_without_the_data_leaves_the_study_to_others(lab: Lab, tmp_path: Path) -> None:
    """I35: the check and the trials go to the worker that has the data, and the other one says what it lacks."""
    put_data(tmp_path / "seeing")
    study = lab.study(trials=TRIALS, epochs=4)
    without = worker(lab, tmp_path / "blind")
    lab.until(lambda: blind(lab) == [f"there is no folder {tmp_path / 'blind'}"] or lab.ended(study), "it says what it lacks")
    assert lab.now(study).state is StudyState.ACTIVE, f"I35: {lab.now(study).reason}"
    worker(lab, tmp_path / "seeing")
    lab.until(lambda: lab.ended(study), "the study ends")
    lab.counts["tries without the data"] = len(lab.reported("unreadable"))
    now, trials = lab.now(study), lab.trials(study)
    assert now.state is StudyState.COMPLETE, f"I35: a worker without the data ended the study: {now.reason}"
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}, f"I35: {[(trial.state, trial.reason) for trial in trials]}"
    assert lab.counts["tries without the data"] <= MOST_TRIES, "I35: a worker without the data goes on claiming"
    assert without.runs, lab.last_words()
    check(lab, study)
    lab.tell("F19")


def test_data_that_is_moved_away_for_a_while_ends_nothing(lab: Lab, tmp_path: Path) -> None:
    """I35: trials that begin meanwhile go back, their attempt does not count, and the study goes on by itself."""
    mount, moved = tmp_path / "mount", tmp_path / "moved"
    put_data(mount)
    study = lab.study(trials=ENDLESS, epochs=4, limits={"attempts": 1})
    worker(lab, mount)
    work_on(lab, study)
    for _ in range(MOVES):
        mount.rename(moved)
        lab.counts["moves"] += 1
        lab.until(lambda: bool(blind(lab)) or lab.ended(study), "the worker misses the data")
        assert lab.now(study).state is StudyState.ACTIVE, f"I35: data that was moved ended the study: {lab.now(study).reason}"
        moved.rename(mount)
        work_on(lab, study)
    operations.stop_study(lab.store, study.id)
    trials = lab.trials(study)
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.CANCELLED}, f"I35: {trials}"
    assert 1 <= released(lab, study) <= MOST_TRIES * lab.counts["moves"], "I35: the worker claims though it cannot read the data"
    check(lab, study)
    lab.tell("F19, moved")


def work_on(lab: Lab, study: Study) -> None:
    """Wait for the end of one more trial."""
    before = complete(lab, study)
    lab.until(lambda: complete(lab, study) > before or lab.ended(study), "one more trial is complete")


def complete(lab: Lab, study: Study) -> int:
    return sum(trial.state is TrialState.COMPLETE for trial in lab.trials(study))
