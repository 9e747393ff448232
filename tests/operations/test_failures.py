"""What each class of failure entails: for the trial, its duplicates and the study. What the sampler learns is in tests/search."""

from typing import Any, get_args

import pytest

from service import operations
from service.domain.failures import POLICIES
from service.domain.records import Claim, Study
from service.domain.states import AttemptEnd, StudyState, TrialState
from service.operations import Pruned, Released, Searches, TrialOutcome
from service.store import Store, queries
from tests.operations.driving import (
    BROKEN,
    CRASH,
    checkpoint,
    claim_one,
    claim_trials,
    finished,
    kinds_of,
    lose,
    ready,
    report,
    searches_of,
    study_of,
    tell,
    trial_of,
    trials_of,
)
from trainer.protocol import Failed, FailureReason

FINAL = sorted(reason for reason, policy in POLICIES.items() if not policy.retried and not policy.ends_study)
DIVERGED = Failed(reason="diverged", detail="the loss is not finite in epoch 2")


def failing(reason: FailureReason) -> Failed:
    return Failed(reason=reason, detail=f"this was {reason}")


def end_all(store: Store, searches: Searches, *outcomes: TrialOutcome) -> None:
    """End one new trial after the other."""
    for outcome in outcomes:
        assert tell(store, claim_one(store, searches).lease, outcome=outcome)


def crash_or_lose(store: Store, claim: Claim, how: str) -> None:
    if how == "lost":
        lose(store, claim)
    else:
        assert tell(store, claim.lease, outcome=CRASH)


def test_every_class_of_failure_has_a_policy() -> None:
    assert set(POLICIES) == set(get_args(FailureReason))


# a trial that crashes


def test_a_crashed_trial_goes_on_from_its_last_checkpoint(store: Store, study: Study, searches: Searches) -> None:
    first = claim_one(store, searches)
    assert tell(store, first.lease, reports=[report(1, 0.1), report(2, 0.2)], checkpoint=checkpoint(1), outcome=CRASH)
    waiting = trial_of(store, study, 0)
    assert (waiting.state, waiting.worker, waiting.reason, waiting.detail) == (TrialState.QUEUED, None, None, None)
    second = claim_one(store, searches)
    assert (second.lease.number, second.lease.attempt, second.checkpoints) == (0, 2, (checkpoint(1),))
    assert trial_of(store, study, 0).step == 1
    assert tell(store, second.lease, outcome=finished(0.5))
    assert trial_of(store, study, 0).state is TrialState.COMPLETE
    (reported,) = (event.body for event in store.read(queries.events_after, study.id, 0) if event.kind == "trial_requeued")
    assert reported.items() >= {"ending": "crashed", "lost": False, "detail": "signal 11", "number": 0, "attempt": 1}.items()


@pytest.mark.parametrize("order", ["crashed crashed crashed", "lost lost lost", "lost crashed crashed", "crashed crashed lost"])
def test_a_trial_that_takes_its_process_or_its_worker_along_each_time_ends(
    store: Store, study: Study, searches: Searches, order: str
) -> None:
    *_, last = hows = order.split()
    for attempt, how in enumerate(hows, start=1):
        claim = claim_one(store, searches)
        assert (claim.lease.number, claim.lease.attempt) == (0, attempt)
        crash_or_lose(store, claim, how)
    trial = trial_of(store, study, 0)
    assert (trial.state, trial.reason, trial.attempt) == (TrialState.FAILED, last, study.spec.limits.attempts)
    assert [one.ending for one in store.read(queries.attempts, trial.id)] == [AttemptEnd(how) for how in hows]
    assert kinds_of(store, study).count("trial_requeued") == len(hows) - 1
    toll = {"crashed": "its process crashed", "lost": "its worker was lost"}
    for how, count in ((how, hows.count(how)) for how in set(hows)):
        assert f"{toll[how]} {'once' if count == 1 else f'{count} times'}" in (trial.detail or "")
    assert claim_one(store, searches).lease.number == 1


def test_attempts_that_were_handed_back_are_not_counted(store: Store, study: Study, searches: Searches) -> None:
    for end in (Released(), CRASH, Released(), Released(), CRASH, Released()):
        assert tell(store, claim_one(store, searches).lease, outcome=end)
    assert trial_of(store, study, 0).state is TrialState.QUEUED
    assert tell(store, claim_one(store, searches).lease, outcome=CRASH)
    assert trial_of(store, study, 0).reason == "crashed"


