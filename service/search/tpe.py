"""TPE over columns of numbers, with Optuna's Parzen estimators."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr, ndtri

from search_spaces import Scalar
from service.domain.samplers import Tpe
from service.domain.spec import StudySpec
from service.search.base import RandomSearch, StudySampler, Suggestion, generator
from service.search.distributions import Distributions, single_value
from service.search.history import CONSTRAINT, INFEASIBLE, History
from service.search.optuna_private import (
    CategoricalKernels,
    DiscreteTruncLogNormKernels,
    DiscreteTruncNormKernels,
    ParzenEstimator,
    ParzenEstimatorParameters,
    SearchSpaceGroup,
    TruncLogNormKernels,
    TruncNormKernels,
    default_gamma,
    default_weights,
    mixture_of,
)  # fmt: skip

Array = NDArray[np.float64]
Normal = TruncNormKernels | TruncLogNormKernels | DiscreteTruncNormKernels | DiscreteTruncLogNormKernels

OPTUNAS_DEFAULTS = ParzenEstimatorParameters(
    prior_weight=1.0, consider_magic_clip=True, consider_endpoints=False, weights=default_weights, multivariate=True
)
TINY = 1e-300  # lower limit of masses; negligible beside the mass of the prior kernel, which covers the whole range
BLOCK = 16_384  # points times kernels per block: fits a core's cache, and is too small for BLAS to use several threads
MOST_ROWS = 1_024  # points per block; also the most discrete values for which every block has a feature each
MOST_MASSES = 2_000_000  # discrete values times kernels in one table, 16 MB
SAMPLED = 4_096  # points drawn at a time


class Mixture:
    """A mixture of products of kernels: one kernel per observation, and the prior.

    The log density of a product of kernels is linear in simple features of a point (x and x² of a number, the index of a
    category), so the densities of all points under all kernels are one matrix product. The means of the kernels lie inside the
    range, so the tails of the normal distribution are not needed and plain cumulative distributions are accurate enough.
    """

    def __init__(self, observations: Array, space: Mapping[str, BaseDistribution]) -> None:
        columns = {name: observations[:, place] for place, name in enumerate(space)}
        estimator = ParzenEstimator(columns, dict(space), OPTUNAS_DEFAULTS)
        self._weights, self._kernels = mixture_of(estimator)

    def sample(self, random: np.random.Generator, size: int) -> Array:
        """Points, shape (size, parameters)."""
        chosen = np.searchsorted(np.cumsum(self._weights)[:-1], random.random(size), side="right")
        columns = []
        for kernel in self._kernels:
            quantiles = random.random(size)
            pieces = [
                _sampled(kernel, chosen[start : start + SAMPLED], quantiles[start : start + SAMPLED]) for start in range(0, size, SAMPLED)
            ]
            columns.append(np.concatenate(pieces) if pieces else np.empty(0))
        return np.column_stack(columns)

    def log_density(self, points: Array) -> Array:
        """The logarithm of the density at each point, shape (points,)."""
        if points.shape[1] == 1:  # a discrete parameter has few distinct values
            values, places = np.unique(points[:, 0], return_inverse=True)
            return self._log_density(values[:, np.newaxis])[places]
        return self._log_density(points)

    def _log_density(self, points: Array) -> Array:
        """Computes the density in blocks of points, because the (points, kernels) matrix may not fit into memory."""
        parts = [_part(kernel, points[:, place]) for place, kernel in enumerate(self._kernels)]
        offsets = np.log(self._weights) + sum(part.offset for part in parts)  # (kernels,)
        rows = min(MOST_ROWS, max(1, BLOCK // len(offsets)))
        densities = []
        for start in range(0, len(points), rows):
            linear = [part.linear(slice(start, start + rows)) for part in parts]
            features = np.hstack([features for features, _ in linear])  # (rows, features)
            slopes = np.vstack([slopes for _, slopes in linear])  # (features, kernels)
            densities.append(_log_sum_exp(features @ slopes + offsets))
        return np.concatenate(densities) if densities else np.empty(0)


def _log_sum_exp(terms: Array) -> Array:
    top = terms.max(axis=1, keepdims=True)
    # In place: `terms` is the largest array of a suggestion.
    np.exp(np.subtract(terms, top, out=terms), out=terms)
    total: Array = np.log(terms.sum(axis=1)) + top[:, 0]
    return total


def _sampled(kernel: CategoricalKernels | Normal, chosen: NDArray[np.intp], quantiles: Array) -> Array:
    if isinstance(kernel, CategoricalKernels):
        cumulative = np.cumsum(kernel.weights, axis=1)[chosen, :-1]
        index: Array = (cumulative < quantiles[:, np.newaxis]).sum(axis=1, dtype=np.float64)
        return index
    mean, sigma = kernel.mu[chosen], kernel.sigma[chosen]
    low, high = kernel.adapted_low, kernel.adapted_high
    below, within = ndtr((low - mean) / sigma), _mass(mean, sigma, low, high)
    points = np.clip(mean + sigma * ndtri(below + quantiles * within), low, high)
    points = np.exp(points) if kernel.is_log else points
    if kernel.step:
        points = kernel.low + np.round((points - kernel.low) / kernel.step) * kernel.step
    inside: Array = np.clip(points, kernel.low, kernel.high)
    return inside


@dataclass(frozen=True, slots=True)
class _Categories:
    """A kernel over categories, or over the discrete values that occur, as a table of log masses and the table row of each point."""

    table: Array  # (values, kernels)
    rows: NDArray[np.intp]  # (points,)
    offset: Array  # (kernels,)

    def linear(self, block: slice) -> tuple[Array, Array]:
        """Features (rows, values) and slopes (values, kernels) of the block's points; at least for the values that occur in it."""
        if len(self.table) <= MOST_ROWS:
            return _one_hot(self.rows[block], len(self.table)), self.table
        values, places = np.unique(self.rows[block], return_inverse=True)
        return _one_hot(places, len(values)), self.table[values]


