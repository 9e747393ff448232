"""Studies that ended and go on: resumed after a repair, or with more budget; and studies that end without a result."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from service import operations
from service.domain.budgets import BudgetChange, BudgetFields, More
from service.domain.errors import BudgetSpent, InvalidInput, NameTaken, StudyClosed, StudyNotFound
from service.domain.records import Study
from service.domain.states import EventKind, StudyState, TrialState
from service.operations import Pruned, Searches
from service.store import Store, queries
from service.store.unit_of_work import locked
from tests.operations.driving import (
    BROKEN,
    FACTS,
    checkpoint,
    claim_one,
    claim_trials,
    finish,
    finished,
    kinds_of,
    ready,
    report,
    scored,
    spec_of,
    study_of,
    tell,
    trial_of,
    trials_of,
)
from trainer.protocol import Failed

BAD_DATA = Failed(reason="bad_data", detail="2 images have changed")


def run_all(store: Store, searches: Searches, value: float = 0.5) -> list[int]:
    """Train what there is; the numbers of the trials that were trained."""
    trained = []
    while claims := claim_trials(store, searches):
        for claim in claims:
            trained.append(claim.lease.number)
            finish(store, claim, value)
    return trained


def more(trials: int | None = None, hours: float | None = None) -> BudgetChange:
    return BudgetChange(add=More(trials=trials, hours=hours))


def failed_study(store: Store, searches: Searches, **changes: Any) -> Study:
    """A study with 8 trials: the first complete, the second failed it, the third had saved epoch 2, the fourth waits."""
    study = ready(store, budget={"trials": 8}, **changes)
    first, second, third = claim_trials(store, searches, limit=3)
    operations.queue_trial(store, study.id, {"lr": 0.25})
    finish(store, first)
    assert tell(store, third.lease, reports=[report(1, 0.1), report(2, 0.2)], checkpoint=checkpoint(2))
    assert tell(store, second.lease, outcome=BAD_DATA)
    assert study_of(store, study).state is StudyState.FAILED
    return study


# a study that failed


def test_a_failed_study_goes_on_where_it_was_once_its_data_was_checked_again(store: Store, searches: Searches) -> None:
    study = failed_study(store, searches)
    resumed = operations.resume_study(store, study.id)
    assert (resumed.state, resumed.reason, resumed.finished_at, resumed.sound) == (StudyState.ACTIVE, None, None, False)
    assert claim_trials(store, searches) == [], "nobody has looked at the data yet"
    unchecked = store.read(queries.unchecked_study)
    assert unchecked is not None and unchecked.id == study.id
    operations.pass_check(store, study.id, FACTS)
    again = claim_one(store, searches)
    assert (again.lease.number, again.lease.attempt, again.checkpoints) == (2, 2, (checkpoint(2),))
    finish(store, again)
    assert run_all(store, searches) == [3, 4, 5, 6, 7]
    states = [trial.state for trial in trials_of(store, study)]
    assert states == [TrialState.COMPLETE, TrialState.FAILED, *[TrialState.COMPLETE] * 6]
    assert study_of(store, study).state is StudyState.COMPLETE
    kinds = kinds_of(store, study)
    assert [kind for kind in kinds if kind.startswith("study")] == [
        "study_created", "study_checked", "study_failed", "study_resumed", "study_checked", "study_completed",
    ]  # fmt: skip


def test_a_study_that_is_resumed_on_other_data_fails_again_and_says_so(store: Store, searches: Searches) -> None:
    study = failed_study(store, searches)
    operations.resume_study(store, study.id)
    other = FACTS.model_copy(update={"fingerprint": "0" * 64})
    failed = operations.pass_check(store, study.id, other)
    assert failed.state is StudyState.FAILED and failed.facts == FACTS
    assert failed.reason is not None and failed.reason.startswith("the images or their labels are not those that the study's trials")
    assert "Restore them and resume the study" in failed.reason
    operations.resume_study(store, study.id)
    assert operations.pass_check(store, study.id, FACTS).sound


def test_without_a_measurement_other_data_are_taken(store: Store, study: Study, searches: Searches) -> None:
    assert tell(store, claim_one(store, searches).lease, outcome=BAD_DATA)
    operations.resume_study(store, study.id)
    other = FACTS.model_copy(update={"fingerprint": "0" * 64})
    assert operations.pass_check(store, study.id, other, "manifest").facts == other
    assert store.read(queries.manifest, study.id) == "manifest"


def test_the_failures_in_a_row_are_counted_anew(store: Store, searches: Searches) -> None:
    study = ready(store, limits={"failures": 2})
    for _ in range(2):
        assert tell(store, claim_one(store, searches).lease, outcome=BROKEN)
    assert study_of(store, study).state is StudyState.FAILED
    operations.resume_study(store, study.id)
    operations.pass_check(store, study.id, FACTS)
    assert tell(store, claim_one(store, searches).lease, outcome=BROKEN)
    assert study_of(store, study).state is StudyState.ACTIVE
    assert tell(store, claim_one(store, searches).lease, outcome=BROKEN)
    assert study_of(store, study).state is StudyState.FAILED


def test_a_study_that_never_passed_its_check_is_resumed(store: Store, searches: Searches) -> None:
    study = operations.create_study(store, spec_of())
    operations.fail_study(store, study.id, "there is no folder data/pets")
    assert operations.resume_study(store, study.id).state is StudyState.ACTIVE
    assert operations.pass_check(store, study.id, FACTS).facts == FACTS
    assert claim_one(store, searches).lease.number == 0


def test_a_late_write_of_the_worker_from_before_is_refused(store: Store, searches: Searches) -> None:
    study = ready(store)
    first, second = claim_trials(store, searches, limit=2)
    assert tell(store, first.lease, outcome=BAD_DATA)
    operations.resume_study(store, study.id)
    operations.pass_check(store, study.id, FACTS)
    assert not tell(store, second.lease, outcome=finished(0.9))
    assert trial_of(store, study, 1).state is TrialState.QUEUED


# a study that was stopped, or is complete


def test_a_stopped_study_goes_on_with_the_rest_of_its_budget(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 5})
    claim_trials(store, searches, limit=2)
    operations.stop_study(store, study.id)
    assert operations.resume_study(store, study.id).state is StudyState.ACTIVE
    assert run_all(store, searches) == [2, 3, 4]
    assert [trial.state for trial in trials_of(store, study)][:2] == [TrialState.CANCELLED] * 2
    assert study_of(store, study).state is StudyState.COMPLETE


def test_a_study_with_nothing_left_says_that_its_budget_has_to_grow(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 2})
    claim_trials(store, searches, limit=2)
    operations.stop_study(store, study.id)
    with pytest.raises(BudgetSpent, match="thaw study extend"):
        operations.resume_study(store, study.id)
    assert study_of(store, study).state is StudyState.STOPPED
    assert operations.extend_study(store, study.id, more(2)).state is StudyState.STOPPED
    operations.resume_study(store, study.id)
    assert run_all(store, searches) == [2, 3]


def test_a_complete_study_takes_more_trials(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 2})
    run_all(store, searches)
    with pytest.raises(StudyClosed, match="thaw study extend"):
        operations.resume_study(store, study.id)
    extended = operations.extend_study(store, study.id, more(3))
    assert (extended.state, extended.finished_at, extended.spec.budget.trials) == (StudyState.ACTIVE, None, 5)
    assert run_all(store, searches) == [2, 3, 4]
    ended = study_of(store, study)
    assert (ended.state, ended.created) == (StudyState.COMPLETE, 5)
    assert kinds_of(store, study).count("study_extended") == 1


@pytest.mark.parametrize("state", ["active", "paused"])
def test_a_study_that_has_not_ended_takes_more_trials_too(store: Store, searches: Searches, state: str) -> None:
    study = ready(store, budget={"trials": 2})
    claims = claim_trials(store, searches, limit=2)
    if state == "paused":
        operations.pause_study(store, study.id)
    assert operations.extend_study(store, study.id, BudgetChange(budget=BudgetFields(trials=3))).state == state
    for claim in claims:
        finish(store, claim)
    assert study_of(store, study).state == state
    operations.resume_study(store, study.id)
    assert run_all(store, searches) == [2]


def test_a_budget_is_never_less_than_what_there_is(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 5})
    claim_trials(store, searches, limit=3)
    with pytest.raises(InvalidInput, match=r"#/budget/trials: the study has 3 trials already; write budget.trials as 3 or more"):
        operations.extend_study(store, study.id, BudgetChange(budget=BudgetFields(trials=2)))
    assert operations.extend_study(store, study.id, BudgetChange(budget=BudgetFields(trials=3))).spec.budget.trials == 3
    assert claim_trials(store, searches) == []


def test_a_complete_study_needs_room_for_another_trial(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 2})
    run_all(store, searches)
    with pytest.raises(InvalidInput, match=r"raise budget\.trials above 2"):
        operations.extend_study(store, study.id, BudgetChange(budget=BudgetFields(parallel=1)))
    with pytest.raises(InvalidInput, match="#/add/hours: the study has no bound on hours to add to"):
        operations.extend_study(store, study.id, more(hours=1))
    assert study_of(store, study).state is StudyState.COMPLETE


def test_the_time_since_its_end_is_no_part_of_a_studys_hours(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 5, "hours": 1.0})
    finish(store, claim_one(store, searches))
    operations.stop_study(store, study.id)
    day = 24 * 3600
    with store.writing() as tx, locked(tx, study.id) as uow:
        now = uow.study
        assert now.started_at is not None and now.finished_at is not None
        uow.study = replace(now, started_at=now.started_at - day, finished_at=now.finished_at - day)
        uow.emit(EventKind.STUDY_STOPPED)
    assert operations.resume_study(store, study.id).state is StudyState.ACTIVE
    assert run_all(store, searches) == [1, 2, 3, 4]


def test_an_exhausted_grid_says_that_more_budget_adds_nothing(store: Store) -> None:
    space = {"optimizer": {"type": "categorical", "choices": ["sgd", "adam"]}}
    study = ready(store, search_space=space, sampler={"name": "grid"}, budget={"trials": 2})
    searches = Searches()
    run_all(store, searches)
    assert claim_trials(store, searches) == []
    extended = operations.extend_study(store, study.id, more(5))
    assert extended.state is StudyState.ACTIVE, "two trials for a budget of two: nobody has asked the sampler for a third"
    assert claim_trials(store, searches) == []
    assert study_of(store, study).state is StudyState.COMPLETE
    with pytest.raises(StudyClosed, match="Each of the 2 configurations of the search space was tried"):
        operations.extend_study(store, study.id, more(5))


def test_a_study_whose_best_are_confirmed_is_not_extended(store: Store, searches: Searches) -> None:
    study = ready(
        store, budget={"trials": 2}, confirm={"top": 1, "seeds": 2}, data={"path": "data/pets", "test": 0.2}, baseline={"lr": 0.5}
    )
    while claims := claim_trials(store, searches) or claim_trials(store, searches):
        for claim in claims:
            assert tell(store, claim.lease, outcome=scored(0.5, 0.5))
    assert study_of(store, study).confirmation is not None
    with pytest.raises(StudyClosed, match="more trials would invalidate the confirmation"):
        operations.extend_study(store, study.id, more(5))


# a study without a result


def test_a_study_whose_trials_all_failed_says_so(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 3}, limits={"failures": None})
    outcomes = [Failed(reason="diverged", detail="x"), Failed(reason="infeasible", detail="x"), Failed(reason="diverged", detail="at lr 9")]
    for outcome in outcomes:
        assert tell(store, claim_one(store, searches).lease, outcome=outcome)
    ended = study_of(store, study)
    assert (ended.state, ended.reason) == (
        StudyState.COMPLETE, "there is no result: all 3 trials failed: 2 diverged, 1 infeasible; the last: at lr 9",
    )  # fmt: skip
    (last,) = (event for event in store.read(queries.events_after, study.id, 0) if event.kind == "study_completed")
    assert last.body["reason"] == ended.reason


def test_a_study_whose_trials_were_all_pruned_says_so(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 2})
    for _ in range(2):
        assert tell(store, claim_one(store, searches).lease, outcome=Pruned("0.1 is below the median"))
    assert study_of(store, study).reason == "there is no result: all 2 trials were pruned; the last: 0.1 is below the median"


def test_a_study_whose_trials_ended_in_several_ways_counts_them(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 3})
    assert tell(store, claim_one(store, searches).lease, outcome=Pruned("low"))
    assert tell(store, claim_one(store, searches).lease, outcome=BROKEN)
    operations.cancel_trial(store, study.id, claim_one(store, searches).lease.number)
    assert (
        study_of(store, study).reason
        == "there is no result: none of 3 trials is complete: 1 cancelled, 1 failed (1 script_error), 1 pruned"
    )


def test_a_study_with_a_result_gives_no_reason(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 2})
    assert tell(store, claim_one(store, searches).lease, outcome=Pruned("low"))
    finish(store, claim_one(store, searches))
    ended = study_of(store, study)
    assert (ended.state, ended.reason) == (StudyState.COMPLETE, None)


# a name that is taken


def test_an_ended_study_gives_its_name_to_another_and_is_kept(store: Store, searches: Searches) -> None:
    old = ready(store, budget={"trials": 1})
    finish(store, claim_one(store, searches))
    with pytest.raises(NameTaken):
        operations.create_study(store, spec_of())
    new = operations.create_study(store, spec_of(), replace_ended=True)
    assert store.read(queries.find_study, "pets").id == new.id
    kept = study_of(store, old)
    assert (kept.name, kept.state, trial_of(store, old, 0).state) == ("pets~1", StudyState.COMPLETE, TrialState.COMPLETE)
    assert kinds_of(store, old)[-1] == "study_renamed"
    operations.stop_study(store, new.id)
    operations.create_study(store, spec_of(), replace_ended=True)
    assert study_of(store, new).name == "pets~2"


@pytest.mark.parametrize("turn", [None, operations.pause_study])
def test_a_study_that_has_not_ended_keeps_its_name(store: Store, study: Study, turn: Any) -> None:
    if turn is not None:
        turn(store, study.id)
    with pytest.raises(NameTaken, match="stop it first"):
        operations.create_study(store, spec_of(), replace_ended=True)


def test_a_deleted_study_is_not_resumed(store: Store, study: Study) -> None:
    operations.fail_study(store, study.id, "no data")
    operations.delete_study(store, study.id)
    writes: tuple[Callable[[Store, str], Study], ...] = (
        operations.resume_study,
        lambda store, study: operations.extend_study(store, study, more(1)),
    )
    for write in writes:
        with pytest.raises(StudyNotFound):
            write(store, study.id)
