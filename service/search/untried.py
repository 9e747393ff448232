"""Search spaces that the budget covers: what was tried already is replaced by a configuration that was not, until there is none."""

from collections.abc import Mapping, Sequence

from search_spaces import Scalar
from service.domain.records import Trial
from service.domain.samplers import Grid
from service.domain.spec import StudySpec
from service.domain.states import TrialState
from service.search.answers import Suggestion
from service.search.cma_es import POINT
from service.search.distributions import Distributions
from service.search.grid import Point, combinations, point_of
from service.search.seeds import generator


class Untried:
    """The configurations of a finite space, and which of them the trials have. A function of the rows, as the samplers are."""

    def __init__(self, spec: StudySpec, distributions: Distributions) -> None:
        self._space, self._seed = spec.search_space, spec.sampler.seed
        self._distributions = distributions
        self._points: Mapping[Point, Mapping[str, Scalar]] = {point_of(distributions, one): one for one in combinations(distributions)}
        self._tried: dict[int, Point] = {}  # by the trial's number

    def learn(self, trial: Trial) -> None:
        """Take note of a trial that is new or has changed. A cancelled one tried nothing, nor does one that lacks parameters yet."""
        if trial.state is TrialState.CANCELLED or self._space.missing(trial.params):
            self._tried.pop(trial.number, None)
        else:
            self._tried[trial.number] = point_of(self._distributions, dict(trial.params))

    def without_copies(self, number: int, suggestions: Sequence[Suggestion]) -> list[Suggestion]:
        """The suggestions for the trials from `number` on, copies replaced; fewer, or none, when all configurations were tried."""
        tried, found = set(self._tried.values()), list[Suggestion]()
        for each, suggestion in enumerate(suggestions, start=number):
            if (point := point_of(self._distributions, dict(suggestion.params))) in tried:
                if not (left := [one for one in self._points if one not in tried]):
                    break
                point = left[int(generator(self._seed, each).integers(len(left)))]
                memory = {key: note for key, note in suggestion.memory.items() if key != POINT}  # it belongs to the parameters
                suggestion = Suggestion(self._points[point], memory)
            tried.add(point)
            found.append(suggestion)
        return found


def untried_of(spec: StudySpec, distributions: Distributions) -> Untried | None:
    """None for a space that the budget does not cover, and for a grid, which repeats nothing by itself."""
    covered = spec.covered_configurations
    return None if covered is None or isinstance(spec.sampler, Grid) else Untried(spec, distributions)
