"""What every sampler is: it learns of trials as they change, and suggests the next ones."""

from abc import ABC, abstractmethod

from optuna.trial import FrozenTrial

from service.domain.spec import StudySpec
from service.search.answers import Suggestion
from service.search.distributions import Distributions
from service.search.history import History
from service.search.seeds import Uniform


class Sampler(ABC):
    """One study's sampler. What it keeps between calls is only what it could work out again from the history."""

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History) -> None:
        self.seed = spec.sampler.seed
        self.distributions = distributions
        self.history = history

    def learn(self, trial: FrozenTrial) -> None:  # noqa: B027  (not every sampler keeps something)
        """Take note of a trial that is new or has changed."""

    @abstractmethod
    def suggest(self, number: int, count: int) -> list[Suggestion]:
        """Parameters for the trials `number` … `number + count - 1`; fewer when the sampler has come to its end."""


class RandomSearch(Sampler):
    """Uniform draws, each parameter on its own scale (Bergstra and Bengio 2012)."""

    def suggest(self, number: int, count: int) -> list[Suggestion]:
        return [self.draw(each) for each in range(number, number + count)]

    def draw(self, number: int) -> Suggestion:
        """One random suggestion."""
        uniform = Uniform(self.seed, number)
        return Suggestion(self.distributions.walk(lambda name: uniform.draw(name, self.distributions.all[name])))
