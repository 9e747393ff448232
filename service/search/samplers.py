"""Grid search, adapters for Optuna's samplers, and the choice of a study's sampler."""

import copy
import importlib.util
import math
from abc import abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, assert_never

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from search_spaces import Scalar
from service.domain.errors import ThawlineError
from service.domain.records import Trial
from service.domain.samplers import CmaEs, Gp, Grid, Nsga2, Qmc, Random, Tpe
from service.domain.spec import StudySpec
from service.domain.states import TrialState
from service.search.base import RandomSearch, StudySampler, Suggestion, Uniform, generator, seed32, without_experimental_warning
from service.search.distributions import Distributions, Number
from service.search.history import CONSTRAINT, INFEASIBLE, STUDY_NOTE, History, StudyRows, running_trial
from service.search.optuna_private import SearchSpaceTransform, make_deterministic, suggest
from service.search.tpe import TpeSearch

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
        if trial.state is OptunaState.COMPLETE:
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


GridPoint = tuple[tuple[str, int], ...]  # the index of each active parameter's value among its values


class GridSearch(StudySampler):
    """All combinations in random order. Combinations that differ only in inactive parameters count as one.

    A point that any trial has is not suggested again, whatever the trial's source and state.
    """

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History) -> None:
        super().__init__(spec, distributions, history)
        points = list(combinations(distributions))
        order = generator(self.seed, 0).permutation(len(points))
        self._left = {point_of(distributions, points[place]): points[place] for place in order}

    def learn(self, trial: FrozenTrial) -> None:
        self._left.pop(tuple((name, _place(self.distributions.all[name], value)) for name, value in trial.params.items()), None)

    def suggest(self, number: int, count: int) -> list[Suggestion]:
        return [Suggestion(params) for params in islice(self._left.values(), count)]


def combinations(distributions: Distributions) -> Iterator[dict[str, Scalar]]:
    names = list(distributions.all)

    def extend(params: dict[str, Scalar], depth: int) -> Iterator[dict[str, Scalar]]:
        if depth == len(names):
            yield params
        elif distributions.active(name := names[depth], params):
            for value in _values(distributions.all[name]):
                yield from extend({**params, name: distributions.decode(name, value)}, depth + 1)
        else:
            yield from extend(params, depth + 1)

    return extend({}, 0)


def point_of(distributions: Distributions, params: dict[str, Scalar]) -> GridPoint:
    return tuple((name, _place(distributions.all[name], value)) for name, value in distributions.encode(params).items())


def _values(distribution: BaseDistribution) -> Iterator[Number]:
    match distribution:
        case CategoricalDistribution(choices=choices):
            yield from range(len(choices))
        case IntDistribution(low=low, high=high, step=step):
            yield from range(low, high + 1, step)
        case FloatDistribution(low=low, high=high, step=None) if low == high:
            yield low
        case FloatDistribution(low=low, high=high, step=float(step)):
            yield from (low + place * step for place in range(round((high - low) / step) + 1))
        case _:
            raise ValueError("a grid needs a space without continuous ranges")


def _place(distribution: BaseDistribution, value: Number) -> int:
    match distribution:
        case CategoricalDistribution():
            return int(value)
        case FloatDistribution(low=low, high=high, step=None) if low == high:
            return 0
        case IntDistribution(low=low, step=step) | FloatDistribution(low=low, step=float(step)):
            return round((value - low) / step)
        case _:
            raise ValueError("a grid needs a space without continuous ranges")


STUDY_NAME = "thawline"
MOST_LEARNED = 500  # complete trials that a Gaussian process is fitted to
MOST_DISTANCES = 4_000_000  # numbers in the pairwise differences of trials in every parameter, 32 MB


class TorchMissing(ThawlineError):
    """The Gaussian process needs torch in the process that suggests parameters."""

    def __init__(self) -> None:
        super().__init__(
            "The sampler gp needs torch in the process that suggests parameters: "
            "install thawline[trainer] there, or choose another sampler."
        )


