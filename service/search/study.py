"""The memory of one study: history in, suggestions and decisions out, equal whether rebuilt or grown."""

from collections.abc import Iterable, Mapping

from search_spaces import Params, Scalar
from service.domain.records import Trial
from service.domain.spec import StudySpec
from service.search.base import Decision, Suggestion, Uniform
from service.search.cma_es import POINT
from service.search.distributions import Distributions
from service.search.history import History
from service.search.pruners import Pruning, decision_steps
from service.search.samplers import sampler_for, untried_of

__all__ = ["Decision", "StudySearch", "Suggestion", "decision_steps"]


class StudySearch:
    """Optuna as a pure function of our rows. Not thread-safe: one per thread, or under the owner's lock."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.seq = 0  # the rows of all events up to this one are known
        distributions = self._distributions = Distributions(spec.search_space)
        self._history = History(spec, distributions)
        self._sampler = sampler_for(spec, distributions, self._history)
        self._pruning = Pruning(spec, self._history)
        self._untried = untried_of(spec, distributions)

    def absorb(self, seq: int, trials: Iterable[Trial], values: Iterable[tuple[int, int, float]]) -> None:
        """Take in what changed until event `seq`: trials as they stand now, and (number, step, objective value) of all their reports.

        Each call costs in proportion to what changed. Rows that are known already do no harm.
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

        Fewer than `count`, or none, when a grid is exhausted, or a space that the budget covers. The trials of one call differ
        from those of as many single calls in tpe: they are drawn from one posterior, as if all were asked at the same moment.
        Raises TorchMissing when the sampler is `gp` and torch is not installed.
        """
        suggestions = self._sampler.suggest(number, count)
        return suggestions if self._untried is None else self._untried.without_copies(number, suggestions)

    def complete(self, number: int, given: Params) -> Suggestion:
        """The given parameters of a trial that waits, with what the sampler suggests for the others; conditions hold.

        A parameter that is active only because of what was given, and that the suggestion lacks, is drawn at random.
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
        """Whether each of the trials goes on, by number, given the objective at each of its steps so far, the newest last.

        Each decision takes the curves of all of them into account, whatever their order.
        """
        return self._pruning.decide_all(curves)
