"""Parzen estimators as Optuna builds them, sampled and evaluated for many points at once."""

from collections.abc import Mapping

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
        columns = [_sampled(kernel, chosen, random.random(size)) for kernel in self._kernels]
        return np.column_stack(columns)

    def log_density(self, points: Array) -> Array:
        """The logarithm of the density at each point, shape (points,)."""
        if points.shape[1] == 1:  # a discrete parameter has few different ones
            values, places = np.unique(points[:, 0], return_inverse=True)
            return self._log_density(values[:, np.newaxis])[places]
        return self._log_density(points)

    def _log_density(self, points: Array) -> Array:
        parts = [_log_linear(kernel, points[:, place]) for place, kernel in enumerate(self._kernels)]
        features = np.hstack([part[0] for part in parts])  # (points, features)
        slopes = np.vstack([part[1] for part in parts])  # (features, kernels)
        offsets = np.log(self._weights) + sum(part[2] for part in parts)  # (kernels,)
        rows = max(1, BLOCK // len(offsets))
        return np.concatenate([_log_sum_exp(features[start : start + rows] @ slopes + offsets) for start in range(0, len(points), rows)])


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


def _log_linear(kernel: _BatchedCategoricalDistributions | Normal, points: Array) -> tuple[Array, Array, Array]:
    """The features of the points, and for each kernel their slopes and its offset."""
    if isinstance(kernel, _BatchedCategoricalDistributions):
        weights = np.log(kernel.weights).T
        return np.eye(len(weights))[points.astype(np.intp)], weights, np.zeros(weights.shape[1])
    within = np.log(_mass(kernel.mu, kernel.sigma, kernel.adapted_low, kernel.adapted_high))
    if kernel.step:
        values, inverse = np.unique(points, return_inverse=True)
        edges = (np.log(edge) if kernel.is_log else edge for edge in (values - kernel.step / 2, values + kernel.step / 2))
        left, right = (edge[:, np.newaxis] for edge in edges)
        mass = np.log(np.maximum(_mass(kernel.mu, kernel.sigma, left, right), TINY))
        return np.eye(len(values))[inverse], mass, -within
    centre = (kernel.adapted_low + kernel.adapted_high) / 2  # keeps x² from swallowing small differences
    x = (np.log(points) if kernel.is_log else points) - centre
    mean, precision = kernel.mu - centre, kernel.sigma**-2.0
    offset = -0.5 * mean**2 * precision - 0.5 * np.log(2 * np.pi) - np.log(kernel.sigma) - within
    return np.column_stack([x**2, x]), np.vstack([-0.5 * precision, mean * precision]), offset


def _mass(mean: Array, sigma: Array, low: Array | float, high: Array | float) -> Array:
    mass: Array = ndtr((high - mean) / sigma) - ndtr((low - mean) / sigma)
    return mass