@dataclass(frozen=True, slots=True)
class _ManyValues:
    """A discrete kernel with too many values for one table. Log masses are computed block by block."""

    kernel: Normal
    points: Array  # (points,)
    offset: Array

    def linear(self, block: slice) -> tuple[Array, Array]:
        """See `_Categories.linear`."""
        values, places = np.unique(self.points[block], return_inverse=True)
        return _one_hot(places, len(values)), _log_masses(self.kernel, values)


@dataclass(frozen=True, slots=True)
class _Continuous:
    """A continuous kernel: the features are x² and x."""

    features: Array  # (points, 2)
    slopes: Array  # (2, kernels)
    offset: Array

    def linear(self, block: slice) -> tuple[Array, Array]:
        """See `_Categories.linear`."""
        return self.features[block], self.slopes


def _part(kernel: CategoricalKernels | Normal, points: Array) -> _Categories | _ManyValues | _Continuous:
    """The log density of the kernel as a linear function of features of one coordinate of the points."""
    if isinstance(kernel, CategoricalKernels):
        weights = np.log(kernel.weights).T
        return _Categories(weights, points.astype(np.intp), np.zeros(weights.shape[1]))
    within = np.log(_mass(kernel.mu, kernel.sigma, kernel.adapted_low, kernel.adapted_high))
    if kernel.step:
        values, inverse = np.unique(points, return_inverse=True)
        if len(values) * len(within) > MOST_MASSES:
            return _ManyValues(kernel, points, -within)
        return _Categories(_log_masses(kernel, values), inverse, -within)
    centre = (kernel.adapted_low + kernel.adapted_high) / 2  # without it, x² of a narrow range far from 0 loses small differences
    x = (np.log(points) if kernel.is_log else points) - centre
    mean, precision = kernel.mu - centre, kernel.sigma**-2.0
    offset = -0.5 * mean**2 * precision - 0.5 * np.log(2 * np.pi) - np.log(kernel.sigma) - within
    return _Continuous(np.column_stack([x**2, x]), np.vstack([-0.5 * precision, mean * precision]), offset)


def _one_hot(places: NDArray[np.intp], width: int) -> Array:
    features = np.zeros((len(places), width))
    features[np.arange(len(places)), places] = 1.0
    return features


