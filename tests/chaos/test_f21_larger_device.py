"""F21: trials that run out of a small card's memory, beside a worker with a larger card, which may be killed."""

from service import operations
from service.domain.records import Study
from service.domain.states import StudyState, TrialState
from service.store import queries
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.faults.cards import BYTES, LARGE, LARGEST_RATE, SMALL
from tests.chaos.lab import LONG, Lab, Process

TRIALS = 40 if LONG else 8
CARDS = "tests.chaos.faults.cards"
SECONDS = 100  # limit for a study


def worker(lab: Lab, size: int) -> Process:
    """A registered worker with a card of that memory."""
    before = len(lab.store.read(queries.workers))
    started = lab.work("--step", "0.05", THAW_CHAOS_FAULTS=CARDS, THAW_CHAOS_TOY_FAULTS=CARDS, **{BYTES: str(size)})
    lab.until(lambda: len(lab.store.read(queries.workers)) > before, "the worker registers")
    return started


def study_of(lab: Lab) -> Study:
    """Trials of which the first half fits only the large card."""
    study = lab.study(trials=TRIALS, epochs=4)
    rates = [lab.random.uniform(0.01, 0.4) + (LARGEST_RATE if number < TRIALS / 2 else 0) for number in range(TRIALS)]
    operations.enqueue_trials(lab.store, study.id, [{"lr": rate} for rate in rates])
    return study


def devices(lab: Lab, trial: int) -> list[int | None]:
    """The memory of the card of each attempt."""
    memory = {one.id: one.memory[0] for one in lab.store.read(queries.workers)}
    return [memory[attempt.worker] for attempt in lab.store.read(queries.attempts, trial)]


def test_trials_that_are_too_large_for_a_card_end_on_the_larger_one(make_lab: MakeLab) -> None:
    """I37: none of them fails, and the small card tries each at most once."""
    lab = make_lab(lease_seconds=20.0)
    worker(lab, LARGE), worker(lab, SMALL)
    study = study_of(lab)
    lab.until(lambda: lab.ended(study), "the study ends", SECONDS)
    trials = lab.trials(study)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}, f"I37: {[(trial.reason, trial.detail) for trial in trials]}"
    lab.counts["failures on the small card"] = 0
    for trial in trials[: TRIALS // 2]:
        tried = devices(lab, trial.id)
        assert tried[-1] == LARGE and tried.count(SMALL) <= 1, f"I37: trial {trial.number} was tried on cards of {tried}"
        lab.counts["failures on the small card"] += tried.count(SMALL)
    check(lab, study)
    lab.tell("F21")


def test_the_study_ends_when_the_worker_with_the_larger_card_is_killed(lab: Lab) -> None:
    """I37: what waited for its card fails as out of memory, once its heartbeats have been missing for a lease."""
    large, study = worker(lab, LARGE), study_of(lab)
    large.kill()
    worker(lab, SMALL)
    lab.until(lambda: lab.ended(study), "the study ends", SECONDS)
    lab.counts["workers killed"] = 1
    assert lab.now(study).state is StudyState.COMPLETE
    trials = lab.trials(study)
    assert {trial.state for trial in trials[TRIALS // 2 :]} == {TrialState.COMPLETE}
    assert {(trial.state, trial.reason) for trial in trials[: TRIALS // 2]} == {(TrialState.FAILED, "out_of_memory")}, "I37"
    assert all((trial.detail or "").startswith("no worker with a GPU of at least 10.0 GB is left") for trial in trials[: TRIALS // 2])
    check(lab, study)
    lab.tell("F21 killed")