class OptunaSearch(StudySampler):
    """Adapter for a sampler of Optuna's. A new instance for each suggestion makes the result a function of the history alone.

    Each trial of a batch sees the earlier ones as running.
    """

    kept_notes: ClassVar[str] = "-"  # prefix of the notes that are stored with the trial and that the sampler reads again

    @abstractmethod
    def sampler(self, number: int) -> BaseSampler:
        """The sampler for the trial of that number."""

    def rows(self, number: int) -> StudyRows:
        """The storage that the sampler reads when it suggests the trial of that number."""
        return StudyRows(self.history, STUDY_NAME, running_trial(number))

    def suggest(self, number: int, count: int) -> list[Suggestion]:
        with self.history.supposing() as suppose:
            suggestions = []
            for each in range(number, number + count):
                suggestions.append(suggestion := self._ask(each))
                suppose(each, suggestion.params, suggestion.memory)
            return suggestions

    def _ask(self, number: int) -> Suggestion:
        rows = self.rows(number)
        trial = optuna.Trial(optuna.Study(STUDY_NAME, rows, self.sampler(number), optuna.pruners.NopPruner()), number)
        params = self.distributions.walk(lambda name: suggest(trial, name, self.distributions.all[name]))
        notes = rows.trial_notes | {STUDY_NOTE + key: value for key, value in rows.study_notes.items()}
        return Suggestion(params, {key: note for key, note in notes.items() if key.removeprefix(STUDY_NOTE).startswith(self.kept_notes)})


