"""Covariance matrix adaptation (Hansen 2016), with its state computed from the trials of past generations."""

import copy
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from service.domain.samplers import CmaEs
from service.domain.spec import StudySpec
from service.search.base import RandomSearch, StudySampler, Suggestion, Uniform, seed32
from service.search.distributions import Distributions, Number
from service.search.history import CONSTRAINT, INFEASIBLE, History
from service.search.optuna_private import SearchSpaceTransform

if TYPE_CHECKING:
    import cmaes

GENERATION, ADAPTED_TO, POINT = "cma:generation", "cma:told", "cma:point"  # keys of notes that are stored with trials
DEFAULT_SIGMA = 1 / 6  # of each parameter's range

Optimizer: TypeAlias = "cmaes.CMA | cmaes.CMAwM"


class CmaSearch(StudySampler):
    """Adapts a normal distribution over the numeric parameters that every trial has; the others are drawn at random.

    Each trial stores the generation in which it was drawn. The first trial of a generation also stores the numbers of the trials
    that the distribution was last adapted to. From these notes the distribution can be recomputed, whatever has arrived since.
    An infeasible trial counts as the worst of its generation. Pruned and failed trials are ignored and replaced by others.
    """

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History, options: CmaEs) -> None:
        super().__init__(spec, distributions, history)
        self._options = options
        self._random = RandomSearch(spec, distributions, history)
        self._space = {name: each for name, each in distributions.unconditional.items() if not isinstance(each, CategoricalDistribution)}
        self._complete: dict[int, dict[int, FrozenTrial]] = {}  # by generation and number; -1 for trials without one
        self._adapted_to: dict[int, tuple[int, list[int]]] = {}  # by generation: trial with the note, trials that the note lists
        if self._space:
            self._scale = SearchSpaceTransform(self._space, transform_step=not options.with_margin, transform_0_1=True)
            self._adapted = _unadapted(self._space, options, seed32(self.seed, 0))

    def learn(self, trial: FrozenTrial) -> None:
        generation = trial.system_attrs.get(GENERATION, -1)
        numbers = trial.system_attrs.get(ADAPTED_TO)
        # Two trials of a generation may carry a note if they were drawn concurrently. The lowest number wins in any order.
        if numbers is not None and trial.number <= self._adapted_to.get(generation, (trial.number,))[0]:
            self._adapted_to[generation] = trial.number, numbers
        if trial.state is TrialState.COMPLETE:
            self._complete.setdefault(generation, {})[trial.number] = trial

    def suggest(self, number: int, count: int) -> list[Suggestion]:
        if not self._space or sum(map(len, self._complete.values())) < self._options.n_startup_trials:
            return self._random.suggest(number, count)
        while self._adapted.generation + 1 in self._adapted_to:
            self._adapt(self._adapted, self._adapted_to[self._adapted.generation + 1][1])
        # A copy: the next generation becomes definite only when a trial with its note is stored.
        optimizer, notes = copy.deepcopy(self._adapted), dict[str, Any]()
        generation = self._complete.get(optimizer.generation, {})
        if len(generation) >= optimizer.population_size:
            notes[ADAPTED_TO] = sorted(generation)[: optimizer.population_size]
            self._adapt(optimizer, notes[ADAPTED_TO])
        first = self._ask(optimizer, number, notes)
        return [first, *(self._ask(optimizer, each, {}) for each in range(number + 1, number + count))]

    def _adapt(self, optimizer: Optimizer, numbers: list[int]) -> None:
        trials = [self._complete[optimizer.generation][number] for number in numbers]
        optimizer.tell([(self._point(trial), self._loss(trial)) for trial in trials])

    def _point(self, trial: FrozenTrial) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array(trial.system_attrs[POINT]) if POINT in trial.system_attrs else self._scale.transform(trial.params)

    def _loss(self, trial: FrozenTrial) -> float:
        if trial.system_attrs.get(CONSTRAINT) == INFEASIBLE or trial.value is None:
            return math.inf
        return self.history.sign * trial.value

    def _ask(self, optimizer: Optimizer, number: int, notes: dict[str, Any]) -> Suggestion:
        seed = seed32(self.seed, number)
        optimizer.reseed_rng(seed)
        point = optimizer.ask()
        if isinstance(point, tuple):
            point, unrounded = point
            notes = notes | {POINT: unrounded.tolist()}
        adapted: dict[str, Number] = self._scale.untransform(point)
        uniform = Uniform(self.seed, number)
        params = self.distributions.walk(
            lambda name: adapted[name] if name in adapted else uniform.draw(name, self.distributions.all[name]),
        )
        return Suggestion(params, {GENERATION: optimizer.generation, **notes})


def _unadapted(space: dict[str, BaseDistribution], options: CmaEs, seed: int) -> Optimizer:
    """The optimizer before the first generation, on the unit cube."""
    size = len(space)
    shape: dict[str, Any] = {
        "mean": np.full(size, 0.5),
        "sigma": DEFAULT_SIGMA if options.sigma0 is None else options.sigma0,
        "bounds": np.array([[0.0, 1.0]] * size),
        "seed": seed,
        "n_max_resampling": 10 * size,
        "population_size": options.popsize,
    }
    import cmaes  # imported here because it imports scipy.stats, which takes a second

    if options.with_margin:
        return cmaes.CMAwM(steps=np.array([_relative_step(each) for each in space.values()]), **shape)
    return cmaes.CMA(**shape)


def _relative_step(distribution: BaseDistribution) -> float:
    """The step as a share of the range; 0 for a continuous parameter."""
    match distribution:
        case FloatDistribution(log=False, step=float(step), low=low, high=high) | IntDistribution(log=False, step=step, low=low, high=high):
            return float(step / (high - low))
        case _:
            return 0.0
