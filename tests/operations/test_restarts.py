"""A restart changes no suggestion: what a search knows is what the rows say."""

from collections.abc import Callable
from typing import Any

import pytest

from service import operations
from service.domain.records import Claim
from service.operations import Searches
from service.store import Store
from tests.operations.driving import BROKEN, claim_trials, finished, ready, report, tell, trials_of
from trainer.protocol import Failed

CONTINUOUS = {
    "lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
    "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    "frozen_layers": {"type": "int", "low": 0, "high": 9},
    "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd"]}},
}
COUNTABLE = {name: CONTINUOUS[name] for name in ("batch_size", "optimizer", "frozen_layers")}
SAMPLERS: list[dict[str, Any]] = [
    {"name": "tpe", "n_startup_trials": 5},
    {"name": "tpe", "n_startup_trials": 5, "multivariate": True, "group": True},
    {"name": "cmaes", "n_startup_trials": 3, "popsize": 4},
    {"name": "cmaes", "n_startup_trials": 3, "popsize": 4, "with_margin": True},
    {"name": "nsga2", "population_size": 6},
    {"name": "qmc"},
    {"name": "random"},
    {"name": "grid"},
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_study_that_restarts_before_each_claim_tries_the_same_parameters(embedded_store: Store, sampler: dict[str, Any]) -> None:
    space = COUNTABLE if sampler["name"] == "grid" else CONTINUOUS
    steady = Searches()
    without_a_restart = played(embedded_store, "steady", space, sampler, lambda: steady)
    assert len(without_a_restart) == 25
    assert played(embedded_store, "restarted", space, sampler, Searches) == without_a_restart


def played(store: Store, name: str, space: dict[str, Any], sampler: dict[str, Any], searches: Callable[[], Searches]) -> list[Any]:
    """What the trials of a study were, each ended before the one after the next begins."""
    study = ready(store, name=name, search_space=space, sampler={**sampler, "seed": 7}, budget={"trials": 25})
    before: Claim | None = None
    while claims := claim_trials(store, searches()):
        if before is not None:
            end(store, before)
        before = claims[0]
    if before is not None:
        end(store, before)
    return [(trial.params, trial.memory, trial.state, trial.value) for trial in trials_of(store, study)]


def end(store: Store, claim: Claim) -> None:
    """Every kind of end, chosen by the trial's number; its value is a smooth function of its parameters."""
    value = 1 / (1 + abs(claim.params["frozen_layers"] - 4) + float(claim.params.get("momentum", 0.5)))  # type: ignore[arg-type,operator]
    match claim.lease.number % 6:
        case 2:
            outcome: Any = operations.Pruned("behind")
        case 3:
            outcome = Failed(reason="out_of_memory", detail="")
        case 4:
            outcome = BROKEN
        case _:
            outcome = finished(value)
    assert tell(store, claim.lease, reports=[report(1, value / 2)], outcome=outcome)
