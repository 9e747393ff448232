"""Randomness for one suggestion: it follows from the study's seed and the trial's number, and from nothing else."""

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler

from service.search.distributions import Number


def generator(seed: int, number: int) -> np.random.Generator:
    """A fresh generator for the trial of that number."""
    return np.random.default_rng((seed, number))


def seed32(seed: int, number: int) -> int:
    """The same as a number below 2^32, for libraries that want one."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


class Uniform:
    """Optuna's random sampler for one trial: uniform in each parameter's own scale."""

    def __init__(self, seed: int, number: int) -> None:
        self._sampler = RandomSampler(seed=seed32(seed, number))

    def draw(self, name: str, distribution: BaseDistribution) -> Number:
        """A value inside the distribution."""
        value: Number = self._sampler.sample_independent(None, None, name, distribution)  # type: ignore[arg-type]  # it looks at neither
        return value
