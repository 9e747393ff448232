"""TPE: what it shares with Optuna's, and what infeasible, running and batched trials do to it."""

import math
import random
import tracemalloc
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.samplers._tpe.sampler import _split_trials

from search_spaces import Params, SearchSpace
from service.domain.samplers import MOST_CANDIDATES, Tpe
from service.domain.states import TrialState
from service.search import tpe
from service.search.distributions import Distributions
from service.search.history import History
from service.search.optuna_private import ParzenEstimator
from service.search.tpe import OPTUNAS_DEFAULTS, Mixture, TrialColumns
from tests.search.simulation import EXAMPLE, Ending, Simulation, complete, failed, numeric, study_spec, trial_row
from trainer.protocol import FailureReason

EVERY_KIND = {
    "log": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
    "linear": {"type": "float", "low": -3.0, "high": 1e4},
    "stepped": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.1},
    "whole": {"type": "int", "low": 0, "high": 9},
    "whole_log": {"type": "int", "low": 1, "high": 512, "log": True},
    "category": {"type": "categorical", "choices": ["a", "b", "c"]},
}


@pytest.mark.parametrize("observed", [0, 1, 3, 200])
def test_the_density_is_that_of_optunas_estimator(observed: int) -> None:
    space = Distributions(SearchSpace.model_validate(EVERY_KIND)).all
    prior = Mixture(np.empty((0, len(space))), space)
    observations, points = (prior.sample(np.random.default_rng(seed), size) for seed, size in ((1, observed), (2, 500)))
    theirs = ParzenEstimator({name: observations[:, place] for place, name in enumerate(space)}, space, OPTUNAS_DEFAULTS)
    expected = theirs.log_pdf({name: points[:, place] for place, name in enumerate(space)})
    np.testing.assert_allclose(Mixture(observations, space).log_density(points), expected, rtol=1e-8, atol=1e-8)


def test_samples_are_distributed_as_optunas_are() -> None:
    space = Distributions(SearchSpace.model_validate(EVERY_KIND)).all
    observations = Mixture(np.empty((0, len(space))), space).sample(np.random.default_rng(1), 8)
    columns = {name: observations[:, place] for place, name in enumerate(space)}
    theirs = ParzenEstimator(columns, space, OPTUNAS_DEFAULTS).sample(np.random.RandomState(3), 20_000)
    ours = Mixture(observations, space).sample(np.random.default_rng(4), 20_000)
    for place, name in enumerate(space):
        edges = np.unique(np.quantile(theirs[name], np.linspace(0.05, 0.95, 10)))
        mine, optunas = (np.searchsorted(np.sort(sample), edges, side="right") / 20_000 for sample in (ours[:, place], theirs[name]))
        np.testing.assert_allclose(mine, optunas, atol=0.02, err_msg=name)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_good_and_bad_trials_are_parted_as_optuna_parts_them(metric: str) -> None:
    spec, dice = study_spec(metric=metric), random.Random(5)  # noqa: S311
    history = History(spec, Distributions(spec.search_space))
    columns = TrialColumns(tuple(spec.search_space.parameters), history.sign)
    endings: list[Callable[[], Ending]] = [
        lambda: complete(dice.choice([0.1, 0.2, 0.3])),
        lambda: Ending(TrialState.PRUNED, curve={dice.randint(1, 3): dice.random()}),
        lambda: failed("diverged"),
        lambda: failed("crashed"),
        lambda: Ending(TrialState.RUNNING),
    ]
    for number in range(60):
        ending = dice.choice(endings)()
        params: Params = {"lr": 0.01, "batch_size": 32, "optimizer": "adam", "frozen_layers": 3}
        row = trial_row(number, params, ending.state, value=ending.value, reason=ending.reason, step=max(ending.curve, default=0))
        for changed in history.absorb([row], [(number, step, value) for step, value in ending.curve.items()]):
            columns.put(changed)
    study = optuna.create_study(direction=spec.objective.direction)
    finished = [trial for trial in history.trials if trial.state is not optuna.trial.TrialState.FAIL]
    for good in range(61):
        below, above = _split_trials(study, finished, good)
        split = columns.split(good, with_running=True)
        assert split.below.tolist() == [trial.number for trial in below]
        assert split.above.tolist() == [trial.number for trial in above]


def share_out_of_memory(reason: FailureReason) -> tuple[float, float]:
    """The share of trials that ran out of memory among the first and the last 30 of 60, when that is what they are told as."""
    space = EXAMPLE | {"batch_size": {"type": "categorical", "choices": [16, 32, 64, 128, 256, 512]}}

    def objective(params: Params) -> Ending:
        if numeric(params, "batch_size") > 64:
            return failed(reason)
        return complete(0.9 - abs(math.log10(numeric(params, "lr")) + 2.5) / 5)

    shares = []
    for seed in range(5):
        sim = Simulation(study_spec(space, Tpe(seed=seed)))
        sim.run(60, objective)
        shares.append([trial.state is TrialState.FAILED for trial in sim.trials.values()])
    return float(np.mean([share[:30] for share in shares])), float(np.mean([share[30:] for share in shares]))


