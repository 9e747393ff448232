"""The memory of one study: history in, suggestions and decisions out, equal whether rebuilt or grown."""

from collections.abc import Iterable, Mapping

from service.domain.records import Trial
from service.domain.spec import StudySpec
from service.search.answers import Decision, Suggestion
from service.search.distributions import Distributions
from service.search.history import History
from service.search.pruners import decision_steps
from service.search.pruning import Pruning
from service.search.samplers import sampler_for

__all__ = ["Decision", "StudySearch", "Suggestion", "decision_steps"]


class StudySearch:
    """Optuna as a pure function of our rows. Not thread-safe: one per thread, or under the owner's lock."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.seq = 0  # the rows of all events up to this one are known
        distributions = Distributions(spec.search_space)
        self._history = History(spec, distributions)
        self._sampler = sampler_for(spec, distributions, self._history)
        self._pruning = Pruning(spec, self._history)

    def absorb(self, seq: int, trials: Iterable[Trial], values: Iterable[tuple[int, int, float]]) -> None:
        """Take in what changed until event `seq`: trials as they stand now, and (number, step, objective value) of all their reports.

        Each call costs in proportion to what changed. Rows that are known already do no harm.
        """
        for trial in self._history.absorb(trials, values):
            self._sampler.learn(trial)
        self.seq = seq

    def suggest(self, number: int, count: int = 1) -> list[Suggestion]:
        """Parameters for the trials `number`, `number + 1`, …; a function of spec, history and number only.

        Fewer than `count`, or none, when a grid is exhausted. The trials of one call differ from those of as many single
        calls in tpe: they are drawn from one posterior, as if all were asked at the same moment.
        Raises TorchMissing when the sampler is `gp` and torch is not installed.
        """
        return self._sampler.suggest(number, count)

    def decide(self, number: int, values: Mapping[int, float]) -> Decision:
        """Whether trial `number` goes on, given the objective at each of its steps so far, the newest last."""
        return self._pruning.decide_all({number: values})[number]

    def decide_all(self, curves: Mapping[int, Mapping[int, float]]) -> dict[int, Decision]:
        """The same for many trials by number, each of which knows what all of them have just reported, whatever their order."""
        return self._pruning.decide_all(curves)