@pytest.mark.parametrize("end", [CRASH, Released()], ids=["crashed", "released"])
@pytest.mark.parametrize("meanwhile", ["queued", "running again", "complete"])
def test_an_end_that_is_sent_again_after_the_trial_was_queued_counts_as_written_once(
    store: Store, study: Study, searches: Searches, end: TrialOutcome, meanwhile: str
) -> None:
    first = claim_one(store, searches)
    assert tell(store, first.lease, outcome=end)
    if meanwhile != "queued":
        second = claim_one(store, searches)
        assert meanwhile != "complete" or tell(store, second.lease, outcome=finished(0.5))
    trial, kinds = trial_of(store, study, 0), kinds_of(store, study)
    assert tell(store, first.lease, outcome=end)
    assert (trial_of(store, study, 0), kinds_of(store, study)) == (trial, kinds)
    others: list[TrialOutcome] = [finished(0.9), Pruned("why"), BROKEN, CRASH if end == Released() else Released()]
    assert not any(tell(store, first.lease, outcome=other) for other in others)


def test_the_last_crash_sent_again_counts_as_written(store: Store, searches: Searches) -> None:
    study = ready(store, limits={"attempts": 1})
    claim = claim_one(store, searches)
    assert [tell(store, claim.lease, outcome=CRASH) for _ in range(3)] == [True] * 3
    assert trial_of(store, study, 0).detail == "its process crashed once; the last time: signal 11"
    assert kinds_of(store, study).count("trial_failed") == 1


# the other classes


@pytest.mark.parametrize("reason", FINAL)
def test_other_failures_end_the_trial_at_once(store: Store, study: Study, searches: Searches, reason: FailureReason) -> None:
    claim = claim_one(store, searches)
    assert tell(store, claim.lease, checkpoint=checkpoint(1), outcome=failing(reason))
    trial = trial_of(store, study, 0)
    assert (trial.state, trial.reason, trial.detail, trial.attempt) == (TrialState.FAILED, reason, f"this was {reason}", 1)
    assert study_of(store, study).state is StudyState.ACTIVE
    assert claim_one(store, searches).lease.number == 1


@pytest.mark.parametrize("reason", FINAL)
def test_duplicates_are_answered_by_what_their_parameters_are_to_blame_for(store: Store, study: Study, reason: FailureReason) -> None:
    searches = searches_of(choices=1)
    original = claim_one(store, searches)
    assert claim_trials(store, searches) == []
    assert tell(store, original.lease, outcome=failing(reason))
    answered = {trial.reason for trial in trials_of(store, study)[1:]} == {reason}
    assert answered == POLICIES[reason].answers == (reason in ("infeasible", "out_of_memory", "diverged"))
    assert bool(claim_trials(store, searches)) == (not answered)


def test_duplicates_of_a_crashed_trial_wait_on_until_it_has_ended(store: Store, study: Study) -> None:
    searches = searches_of(choices=1)
    assert tell(store, claim_one(store, searches).lease, outcome=CRASH)
    again = claim_one(store, searches)
    assert again.lease.number == 0
    assert claim_trials(store, searches) == []
    assert tell(store, again.lease, outcome=finished(0.5))
    assert {trial.state for trial in trials_of(store, study)} == {TrialState.COMPLETE}


def test_data_that_are_not_what_was_checked_end_the_study_at_once(store: Store, study: Study, searches: Searches) -> None:
    first, second, third = claim_trials(store, searches, limit=3)
    assert tell(store, second.lease, outcome=finished(0.5))
    assert tell(store, first.lease, outcome=failing("bad_data"))
    ended = study_of(store, study)
    assert (ended.state, ended.reason) == (StudyState.FAILED, "bad_data in trial 0: this was bad_data")
    assert [trial.state for trial in trials_of(store, study)] == [TrialState.FAILED, TrialState.COMPLETE, TrialState.QUEUED]
    assert operations.heartbeat(store, "w", [third.lease]) == [third.lease]
    assert kinds_of(store, study)[-3:] == ["trial_failed", "trial_requeued", "study_failed"]
    assert claim_trials(store, searches) == []
    assert tell(store, third.lease, reports=[report(1, 0.5)], outcome=Released()), "its worker hands back what is back already"
    assert trial_of(store, study, 2).step == 0, "nothing else of a lost lease is taken"


# trials that fail one after the other


