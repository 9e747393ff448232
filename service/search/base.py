"""Suggestions, pruning decisions, seeds and the sampler interface."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial

from search_spaces import Scalar
from service.domain.pruning import PruningReason
from service.domain.spec import StudySpec
from service.search.distributions import Distributions, Number
from service.search.history import History

Instance = TypeVar("Instance")


def without_experimental_warning(kind: type[Instance], *args: Any, **options: Any) -> Instance:
    """Construct `kind` without the experimental warning that Optuna wraps around its initialiser."""
    # Suppressing the warning with a filter would change the filters of every thread.
    made = kind.__new__(kind)
    inspect.unwrap(kind.__init__)(made, *args, **options)
    return made


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Parameters for a new trial, and the sampler's notes (plain JSON values), which are stored with the trial."""

    params: Mapping[str, Scalar]
    memory: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """A pruning decision, the pruner's notes on the trial, and the evidence if the trial is pruned."""

    go_on: bool
    memory: Mapping[str, Any] = field(default_factory=dict)
    evidence: PruningReason | None = None

    @property
    def why(self) -> str | None:
        """The evidence as a sentence; None for a trial that goes on."""
        return None if self.evidence is None else self.evidence.sentence


def generator(seed: int, number: int) -> np.random.Generator:
    """A new generator for the trial of that number."""
    return np.random.default_rng((seed, number))


def seed32(seed: int, number: int) -> int:
    """A seed below 2^32 for the trial of that number, for libraries that take only such seeds."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


class Uniform:
    """Optuna's random sampler for one trial: uniform in each parameter's own scale."""

    def __init__(self, seed: int, number: int) -> None:
        self._sampler = RandomSampler(seed=seed32(seed, number))

    def draw(self, name: str, distribution: BaseDistribution) -> Number:
        """A value inside the distribution."""
        value: Number = self._sampler.sample_independent(None, None, name, distribution)  # type: ignore[arg-type]  # it reads neither
        return value


class StudySampler(ABC):
    """One study's sampler. Its state can be rebuilt from the history alone."""

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History) -> None:
        self.seed = spec.sampler.seed
        self.distributions = distributions
        self.history = history

    def learn(self, trial: FrozenTrial) -> None:  # noqa: B027  (stateless samplers ignore it)
        """Update the sampler's state with a trial that is new or has changed."""

    @abstractmethod
    def suggest(self, number: int, count: int) -> list[Suggestion]:
        """Parameters for the trials `number` … `number + count - 1`; fewer when the sampler is exhausted."""


class RandomSearch(StudySampler):
    """Uniform draws, each parameter on its own scale (Bergstra and Bengio 2012)."""

    def suggest(self, number: int, count: int) -> list[Suggestion]:
        return [self.draw(each) for each in range(number, number + count)]

    def draw(self, number: int) -> Suggestion:
        """One random suggestion."""
        uniform = Uniform(self.seed, number)
        return Suggestion(self.distributions.walk(lambda name: uniform.draw(name, self.distributions.all[name])))
