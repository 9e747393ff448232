"""A suggestion that was tried before is answered, not trained."""

from typing import Any

import pytest

from service import operations
from service.domain.records import Claim, Study
from service.domain.states import StudyState, TrialState
from service.operations import Pruned, Released, Searches
from service.store import Store, queries
from tests.operations.driving import (
    BROKEN,
    claim_one,
    claim_trials,
    finish,
    finished,
    kinds_of,
    ready,
    report,
    searches_of,
    study_of,
    tell,
    trial_of,
    trials_of,
)  # fmt: skip
from tests.operations.test_claiming_together import BYTES, lanes_ready
from trainer.protocol import Failed

OUT_OF_MEMORY = Failed(reason="out_of_memory", detail="CUDA out of memory")


@pytest.fixture
def searches() -> Searches:
    """A sampler that knows one point only."""
    return searches_of(choices=1)


@pytest.fixture
def original(store: Store, study: Study, searches: Searches) -> Claim:
    """The first trial, running."""
    return claim_one(store, searches)


@pytest.mark.parametrize("end", [finished(0.7), OUT_OF_MEMORY, Pruned("too low")], ids=["complete", "out_of_memory", "pruned"])
def test_a_duplicate_of_a_trial_that_ended_ends_as_it_did(
    store: Store, study: Study, searches: Searches, original: Claim, end: Any
) -> None:
    assert tell(store, original.lease, reports=[report(1, 0.2), report(2, 0.7)], outcome=end)
    assert claim_trials(store, searches) == []
    first, duplicate = trials_of(store, study)[:2]
    for name in ("state", "value", "value_kind", "metrics", "step", "reason", "detail", "result", "params"):
        assert getattr(duplicate, name) == getattr(first, name), name
    assert (duplicate.source, duplicate.duplicate_of, duplicate.attempt, duplicate.worker) == ("duplicate", 0, 0, None)
    assert [(m.step, m.value) for m in store.read(queries.metrics, duplicate.id)] == [(1, 0.2), (2, 0.7)]
    bodies = [event.body for event in store.read(queries.events_after, study.id, 0) if event.body.get("number") == 1]
    assert [body["duplicate_of"] for body in bodies] == [0]


def test_duplicates_count_in_the_budget_and_may_complete_the_study(store: Store, study: Study, searches: Searches, original: Claim) -> None:
    finish(store, original)
    assert claim_trials(store, searches) == []
    assert [trial.state for trial in trials_of(store, study)] == [TrialState.COMPLETE] * 20
    assert study_of(store, study).state is StudyState.COMPLETE
    assert kinds_of(store, study).count("study_completed") == 1


def test_a_duplicate_of_a_running_trial_waits_and_is_answered_with_it(
    store: Store, study: Study, searches: Searches, original: Claim
) -> None:
    assert claim_trials(store, searches) == []
    assert [trial.state for trial in trials_of(store, study)[1:]] == [TrialState.QUEUED] * 19
    assert tell(store, original.lease, reports=[report(1, 0.2)], outcome=finished(0.7, step=1))
    duplicates = trials_of(store, study)[1:]
    assert {(trial.state, trial.value, trial.duplicate_of) for trial in duplicates} == {(TrialState.COMPLETE, 0.7, 0)}
    assert [(m.step, m.value) for m in store.read(queries.metrics, duplicates[-1].id)] == [(1, 0.2)]
    assert study_of(store, study).state is StudyState.COMPLETE


def test_a_waiting_duplicate_is_not_claimed_with_others_that_wait(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 4})
    claim_one(store, searches)
    operations.queue_trial(store, study.id, {"lr": 0.25})
    (other,) = claim_trials(store, searches, limit=3)
    assert tell(store, other.lease, outcome=Released())
    assert [claim.lease.number for claim in claim_trials(store, searches, limit=3)] == [1]
    assert [trial.duplicate_of for trial in trials_of(store, study)] == [None, None, 0, 0]


@pytest.mark.parametrize("cancelled", [False, True])
def test_duplicates_are_set_free_when_the_original_gives_no_answer(
    store: Store, study: Study, searches: Searches, original: Claim, cancelled: bool
) -> None:
    assert claim_trials(store, searches) == []
    if cancelled:
        operations.cancel_trial(store, study.id, 0)
    else:
        assert tell(store, original.lease, outcome=BROKEN)
    successor = claim_one(store, searches)
    assert successor.lease.number == 1
    assert [trial.duplicate_of for trial in trials_of(store, study)[:4]] == [None, None, 1, 1]
    finish(store, successor, 0.6)
    assert {trial.value for trial in trials_of(store, study)[1:]} == {0.6}


def test_a_failure_that_is_not_the_parameters_is_no_answer_and_the_same_parameters_are_tried_again(
    store: Store, study: Study, searches: Searches, original: Claim
) -> None:
    assert tell(store, original.lease, outcome=BROKEN)
    assert claim_one(store, searches).lease.number == 1
    assert trial_of(store, study, 1).duplicate_of is None


def test_duplicates_are_passed_over_until_enough_trials_run(store: Store) -> None:
    study = ready(store, budget={"trials": 200})
    searches = searches_of(choices=6)
    claims = claim_trials(store, searches, limit=6)
    assert len({claim.params["lr"] for claim in claims}) == 6
    waiting = [trial for trial in trials_of(store, study) if trial.state is TrialState.QUEUED]
    assert waiting and all(trial.duplicate_of is not None for trial in waiting)
    assert study_of(store, study).created == len(waiting) + 6


@pytest.mark.parametrize(("sampler", "lanes", "answered"), [("tpe", 1, 100), ("tpe", 16, 112), ("random", 16, 112)])
def test_one_claim_answers_a_bounded_number_of_duplicates(store: Store, sampler: str, lanes: int, answered: int) -> None:
    study = lanes_ready(store, sampler={"name": sampler}, budget={"trials": 1_000}, limits={"lanes": lanes})
    searches = searches_of(choices=1)
    finish(store, claim_one(store, searches))
    assert operations.claim_together(store, searches, "w", BYTES) == []
    assert study_of(store, study).created - 1 == answered


def test_a_trial_that_a_person_queues_is_trained_although_it_was_tried_before(
    store: Store, study: Study, searches: Searches, original: Claim
) -> None:
    finish(store, original)
    operations.queue_trial(store, study.id, original.params)
    assert claim_one(store, searches).lease.number == 1