def _log_masses(kernel: Normal, values: Array) -> Array:
    """The logarithm of the mass of each kernel at each discrete value, shape (values, kernels)."""
    edges = (np.log(edge) if kernel.is_log else edge for edge in (values - kernel.step / 2, values + kernel.step / 2))
    left, right = (edge[:, np.newaxis] for edge in edges)
    return np.log(np.maximum(_mass(kernel.mu, kernel.sigma, left, right), TINY))


def _mass(mean: Array, sigma: Array, low: Array | float, high: Array | float) -> Array:
    mass: Array = ndtr((high - mean) / sigma) - ndtr((low - mean) / sigma)
    return mass


TrialRows = NDArray[np.intp]

ABSENT, COMPLETE, PRUNED, HOPELESS, RUNNING = range(5)
STATES = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED, TrialState.RUNNING: RUNNING}


@dataclass(frozen=True, slots=True)
class GoodAndBad:
    """The rows of good trials and of all others, each in ascending order."""

    below: TrialRows
    above: TrialRows


class TrialColumns:
    """Trials as columns; the row of a trial is its number. Inactive parameters are NaN. `sign` turns values into losses."""

    def __init__(self, names: tuple[str, ...], sign: float) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self._sign = sign
        self._values = np.full((64, len(names)), np.nan)
        self._states = np.full(64, ABSENT, dtype=np.int8)
        self._losses = np.full(64, np.nan)
        self._steps = np.zeros(64, dtype=np.int64)
        self.shapes: set[tuple[str, ...]] = set()  # sets of parameters that finished trials had

    @property
    def finished(self) -> int:
        """The number of trials that a model can be fitted to."""
        return int(np.isin(self._states, (COMPLETE, PRUNED, HOPELESS)).sum())

    def put(self, trial: FrozenTrial) -> None:
        """Insert or update the trial."""
        self._grow_to(trial.number)
        state = HOPELESS if trial.system_attrs.get(CONSTRAINT) == INFEASIBLE else STATES.get(trial.state, ABSENT)
        step, value = max(trial.intermediate_values.items(), default=(0, np.inf * self._sign))
        row = trial.number
        self._states[row] = state
        self._steps[row] = step
        self._losses[row] = self._sign * (trial.value if state == COMPLETE and trial.value is not None else value)
        self._values[row] = np.nan
        for name, number in trial.params.items():
            self._values[row, self._places[name]] = number
        if state in (COMPLETE, PRUNED, HOPELESS):
            self.shapes.add(tuple(sorted(trial.params)))

    def split(self, good: int, with_running: bool) -> GoodAndBad:
        """The `good` best trials and the rest: complete trials by loss, then pruned ones by last step, then infeasible ones by number."""
        complete, pruned, hopeless = (self._rows(state) for state in (COMPLETE, PRUNED, HOPELESS))
        complete = complete[np.argsort(self._losses[complete], kind="stable")]
        # lexsort takes the primary key last: the last step in descending order, then the loss.
        pruned = pruned[np.lexsort((self._losses[pruned], -self._steps[pruned]))]
        ranked = np.concatenate([complete, pruned, hopeless])
        running = self._rows(RUNNING) if with_running else ranked[:0]
        return GoodAndBad(np.sort(ranked[:good]), np.sort(np.concatenate([ranked[good:], running])))

    def _rows(self, state: int) -> TrialRows:
        return np.flatnonzero(self._states == state)

    def observations(self, rows: TrialRows, names: Iterable[str]) -> Array:
        """The values of these parameters in the rows that have them all, shape (rows, parameters)."""
        found = self._values[rows][:, [self._places[name] for name in names]]
        complete: Array = found[~np.isnan(found).any(axis=1)]
        return complete

    def _grow_to(self, number: int) -> None:
        if (missing := number + 1 - len(self._states)) > 0:
            more = max(missing, len(self._states))
            self._values = np.concatenate([self._values, np.full((more, len(self._places)), np.nan)])
            self._states = np.concatenate([self._states, np.full(more, ABSENT, dtype=np.int8)])
            self._losses = np.concatenate([self._losses, np.full(more, np.nan)])
            self._steps = np.concatenate([self._steps, np.zeros(more, dtype=np.int64)])


