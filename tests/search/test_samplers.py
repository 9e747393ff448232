"""What is true of every sampler: a suggestion follows from spec, rows and number, however the rows came."""

import json
import math
import random
import subprocess
import sys
from typing import Any

import pytest
from optuna.trial import TrialState as OptunaState

from search_spaces import Params
from service.domain.samplers import CmaEs, Gp, Grid, Nsga2, Qmc, Random, Tpe
from service.domain.states import TrialState
from service.search import samplers
from service.search.distributions import Distributions
from service.search.history import History
from service.search.samplers import TorchMissing
from tests.search.simulation import EXAMPLE, Ending, Simulation, complete, failed, numeric, study_spec, trial_row

STEPPED = EXAMPLE | {
    "lr": {"type": "categorical", "choices": [1.0e-3, 1.0e-2, 1.0e-1]},
    "frozen_layers": {"type": "int", "low": 0, "high": 9, "step": 3},
    "momentum": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.3, "when": {"optimizer": ["sgd", "rmsprop"]}},
}

SAMPLERS = [
    Tpe(n_startup_trials=5),
    Tpe(n_startup_trials=5, multivariate=False, constant_liar=False),
    Tpe(n_startup_trials=5, group=True, multivariate=True),
    Random(),
    Grid(),
    CmaEs(n_startup_trials=3, popsize=4),
    CmaEs(n_startup_trials=3, popsize=4, with_margin=True, sigma0=0.2),
    Qmc(),
    Qmc(qmc_type="halton", scramble=False),
    Nsga2(population_size=5),
]


def named(sampler: Any) -> str:
    return "-".join([sampler.name, *(f"{key}={value}" for key, value in sampler.model_dump(exclude_defaults=True).items())])


def accuracy(params: Params) -> float:
    """Best at lr 10^-2.5 with four frozen layers and adam."""
    distance = abs(math.log10(numeric(params, "lr")) + 2.5) / 4 + abs(numeric(params, "frozen_layers") - 4) / 40
    return 0.95 - distance + 0.02 * (params["optimizer"] == "adam")


def some_ending(params: Params, dice: random.Random) -> Ending:
    value = accuracy(params)
    curve = {step: value * step / 3 for step in (1, 2, 3)}
    return dice.choice(
        [
            *[complete(value, curve)] * 6,
            Ending(TrialState.PRUNED, curve={1: value / 3}),
            failed("out_of_memory"),
            failed("crashed"),
            Ending(TrialState.CANCELLED),
        ]
    )


def played(sampler: Any, trials: int) -> tuple[Simulation, list[Params]]:
    """A study with a baseline, a queued trial, three workers, and results in any order.

    Every suggestion is made twice: by the search that has seen it all, and by one made from the rows, as after a restart.
    """
    sim = Simulation(study_spec(STEPPED if sampler.name == "grid" else EXAMPLE, sampler))
    dice, suggested, running = random.Random(0), list[Params](), [0]  # noqa: S311
    sim.put(trial_row(0, {"lr": 0.01, "batch_size": 32, "optimizer": "adam", "frozen_layers": 3}, source="baseline"))
    for number in range(1, trials + 1):
        if number == 6:
            sim.put(trial_row(6, {"lr": 0.1, "batch_size": 16, "optimizer": "sgd", "frozen_layers": 9, "momentum": 0.9}, source="user"))
        else:
            from_rows = sim.rebuilt().suggest(number)
            assert sim.start() == from_rows
            suggested.append(from_rows[0].params)
        running.append(number)
        if len(running) == 3:
            done = running.pop(dice.randrange(3))
            sim.end(done, some_ending(sim.trials[done].params, dice))
    return sim, suggested


@pytest.mark.parametrize("sampler", SAMPLERS, ids=named)
def test_a_grown_search_and_one_rebuilt_at_each_trial_suggest_the_same(sampler: Any) -> None:
    sim, suggested = played(sampler, trials=40)
    assert all(not list(sim.spec.search_space.faults_of(params)) for params in suggested)


