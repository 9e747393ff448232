"""Many trials queued in one request: all of them or none."""

import pytest

from service import operations
from service.domain.errors import BudgetSpent, InvalidInput, StudyClosed
from service.domain.parsing import parse_params_list
from service.domain.records import Study
from service.operations import Idempotency, Replay, Searches
from service.store import Store
from tests.operations.driving import claim_trials, kinds_of, spec_of, study_of, trials_of


def test_each_of_them_is_a_trial_with_a_number_and_an_event(store: Store, study: Study, searches: Searches) -> None:
    claim_trials(store, searches)
    queued = operations.enqueue_trials(store, study.id, [{"lr": 0.25}, {"lr": 0.5}, {"lr": 0.25}])
    assert [(trial.number, trial.params, trial.source) for trial in queued] == [
        (1, {"lr": 0.25}, "user"), (2, {"lr": 0.5}, "user"), (3, {"lr": 0.25}, "user"),
    ]  # fmt: skip
    assert [(trial.id, trial.params) for trial in trials_of(store, study)[1:]] == [(trial.id, trial.params) for trial in queued]
    assert kinds_of(store, study).count("trial_queued") == 3


def test_a_budget_that_has_no_room_for_all_takes_none(store: Store, study: Study) -> None:
    operations.enqueue_trials(store, study.id, [{"lr": 0.5}] * 15)
    with pytest.raises(BudgetSpent):
        operations.enqueue_trials(store, study.id, [{"lr": 0.5}] * 6)
    assert study_of(store, study).created == 15
    assert len(operations.enqueue_trials(store, study.id, [{"lr": 0.5}] * 5)) == 5


def test_a_study_that_has_ended_takes_none(store: Store, study: Study) -> None:
    operations.stop_study(store, study.id)
    with pytest.raises(StudyClosed):
        operations.enqueue_trials(store, study.id, [{"lr": 0.5}])


def test_a_request_that_is_sent_twice_queues_once(store: Store, study: Study) -> None:
    key = Idempotency("k", "0" * 64, lambda _tx, queued: str(len(queued)))
    operations.enqueue_trials(store, study.id, [{"lr": 0.5}] * 3, key)
    with pytest.raises(Replay) as replay:
        operations.enqueue_trials(store, study.id, [{"lr": 0.5}] * 3, key)
    assert replay.value.answer == "3"
    assert study_of(store, study).created == 3


def test_faults_name_the_place_in_the_list_and_all_are_told() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_params_list(spec_of(), [{"lr": 0.5}, {"lr": 7.0}, 3, {}])
    assert [fault.pointer for fault in refused.value.faults] == ["#/trials/1/lr", "#/trials/2", "#/trials/3"]
    assert parse_params_list(spec_of(), [{"lr": 0.5}, {"lr": 0.75}]) == [{"lr": 0.5}, {"lr": 0.75}]


@pytest.mark.parametrize("trials", [None, {}, [], [{"lr": 0.5}] * 1_001])
def test_a_list_has_one_to_a_thousand_trials(trials: object) -> None:
    with pytest.raises(InvalidInput, match="1 to 1000"):
        parse_params_list(spec_of(), trials)
