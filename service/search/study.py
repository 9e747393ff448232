"""Sampler and pruner of one study, computed from its trials."""

from collections.abc import Iterable, Mapping

from search_spaces import Params, Scalar
from service.domain.records import Trial
from service.domain.spec import StudySpec
from service.search.base import Decision, Suggestion, Uniform
from service.search.distributions import Distributions
from service.search.history import History
from service.search.pruners import Pruning, decision_steps
from service.search.samplers import POINT, sampler_for, untried_of

__all__ = ["Decision", "StudySearch", "Suggestion", "decision_steps"]


class StudySearch:
    """Suggestions and pruning decisions as a pure function of the study's rows.

    An instance that absorbed the rows step by step equals one that absorbed them all at once. Not thread-safe: use one
    instance per thread, or hold a lock.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.seq = 0  # the changes of all events up to this one are absorbed
        distributions = self._distributions = Distributions(spec.search_space)
        self._history = History(spec, distributions)
        self._sampler = sampler_for(spec, distributions, self._history)
        self._pruning = Pruning(spec, self._history)
        self._untried = untried_of(spec, distributions)

    def absorb(self, seq: int, trials: Iterable[Trial], values: Iterable[tuple[int, int, float]]) -> None:
        """Update the state with all changes up to event `seq`.

        `trials` are the changed trials in their current state, `values` (number, step, objective value) of all their reports.
        The cost of a call is proportional to the number of rows. Absorbing a row again has no effect.
        """
        known = list(trials)
        for trial in self._history.absorb(known, values):
            self._sampler.learn(trial)
        if self._untried is not None:
            for one in known:
                self._untried.learn(one)
        self.seq = seq

    def suggest(self, number: int, count: int = 1) -> list[Suggestion]:
        """Parameters for the trials `number`, `number + 1`, …; a function of spec, history and number only.

        Returns fewer than `count`, possibly none, when a grid is exhausted, or when the budget covers the whole space and all
        configurations have been tried. With tpe, one call for several trials differs from as many single calls: all its trials are
        drawn from one posterior. Raises TorchMissing when the sampler is `gp` and torch is not installed.
        """
        suggestions = self._sampler.suggest(number, count)
        return suggestions if self._untried is None else self._untried.without_copies(number, suggestions)

    def complete(self, number: int, given: Params) -> Suggestion:
        """Complete the given parameters of a queued trial with suggestions of the sampler. Conditions hold.

        A parameter that only the given values make active, and that the suggestion lacks, is drawn at random.
        """
        with self._history.without(number):
            suggested = self._sampler.suggest(number, 1)
        suggestion = suggested[0] if suggested else Suggestion({})
        uniform = Uniform(self.spec.sampler.seed, number)
        params: dict[str, Scalar] = {}
        for name, distribution in self._distributions.all.items():
            if not self._distributions.active(name, params):
                continue
            known = given if name in given else suggestion.params
            params[name] = known[name] if name in known else self._distributions.decode(name, uniform.draw(name, distribution))
        return Suggestion(params, {key: note for key, note in suggestion.memory.items() if key != POINT})

    def decide_all(self, curves: Mapping[int, Mapping[int, float]]) -> dict[int, Decision]:
        """Pruning decisions by trial number. `curves` holds the objective of each trial by step, the newest step last.

        Each decision takes the curves of all these trials into account, so their order does not matter.
        """
        return self._pruning.decide_all(curves)
