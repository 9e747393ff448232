"""Grid search: every combination once, in an order that the seed decides."""

from collections.abc import Iterator
from itertools import islice

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from search_spaces import Scalar
from service.domain.spec import StudySpec
from service.search.answers import Suggestion
from service.search.distributions import Distributions, Number
from service.search.history import History
from service.search.sampler import Sampler
from service.search.seeds import generator

Point = tuple[tuple[str, int], ...]  # the place of each active parameter's value among its values


class GridSearch(Sampler):
    """Combinations that differ only in inactive parameters are one.

    A point that any trial has, however it came and ended, is not suggested again.
    """

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History) -> None:
        super().__init__(spec, distributions, history)
        points = list(combinations(distributions))
        order = generator(self.seed, 0).permutation(len(points))
        self._left = {point_of(distributions, points[place]): points[place] for place in order}

    def learn(self, trial: FrozenTrial) -> None:
        self._left.pop(tuple((name, _place(self.distributions.all[name], value)) for name, value in trial.params.items()), None)

    def suggest(self, number: int, count: int) -> list[Suggestion]:
        return [Suggestion(params) for params in islice(self._left.values(), count)]


def combinations(distributions: Distributions) -> Iterator[dict[str, Scalar]]:
    names = list(distributions.all)

    def extend(params: dict[str, Scalar], depth: int) -> Iterator[dict[str, Scalar]]:
        if depth == len(names):
            yield params
        elif distributions.active(name := names[depth], params):
            for value in _values(distributions.all[name]):
                yield from extend({**params, name: distributions.decode(name, value)}, depth + 1)
        else:
            yield from extend(params, depth + 1)

    return extend({}, 0)


def point_of(distributions: Distributions, params: dict[str, Scalar]) -> Point:
    return tuple((name, _place(distributions.all[name], value)) for name, value in distributions.encode(params).items())


def _values(distribution: BaseDistribution) -> Iterator[Number]:
    match distribution:
        case CategoricalDistribution(choices=choices):
            yield from range(len(choices))
        case IntDistribution(low=low, high=high, step=step):
            yield from range(low, high + 1, step)
        case FloatDistribution(low=low, high=high, step=None) if low == high:
            yield low
        case FloatDistribution(low=low, high=high, step=float(step)):
            yield from (low + place * step for place in range(round((high - low) / step) + 1))
        case _:
            raise ValueError("a grid needs a space without continuous ranges")


def _place(distribution: BaseDistribution, value: Number) -> int:
    match distribution:
        case CategoricalDistribution():
            return int(value)
        case FloatDistribution(low=low, high=high, step=None) if low == high:
            return 0
        case IntDistribution(low=low, step=step) | FloatDistribution(low=low, step=float(step)):
            return round((value - low) / step)
        case _:
            raise ValueError("a grid needs a space without continuous ranges")