class TpeSearch(StudySampler):
    """Draws candidates from the density of good trials and takes the one with the highest ratio of good to bad density.

    Differs from Optuna's sampler only in how it computes. Trials are kept as columns. A batch is drawn from one pair of
    estimators, with `n_ei_candidates` candidates for each of its trials, and its trials differ from each other as long as
    there are enough distinct candidates. With `constant_liar` running trials count as bad. Pruned trials rank behind complete
    ones, by their last step, and infeasible ones behind all others.
    """

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History, options: Tpe) -> None:
        super().__init__(spec, distributions, history)
        self._options = options
        self._random = RandomSearch(spec, distributions, history)
        self._columns = TrialColumns(tuple(distributions.all), history.sign)

    def learn(self, trial: FrozenTrial) -> None:
        self._columns.put(trial)

    def suggest(self, number: int, count: int) -> list[Suggestion]:
        if self._columns.finished < self._options.n_startup_trials:
            return self._random.suggest(number, count)
        split = self._columns.split(default_gamma(self._columns.finished), self._options.constant_liar)
        random = generator(self.seed, number)
        joint: dict[str, Array] = {}
        for space in self._joint_spaces():
            joint |= self._best(space, split, random, count)
        drawn: list[dict[str, Scalar]] = [{} for _ in range(count)]
        for name, distribution in self.distributions.all.items():
            rows = [row for row in range(count) if self.distributions.active(name, drawn[row])]
            values = joint[name][rows] if name in joint else self._column(name, distribution, split, random, len(rows))
            for row, value in zip(rows, values, strict=True):
                drawn[row][name] = self.distributions.decode(name, value)
        return [Suggestion(params) for params in drawn]

    def _column(self, name: str, distribution: BaseDistribution, split: GoodAndBad, random: np.random.Generator, count: int) -> Array:
        if distribution.single():
            return np.full(count, single_value(distribution))
        return self._best({name: distribution}, split, random, count)[name] if count else np.empty(0)

    def _joint_spaces(self) -> Sequence[dict[str, BaseDistribution]]:
        """The sets of parameters that are sampled jointly."""
        if not self._options.multivariate:
            return ()
        if not self._options.group:
            return (self.distributions.unconditional,) if self.distributions.unconditional else ()
        groups = SearchSpaceGroup()
        for names in sorted(self._columns.shapes):
            groups.add_distributions({name: self.distributions.all[name] for name in names})
        together = (sorted(group) for group in groups.search_spaces)
        spaces = ({name: self.distributions.all[name] for name in names if not self.distributions.all[name].single()} for names in together)
        return [space for space in spaces if space]

    def _best(self, space: Mapping[str, BaseDistribution], split: GoodAndBad, random: np.random.Generator, count: int) -> dict[str, Array]:
        """A column of `count` values for each parameter of the space."""
        good, bad = (Mixture(self._columns.observations(rows, space), space) for rows in (split.below, split.above))
        candidates = good.sample(random, count * self._options.n_ei_candidates)
        gains = good.log_density(candidates) - bad.log_density(candidates)
        chosen = candidates[_pick(candidates, gains.reshape(count, -1), distinct=len(space) > 1)]
        return {name: chosen[:, place] for place, name in enumerate(space)}


def _pick(candidates: Array, gains: Array, distinct: bool) -> NDArray[np.intp]:
    """The index of the best candidate for each row of gains. With `distinct`, the best one that no earlier row took, if any is left."""
    offsets = np.arange(len(gains)) * gains.shape[1]
    if not distinct or len(gains) == 1:
        best: NDArray[np.intp] = offsets + gains.argmax(axis=1)
        return best
    taken: set[bytes] = set()
    picked = []
    for offset, ranks in zip(offsets, np.argsort(-gains, axis=1, kind="stable"), strict=True):
        fresh = (offset + rank for rank in ranks if candidates[offset + rank].tobytes() not in taken)
        picked.append(place := next(fresh, offset + ranks[0]))
        taken.add(candidates[place].tobytes())
    return np.array(picked)
