"""Trials that a person queues with some of their parameters; the sampler gives the others when they are claimed."""

from typing import Any

import pytest

from service import operations
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_params
from service.domain.states import StudyState, TrialState
from service.operations import Searches
from service.store import Store, queries
from tests.operations.driving import FACTS, claim_one, claim_trials, finish, kinds_of, ready, study_of, trial_of, trials_of
from tests.operations.test_machine import HEADS_ALONE, LANE_BYTES

SPACE: dict[str, Any] = {
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    "lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
    "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": ["sgd"]}},
    "beta1": {"type": "float", "low": 0.5, "high": 0.9, "when": {"optimizer": ["adam"]}},
}


@pytest.mark.parametrize(
    "given", [{"optimizer": "sgd"}, {"optimizer": "adam", "lr": 0.5}, {"lr": 0.25}, {"optimizer": "sgd", "momentum": 0.5}]
)
def test_the_sampler_gives_what_is_left_out(store: Store, given: dict[str, Any]) -> None:
    study, searches = ready(store, search_space=SPACE), Searches()
    queued = operations.queue_trial(store, study.id, parse_params(study.spec, given))
    assert (queued.state, queued.params) == (TrialState.QUEUED, given)
    claim = claim_one(store, searches)
    assert claim.lease.number == 0 and claim.params.items() >= given.items()
    assert list(study.spec.search_space.faults_of(claim.params)) == []
    stored = trial_of(store, study, 0)
    assert (stored.params, stored.source) == (claim.params, "user")
    finish(store, claim)
    assert claim_one(store, searches).lease.number == 1


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes", "nsga2"])
def test_every_sampler_completes_a_trial(embedded_store: Store, sampler: str) -> None:
    """After some trials, so that samplers that learn have begun to."""
    options = {"n_startup_trials": 2} if sampler == "tpe" else {}
    study, searches = ready(embedded_store, search_space=SPACE, sampler={"name": sampler, **options}), Searches()
    for value in range(5):
        finish(embedded_store, claim_one(embedded_store, searches), value / 10)
    operations.queue_trial(embedded_store, study.id, {"optimizer": "adam", "beta1": 0.75})
    params = claim_one(embedded_store, searches).params
    assert (params["optimizer"], params["beta1"]) == ("adam", 0.75) and set(params) == {"optimizer", "lr", "beta1"}
    claims = claim_trials(embedded_store, searches, limit=3)
    assert [claim.lease.number for claim in claims] == [6, 7, 8], "the search goes on"


def test_what_the_sampler_gives_follows_from_the_rows_alone(embedded_store: Store) -> None:
    completed = []
    for name in ("one", "two"):
        study = ready(embedded_store, name=name, search_space=SPACE)
        operations.queue_trial(embedded_store, study.id, {"lr": 0.25})
        operations.queue_trial(embedded_store, study.id, {"optimizer": "sgd"})
        searches = Searches()
        for _ in range(2):
            completed.append(dict(claim_one(embedded_store, searches).params))
        operations.stop_study(embedded_store, study.id)
    assert completed[:2] == completed[2:]


def test_a_completed_trial_that_repeats_another_is_answered_by_it(store: Store) -> None:
    space = {"optimizer": {"type": "categorical", "choices": ["sgd"]}, "epochs": {"type": "int", "low": 1, "high": 2}}
    study, searches = ready(store, search_space=space, budget={"trials": 10}), Searches()
    operations.queue_trial(store, study.id, {"optimizer": "sgd", "epochs": 2})
    first = claim_one(store, searches)
    operations.queue_trial(store, study.id, {"epochs": 2})
    assert [claim.lease.number for claim in claim_trials(store, searches)] != [1]
    waiting = trial_of(store, study, 1)
    assert (waiting.state, waiting.duplicate_of, waiting.params) == (TrialState.QUEUED, 0, {"optimizer": "sgd", "epochs": 2})
    finish(store, first, 0.75)
    answered = trial_of(store, study, 1)
    assert (answered.state, answered.value, answered.source) == (TrialState.COMPLETE, 0.75, "user")
    operations.queue_trial(store, study.id, {"epochs": 2})
    claim_trials(store, searches)
    last = trials_of(store, study)[-1] if study_of(store, study).state is StudyState.ACTIVE else trial_of(store, study, 3)
    assert last.attempt == 0 and last.duplicate_of == 0 and last.value == 0.75


def test_a_trial_that_lacks_parameters_trains_apart_from_a_pass(store: Store) -> None:
    study, searches = ready(store, **HEADS_ALONE), Searches()
    operations.queue_trial(store, study.id, {"lr": 0.5})
    operations.queue_trial(store, study.id, {"lr": 0.25, "batch_size": 8})
    (alone,) = operations.claim_together(store, searches, "w", LANE_BYTES)
    assert alone.lease.number == 0 and set(alone.params) == {"lr", "batch_size"} and alone.params["lr"] == 0.5
    assert 1 in [claim.lease.number for claim in operations.claim_together(store, searches, "w", LANE_BYTES)]


def test_an_event_names_the_whole_parameters_when_the_trial_starts(embedded_store: Store) -> None:
    study = ready(embedded_store, search_space=SPACE)
    operations.queue_trial(embedded_store, study.id, {"optimizer": "sgd"})
    claim = claim_one(embedded_store, Searches())
    assert kinds_of(embedded_store, study)[-2:] == ["trial_queued", "trial_started"]
    (started,) = (one for one in embedded_store.read(queries.events_after, study.id, 0) if one.kind == "trial_started")
    assert started.body["params"] == claim.params


def test_a_waiting_trial_that_lacks_parameters_does_not_stop_the_search_nor_a_resumed_study(store: Store) -> None:
    study, searches = ready(store, search_space=SPACE), Searches()
    operations.queue_trial(store, study.id, {"optimizer": "sgd"})
    operations.fail_study(store, study.id, "the folder has gone")
    operations.resume_study(store, study.id)
    operations.pass_check(store, study.id, FACTS)
    assert claim_one(store, searches).params["optimizer"] == "sgd"


@pytest.mark.parametrize(
    ("given", "pointer", "words"),
    [
        ({"momentum": 0.5}, "#/params/momentum", "give optimizer too, or leave this to the sampler"),
        ({"optimizer": "adam", "momentum": 0.5}, "#/params/momentum", "condition does not hold"),
        ({"lr": 2.0}, "#/params/lr", ""),
        ({"lr": 0.5, "dropout": 0.5}, "#/params/dropout", ""),
        ({}, "#/params", "give at least one parameter"),
    ],
)
def test_what_cannot_be_completed_names_its_field(embedded_store: Store, given: dict[str, Any], pointer: str, words: str) -> None:
    study = ready(embedded_store, search_space=SPACE)
    with pytest.raises(InvalidInput) as caught:
        parse_params(study.spec, given)
    (fault,) = caught.value.faults
    assert fault.pointer == pointer and words in fault.message