class GaussianProcess(OptunaSearch):
    """Expected improvement under a Gaussian process. A second process models infeasible trials as a constraint. Ignores pruned trials."""

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History, options: Gp) -> None:
        super().__init__(spec, distributions, history)
        self._options = options

    def sampler(self, number: int) -> BaseSampler:
        """Raises TorchMissing."""
        if importlib.util.find_spec("torch") is None:
            raise TorchMissing
        complete = sum(trial.state is OptunaState.COMPLETE for trial in self.history.trials)
        # Decided here, because Optuna counts only the trials that `rows` returns.
        startup = self._options.n_startup_trials if complete < self._options.n_startup_trials else 0
        return _Gp(self.distributions.unconditional, seed32(self.seed, number), self._options, startup)

    def rows(self, number: int) -> StudyRows:
        width = max(1, len(self.distributions.unconditional))
        return _FewRows(self.history, STUDY_NAME, running_trial(number), min(MOST_LEARNED, math.isqrt(MOST_DISTANCES // width)))


class _FewRows(StudyRows):
    """At most `most` of the complete trials: the newest for one half, the best of the rest for the other.

    A Gaussian process compares all pairs of trials in every parameter, so its memory grows with the square of their number.
    """

    def __init__(self, history: History, name: str, current: FrozenTrial, most: int) -> None:
        super().__init__(history, name, current)
        complete = [trial for trial in history.trials if trial.state is OptunaState.COMPLETE]
        newest, rest = complete[-(most // 2) :], complete[: -(most // 2)]
        ranked = sorted(rest, key=lambda trial: math.inf if trial.value is None else history.sign * trial.value)
        self._left_out = {trial.number for trial in ranked[most - len(newest) :]}

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[OptunaState] | None = None) -> list[FrozenTrial]:
        return [trial for trial in super().get_all_trials(study_id, deepcopy, states) if trial.number not in self._left_out]


class _Gp(GPSampler):
    def __init__(self, space: dict[str, BaseDistribution], seed: int, options: Gp, startup: int) -> None:
        super().__init__(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        make_deterministic(self, options.deterministic_objective)
        self._space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space


class QuasiMonteCarlo(OptunaSearch):
    """A low-discrepancy sequence over all parameters, including conditional ones. Ignores results."""

    kept_notes = "qmc:"

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History, options: Qmc) -> None:
        super().__init__(spec, distributions, history)
        self._options = options
        self._space = {name: each for name, each in distributions.all.items() if not each.single()}

    def sampler(self, number: int) -> BaseSampler:
        seed = seed32(self.seed, 0)
        sampler = without_experimental_warning(
            _Qmc, qmc_type=self._options.qmc_type, scramble=self._options.scramble, seed=seed, warn_independent_sampling=False
        )
        sampler.space = self._space
        return sampler


class _Qmc(QMCSampler):
    space: dict[str, BaseDistribution]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.space


class Nsga(OptunaSearch):
    """Generations of children of the fittest; infeasible trials are dominated by all others. Ignores pruned trials."""

    kept_notes = "_Nsga:"  # Optuna derives the prefix from the type name below

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History, options: Nsga2) -> None:
        super().__init__(spec, distributions, history)
        self._options = options

    def sampler(self, number: int) -> BaseSampler:
        return _Nsga(self.distributions.unconditional, seed32(self.seed, number), self._options)


class _Nsga(NSGAIISampler):
    def __init__(self, space: dict[str, BaseDistribution], seed: int, options: Nsga2) -> None:
        super().__init__(
            population_size=options.population_size,
            mutation_prob=options.mutation_prob,
            crossover_prob=options.crossover_prob,
            swapping_prob=options.swapping_prob,
            seed=seed,
        )
        self._space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space


def sampler_for(spec: StudySpec, distributions: Distributions, history: History) -> StudySampler:
    """The study's sampler."""
    match spec.sampler:
        case Tpe() as options:
            return TpeSearch(spec, distributions, history, options)
        case Random():
            return RandomSearch(spec, distributions, history)
        case Grid():
            return GridSearch(spec, distributions, history)
        case Gp() as options:
            return GaussianProcess(spec, distributions, history, options)
        case CmaEs() as options:
            return CmaSearch(spec, distributions, history, options)
        case Qmc() as options:
            return QuasiMonteCarlo(spec, distributions, history, options)
        case Nsga2() as options:
            return Nsga(spec, distributions, history, options)
        case _:
            assert_never(spec.sampler)


class Untried:
    """The configurations of a finite space, and those that trials have. Like the samplers, a function of the rows alone."""

    def __init__(self, spec: StudySpec, distributions: Distributions) -> None:
        self._space, self._seed = spec.search_space, spec.sampler.seed
        self._distributions = distributions
        self._points: Mapping[GridPoint, Mapping[str, Scalar]] = {point_of(distributions, one): one for one in combinations(distributions)}
        self._tried: dict[int, GridPoint] = {}  # by the trial's number

    def learn(self, trial: Trial) -> None:
        """Insert or update a trial. Cancelled trials and trials that still lack parameters do not count."""
        if trial.state is TrialState.CANCELLED or self._space.missing(trial.params):
            self._tried.pop(trial.number, None)
        else:
            self._tried[trial.number] = point_of(self._distributions, dict(trial.params))

    def without_copies(self, number: int, suggestions: Sequence[Suggestion]) -> list[Suggestion]:
        """The suggestions for the trials from `number` on, with repeated configurations replaced by untried ones.

        Returns fewer, possibly none, when all configurations have been tried.
        """
        tried, found = set(self._tried.values()), list[Suggestion]()
        for each, suggestion in enumerate(suggestions, start=number):
            if (point := point_of(self._distributions, dict(suggestion.params))) in tried:
                if not (left := [one for one in self._points if one not in tried]):
                    break
                point = left[int(generator(self._seed, each).integers(len(left)))]
                memory = {key: note for key, note in suggestion.memory.items() if key != POINT}  # it belongs to the replaced parameters
                suggestion = Suggestion(self._points[point], memory)
            tried.add(point)
            found.append(suggestion)
        return found


def untried_of(spec: StudySpec, distributions: Distributions) -> Untried | None:
    """None for a space that the budget does not cover, and for a grid, which never repeats a configuration."""
    covered = spec.covered_configurations
    return None if covered is None or isinstance(spec.sampler, Grid) else Untried(spec, distributions)
