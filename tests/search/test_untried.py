"""A space that the budget covers is tried once, by any sampler, and then it is exhausted."""

from dataclasses import replace
from typing import Any

import pytest

from service import operations
from service.domain.records import Trial
from service.domain.states import StudyState, TrialState
from service.operations import Searches
from service.search.study import StudySearch
from service.store import Store
from tests.operations.driving import claim_one, claim_trials, finish, ready, spec_of, study_of, tell, trials_of
from trainer.protocol import Failed

SAMPLERS = ["tpe", "random", "grid", "qmc", "nsga2", "cmaes"]
PAIR = {"optimizer": {"type": "categorical", "choices": ["sgd", "adam"]}}
CONDITIONAL = PAIR | {"epochs": {"type": "int", "low": 1, "high": 3, "when": {"optimizer": ["sgd"]}}}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("space", "count"), [(PAIR, 2), (CONDITIONAL, 4)], ids=["pair", "conditional"])
def test_a_small_space_ends_after_its_configurations(embedded_store: Store, sampler: str, space: dict[str, Any], count: int) -> None:
    study = ready(embedded_store, search_space=space, sampler={"name": sampler}, budget={"trials": 30})
    searches = Searches()
    for value in range(count):
        finish(embedded_store, claim_one(embedded_store, searches), value / 10)
    assert claim_trials(embedded_store, searches) == []
    assert study_of(embedded_store, study).state is StudyState.COMPLETE
    trials = trials_of(embedded_store, study)
    assert len(trials) == len({str(trial.params) for trial in trials}) == count
    assert all(trial.duplicate_of is None for trial in trials)


def test_a_small_space_ends_so_on_each_database(store: Store) -> None:
    study = ready(store, search_space=PAIR, budget={"trials": 30})
    searches = Searches()
    first = claim_one(store, searches)
    assert tell(store, first.lease, outcome=Failed(reason="infeasible", detail="no"))
    finish(store, claim_one(store, searches))
    assert claim_trials(store, searches) == []
    assert (study_of(store, study).state, len(trials_of(store, study))) == (StudyState.COMPLETE, 2)


def test_a_configuration_whose_trial_was_cancelled_is_tried_again(embedded_store: Store) -> None:
    study = ready(embedded_store, search_space=PAIR, budget={"trials": 30})
    searches = Searches()
    claim = claim_one(embedded_store, searches)
    operations.cancel_trial(embedded_store, study.id, claim.lease.number)
    tried = list[str]()
    for _ in range(2):
        claim = claim_one(embedded_store, searches)
        tried.append(str(claim.params["optimizer"]))
        finish(embedded_store, claim)
    assert sorted(tried) == ["adam", "sgd"]
    assert claim_trials(embedded_store, searches) == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_suggestions_follow_from_the_rows_alone(embedded_store: Store, sampler: str) -> None:
    """A search that grew with its trials and one that was made anew suggest the same."""
    space = PAIR | {"epochs": {"type": "int", "low": 1, "high": 3}}
    study = ready(embedded_store, search_space=space, sampler={"name": sampler}, budget={"trials": 30})
    searches = Searches()
    for value in range(6):
        fresh = StudySearch(study.spec)
        fresh.absorb(0, [], [])
        claim = claim_one(embedded_store, Searches() if value % 2 else searches)
        finish(embedded_store, claim, value / 10)
    assert len({str(trial.params) for trial in trials_of(embedded_store, study)}) == 6


def test_a_space_above_the_budget_is_searched_as_ever() -> None:
    spec = spec_of(search_space=PAIR | {"epochs": {"type": "int", "low": 1, "high": 50}}, budget={"trials": 30}, sampler={"name": "random"})
    assert spec.covered_configurations is None
    assert len(StudySearch(spec).suggest(0, 30)) == 30


def test_a_batch_holds_no_copies(embedded_store: Store) -> None:
    spec = spec_of(search_space=CONDITIONAL, budget={"trials": 30}, sampler={"name": "random"})
    suggested = StudySearch(spec).suggest(0, 10)
    assert len(suggested) == len({str(one.params) for one in suggested}) == 4
    study = ready(embedded_store, search_space=CONDITIONAL, sampler={"name": "random"}, budget={"trials": 30})
    claim = claim_one(embedded_store, Searches())
    trial: Trial = trials_of(embedded_store, study)[0]
    search = StudySearch(study.spec)
    search.absorb(study.seq + 1, [trial], [])
    assert claim.params not in [one.params for one in search.suggest(1, 10)]
    search.absorb(study.seq + 2, [replace(trial, state=TrialState.CANCELLED)], [])
    assert len(search.suggest(1, 10)) == 4