def test_a_study_whose_trials_all_fail_ends_with_their_reasons(store: Store, searches: Searches) -> None:
    study = ready(store, limits={"failures": 4, "attempts": 1})
    end_all(store, searches, DIVERGED, CRASH, DIVERGED)
    assert study_of(store, study).state is StudyState.ACTIVE
    running = claim_one(store, searches, "other")
    end_all(store, searches, Failed(reason="diverged", detail="not finite in epoch 3"))
    ended = study_of(store, study)
    assert (ended.state, ended.reason) == (
        StudyState.FAILED,
        "4 trials failed in a row: 3 diverged, 1 crashed; the last: not finite in epoch 3",
    )
    assert trial_of(store, study, running.lease.number).state is TrialState.QUEUED
    assert kinds_of(store, study)[-2:] == ["trial_requeued", "study_failed"]


@pytest.mark.parametrize("end", [finished(0.5), Pruned("too low")], ids=["complete", "pruned"])
def test_a_trial_that_is_complete_or_pruned_begins_the_count_anew(store: Store, searches: Searches, end: TrialOutcome) -> None:
    study = ready(store, limits={"failures": 3})
    end_all(store, searches, *[BROKEN, DIVERGED, end] * 3, BROKEN, DIVERGED)
    assert study_of(store, study).state is StudyState.ACTIVE
    end_all(store, searches, BROKEN)
    assert study_of(store, study).state is StudyState.FAILED


def test_lost_workers_do_not_count_against_the_study(store: Store, searches: Searches) -> None:
    study = ready(store, limits={"failures": 2, "attempts": 1})
    for _ in range(6):
        lose(store, claim_one(store, searches))
    assert [trial.reason for trial in trials_of(store, study)] == ["lost"] * 6
    assert study_of(store, study).state is StudyState.ACTIVE
    end_all(store, searches, BROKEN)
    lose(store, claim_one(store, searches))
    end_all(store, searches, DIVERGED)
    assert study_of(store, study).reason == (
        "2 trials failed in a row: 1 script_error, 1 diverged; the last: the loss is not finite in epoch 2"
    )


def test_neither_cancelled_trials_nor_crashes_that_are_tried_again_count(store: Store, searches: Searches) -> None:
    study = ready(store, limits={"failures": 2})
    end_all(store, searches, BROKEN)
    operations.cancel_trial(store, study.id, claim_one(store, searches).lease.number)
    end_all(store, searches, CRASH, CRASH)
    assert study_of(store, study).state is StudyState.ACTIVE
    end_all(store, searches, CRASH)
    assert study_of(store, study).state is StudyState.FAILED


def test_duplicates_that_are_answered_do_not_count(store: Store) -> None:
    study, searches = ready(store, limits={"failures": 2}), searches_of(choices=1)
    end_all(store, searches, DIVERGED)
    assert claim_trials(store, searches) == []
    assert [trial.reason for trial in trials_of(store, study)] == ["diverged"] * 20
    assert study_of(store, study).state is StudyState.COMPLETE


def test_of_trials_that_end_together_the_last_ones_decide(store: Store, searches: Searches) -> None:
    study = ready(store, limits={"failures": 3})
    claims = claim_trials(store, searches, limit=8)
    ends: list[Any] = [BROKEN, BROKEN, BROKEN, finished(0.5), BROKEN, BROKEN]
    operations.record(store, [operations.Write(claim.lease, outcome=end) for claim, end in zip(claims, ends, strict=False)])
    assert study_of(store, study).state is StudyState.ACTIVE
    assert tell(store, claims[6].lease, outcome=BROKEN)
    assert study_of(store, study).state is StudyState.FAILED


def test_without_a_limit_a_study_goes_on_however_many_fail(store: Store, searches: Searches) -> None:
    study = ready(store, limits={"failures": None}, budget={"trials": 30})
    end_all(store, searches, *[BROKEN] * 30)
    assert study_of(store, study).state is StudyState.COMPLETE


def test_a_study_that_ends_by_its_last_failures_is_failed_and_not_complete(store: Store, searches: Searches) -> None:
    study = ready(store, limits={"failures": 3}, budget={"trials": 4})
    end_all(store, searches, finished(0.5), BROKEN, BROKEN, BROKEN)
    assert study_of(store, study).state is StudyState.FAILED
    best = store.read(queries.best_trial, study)
    assert best is not None
    assert best.number == 0
