"""Parzen estimators as Optuna builds them, sampled and evaluated for many points at once."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters
from optuna.samplers._tpe.probability_distributions import (
    _BatchedCategoricalDistributions,
    _BatchedDiscreteTruncLogNormDistributions,
    _BatchedDiscreteTruncNormDistributions,
    _BatchedTruncLogNormDistributions,
    _BatchedTruncNormDistributions,
)
from optuna.samplers._tpe.sampler import default_weights
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]
Normal = (
    _BatchedTruncNormDistributions
    | _BatchedTruncLogNormDistributions
    | _BatchedDiscreteTruncNormDistributions
    | _BatchedDiscreteTruncLogNormDistributions
)

OPTUNAS_DEFAULTS = _ParzenEstimatorParameters(
    prior_weight=1.0, consider_magic_clip=True, consider_endpoints=False, weights=default_weights, multivariate=True
)
TINY = 1e-300  # the prior kernel covers the whole range, so a mass below this decides nothing
BLOCK = 16_384  # points times kernels in one go: fits a core's cache, and is too little for BLAS to wake its threads
MOST_ROWS = 1_024  # points in one block, and values of a discrete parameter that have a feature each in every block
MOST_MASSES = 2_000_000  # discrete values times kernels that are held at a time, 16 MB
SAMPLED = 4_096  # points that are drawn in one go


class Mixture:
    """A mixture of products of kernels: one kernel an observation, and the prior.

    The log density of a product of kernels is linear in simple features of a point (x, x², which category), so that the
    densities of all points under all kernels are one matrix product. Kernels' means lie inside the range, so no tail of a
    normal distribution is met and plain cumulative distributions are exact enough.
    """

    def __init__(self, observations: Array, space: Mapping[str, BaseDistribution]) -> None:
        columns = {name: observations[:, place] for place, name in enumerate(space)}
        estimator = _ParzenEstimator(columns, dict(space), OPTUNAS_DEFAULTS)
        self._weights, self._kernels = estimator._mixture_distribution

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
        if points.shape[1] == 1:  # a discrete parameter has few different ones
            values, places = np.unique(points[:, 0], return_inverse=True)
            return self._log_density(values[:, np.newaxis])[places]
        return self._log_density(points)

    def _log_density(self, points: Array) -> Array:
        """A block of points after the other: only what has a size of points or of kernels is held for all of them."""
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
    np.exp(np.subtract(terms, top, out=terms), out=terms)
    total: Array = np.log(terms.sum(axis=1)) + top[:, 0]
    return total


def _sampled(kernel: _BatchedCategoricalDistributions | Normal, chosen: NDArray[np.intp], quantiles: Array) -> Array:
    if isinstance(kernel, _BatchedCategoricalDistributions):
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
    """A kernel over categories, or over the discrete values that occur: a table of log masses, and the row of each point."""

    table: Array  # (values, kernels)
    rows: NDArray[np.intp]  # (points,)
    offset: Array  # (kernels,)

    def linear(self, block: slice) -> tuple[Array, Array]:
        """Features (rows, values) and slopes (values, kernels) of the block's points, for the values that occur in it."""
        if len(self.table) <= MOST_ROWS:
            return _one_hot(self.rows[block], len(self.table)), self.table
        values, places = np.unique(self.rows[block], return_inverse=True)
        return _one_hot(places, len(values)), self.table[values]


@dataclass(frozen=True, slots=True)
class _ManyValues:
    """A discrete kernel over so many values that their log masses are computed for the values of each block alone."""

    kernel: Normal
    points: Array  # (points,)
    offset: Array

    def linear(self, block: slice) -> tuple[Array, Array]:
        """As of `_Categories`."""
        values, places = np.unique(self.points[block], return_inverse=True)
        return _one_hot(places, len(values)), _log_masses(self.kernel, values)


@dataclass(frozen=True, slots=True)
class _Continuous:
    """A continuous kernel: the features are x² and x."""

    features: Array  # (points, 2)
    slopes: Array  # (2, kernels)
    offset: Array

    def linear(self, block: slice) -> tuple[Array, Array]:
        """As of `_Categories`."""
        return self.features[block], self.slopes


def _part(kernel: _BatchedCategoricalDistributions | Normal, points: Array) -> _Categories | _ManyValues | _Continuous:
    """How the log density of the kernel depends on one coordinate of the points."""
    if isinstance(kernel, _BatchedCategoricalDistributions):
        weights = np.log(kernel.weights).T
        return _Categories(weights, points.astype(np.intp), np.zeros(weights.shape[1]))
    within = np.log(_mass(kernel.mu, kernel.sigma, kernel.adapted_low, kernel.adapted_high))
    if kernel.step:
        values, inverse = np.unique(points, return_inverse=True)
        if len(values) * len(within) > MOST_MASSES:
            return _ManyValues(kernel, points, -within)
        return _Categories(_log_masses(kernel, values), inverse, -within)
    centre = (kernel.adapted_low + kernel.adapted_high) / 2  # keeps x² from swallowing small differences
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