def test_trials_that_run_out_of_memory_teach_the_sampler_to_avoid_them_and_silence_does_not() -> None:
    first, last = share_out_of_memory("out_of_memory")
    _, last_in_silence = share_out_of_memory("crashed")
    assert last < 0.7 * first < 0.25
    assert last < 0.5 * last_in_silence


def test_a_running_trial_is_not_suggested_again_next_door() -> None:
    sim = Simulation(study_spec({"lr": {"type": "float", "low": 0.0, "high": 1.0}}, metric="loss"))
    sim.run(60, lambda params: complete(abs(numeric(params, "lr") - 0.5)))
    alone = numeric(sim.grown.suggest(len(sim.trials))[0].params, "lr")
    for _ in range(30):
        sim.put(trial_row(len(sim.trials), {"lr": alone}))
    crowded = [numeric(sim.grown.suggest(number)[0].params, "lr") for number in range(len(sim.trials), len(sim.trials) + 10)]
    assert min(abs(lr - alone) for lr in crowded) > 1e-3


def test_a_batch_is_spread_and_learns() -> None:
    sim = Simulation(study_spec({"lr": EXAMPLE["lr"], "frozen_layers": EXAMPLE["frozen_layers"]}))

    def accuracy(params: Params) -> float:
        return 0.9 - abs(math.log10(numeric(params, "lr")) + 2.5) / 5

    for _ in range(5):
        sim.start(16)
        for number in range(len(sim.trials) - 16, len(sim.trials)):
            sim.end(number, complete(accuracy(sim.trials[number].params)))
    exponents = [math.log10(numeric(suggestion.params, "lr")) for suggestion in sim.grown.suggest(80, 16)]
    assert np.std(exponents) > 0.1
    assert np.mean([abs(exponent + 2.5) for exponent in exponents]) < 0.8


def test_in_a_small_space_a_batch_repeats_itself_only_when_it_must() -> None:
    space = {
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
        "frozen_layers": {"type": "int", "low": 0, "high": 4},
    }
    sim = Simulation(study_spec(space, Tpe(n_startup_trials=5)))
    sim.run(10, lambda params: complete(numeric(params, "frozen_layers")))
    batch = [tuple(suggestion.params.values()) for suggestion in sim.grown.suggest(10, 8)]
    assert len(set(batch)) == 8


def test_a_parameter_with_one_value_and_one_never_seen_are_drawn() -> None:
    space = {
        "epochs": {"type": "int", "low": 3, "high": 3},
        "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
        "momentum": {"type": "float", "low": 0.5, "high": 0.9, "when": {"optimizer": ["sgd"]}},
    }
    sim = Simulation(study_spec(space, Tpe(n_startup_trials=2)))
    for number in range(12):
        sim.put(trial_row(number, {"epochs": 3, "optimizer": "adam"}, TrialState.COMPLETE, value=0.5))
    suggestions = [suggestion.params for number in range(12, 15) for suggestion in sim.grown.suggest(number, 16)]
    assert not [fault for params in suggestions for fault in sim.spec.search_space.faults_of(params)]
    assert any("momentum" in params for params in suggestions)


SPACE = {
    "lr": optuna.distributions.FloatDistribution(1e-5, 0.1, log=True),
    "lr_step_epochs": optuna.distributions.IntDistribution(1, 100_000),
    "batch_size": optuna.distributions.CategoricalDistribution((16, 32, 64)),
}


def mixture_of(observed: int) -> Mixture:
    """A mixture over so many observations of SPACE."""
    random = np.random.default_rng(0)
    columns = [np.exp(random.uniform(-9, -3, observed)), random.integers(1, 100_000, observed), random.integers(0, 3, observed)]
    return Mixture(np.column_stack(columns).astype(float), SPACE)


def test_the_most_candidates_of_a_large_batch_take_little_memory() -> None:
    mixture = mixture_of(15)
    tracemalloc.start()
    points = mixture.sample(np.random.default_rng(0), 32 * MOST_CANDIDATES)
    mixture.log_density(points)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # a feature for each different value of each point would have taken 8 GB


def test_densities_do_not_depend_on_how_the_points_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    points = mixture_of(40).sample(np.random.default_rng(0), 3_000)
    whole = mixture_of(40).log_density(points)
    monkeypatch.setattr(tpe, "MOST_MASSES", 0)
    monkeypatch.setattr(tpe, "MOST_ROWS", 7)
    assert np.allclose(mixture_of(40).log_density(points), whole, rtol=1e-13)
    monkeypatch.setattr(tpe, "SAMPLED", 11)
    assert np.array_equal(mixture_of(40).sample(np.random.default_rng(0), 3_000), points)