@pytest.mark.parametrize("sampler", [sampler for sampler in SAMPLERS if getattr(sampler, "scramble", True)], ids=named)
def test_another_seed_gives_other_suggestions(sampler: Any) -> None:
    other = sampler.model_copy(update={"seed": 2**53})
    assert played(sampler, trials=12)[1] != played(other, trials=12)[1]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=named)
def test_what_a_sampler_remembers_survives_json(sampler: Any) -> None:
    sim, _ = played(sampler, trials=25)
    for trial in sim.trials.values():
        assert json.loads(json.dumps(trial.memory, allow_nan=False)) == trial.memory
    assert all(len(json.dumps(trial.memory)) < 1_000 for trial in sim.trials.values())


@pytest.mark.parametrize("sampler", [Tpe(n_startup_trials=5), CmaEs(popsize=4), Nsga2(population_size=5), Qmc(), Random()], ids=named)
def test_a_batch_is_a_function_of_the_rows_too_and_leaves_no_trace(sampler: Any) -> None:
    sim, _ = played(sampler, trials=20)
    first = sim.grown.suggest(21, 8)
    assert len(first) == 8
    assert sim.grown.suggest(21, 8) == first == sim.rebuilt().suggest(21, 8)
    assert len({json.dumps(dict(suggestion.params), sort_keys=True) for suggestion in first}) == 8


@pytest.mark.parametrize("sampler", [Random(), Qmc(), Nsga2(population_size=5)], ids=named)
def test_samplers_that_draw_one_by_one_draw_the_same_in_a_batch(sampler: Any) -> None:
    sim, _ = played(sampler, trials=20)
    batch = sim.grown.suggest(21, 4)
    assert [suggestion for _ in range(4) for suggestion in sim.start()] == batch


@pytest.mark.parametrize("sampler", [Tpe(), CmaEs(), Nsga2(population_size=10)], ids=named)
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_samplers_that_learn_find_better_parameters_than_they_began_with(sampler: Any, metric: str) -> None:
    sim = Simulation(study_spec(sampler=sampler, metric=metric))
    sim.run(80, lambda params: complete(accuracy(params) if metric == "accuracy" else 1 - accuracy(params)))
    quality = [accuracy(trial.params) for trial in sim.trials.values()]
    assert sum(quality[-20:]) / 20 > sum(quality[:20]) / 20 + 0.05


def test_the_gaussian_process_is_a_function_of_the_rows_and_learns_from_infeasible_trials() -> None:
    space = {"lr": EXAMPLE["lr"], "optimizer": EXAMPLE["optimizer"], "frozen_layers": EXAMPLE["frozen_layers"]}
    sim = Simulation(study_spec(space, Gp(n_startup_trials=4)))
    for ending in (complete(0.5), failed("out_of_memory"), complete(0.7), complete(0.6)):
        [suggestion] = sim.start()
        sim.end(len(sim.trials) - 1, ending)
    [suggestion] = sim.start()
    assert not list(sim.spec.search_space.faults_of(suggestion.params))
    assert sim.rebuilt().suggest(5) == sim.grown.suggest(5)


def test_where_torch_is_missing_the_gaussian_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(TorchMissing, match=r"thawline\[trainer\]"):
        Simulation(study_spec(sampler=Gp())).grown.suggest(0)


def test_torch_is_not_imported_unless_the_gaussian_process_suggests() -> None:
    code = "import sys, service.search.study; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_gaussian_process_learns_from_a_bounded_number_of_trials_the_best_and_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "MOST_LEARNED", 6)
    spec = study_spec({"lr": {"type": "float", "low": 1e-3, "high": 1.0}}, Gp(n_startup_trials=4))
    distributions = Distributions(spec.search_space)
    search = samplers.GaussianProcess(spec, distributions, History(spec, distributions), Gp(n_startup_trials=4))
    values = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.4, 0.5, 0.6, 0.05]
    rows = [trial_row(number, {"lr": value}, TrialState.COMPLETE, value=value) for number, value in enumerate(values)]
    search.history.absorb(rows, [])
    seen = search.rows(10).get_all_trials(0, states=(OptunaState.COMPLETE,))
    assert [trial.number for trial in seen] == [0, 2, 4, 7, 8, 9]
