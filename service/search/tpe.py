"""The tree-structured Parzen estimator (Bergstra et al. 2011; Watanabe 2023): Optuna's, over columns and in batches."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe.sampler import default_gamma
from optuna.search_space.group_decomposed import _SearchSpaceGroup
from optuna.trial import FrozenTrial

from search_spaces import Scalar
from service.domain.samplers import Tpe
from service.domain.spec import StudySpec
from service.search.answers import Suggestion
from service.search.columns import Columns, Split
from service.search.distributions import Distributions, single_value
from service.search.history import History
from service.search.parzen import Array, Mixture
from service.search.sampler import RandomSearch, Sampler
from service.search.seeds import generator


class TpeSearch(Sampler):
    """Draws candidates where good trials lie and takes the one where bad ones lie least.

    Differs from Optuna's sampler only in how it computes: trials are kept as columns, and a batch is drawn from one pair
    of estimators, `n_ei_candidates` candidates for each of its trials, as if all were asked at the same moment; no two of
    a batch are alike while the candidates last. With `constant_liar` running trials count as bad ones. Pruned trials rank
    behind complete ones by how far they got, infeasible ones behind all.
    """

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History, options: Tpe) -> None:
        super().__init__(spec, distributions, history)
        self._options = options
        self._random = RandomSearch(spec, distributions, history)
        self._columns = Columns(tuple(distributions.all), history.sign)

    def learn(self, trial: FrozenTrial) -> None:
        self._columns.put(trial)

    def suggest(self, number: int, count: int) -> list[Suggestion]:
        if self._columns.finished < self._options.n_startup_trials:
            return self._random.suggest(number, count)
        split = self._columns.split(default_gamma(self._columns.finished), self._options.constant_liar)
        random = generator(self.seed, number)
        joint: dict[str, Array] = {}
        for space in self._joint_spaces():
            joint |= self._best(space, split, random, count)
        drawn: list[dict[str, Scalar]] = [{} for _ in range(count)]
        for name, distribution in self.distributions.all.items():
            rows = [row for row in range(count) if self.distributions.active(name, drawn[row])]
            values = joint[name][rows] if name in joint else self._column(name, distribution, split, random, len(rows))
            for row, value in zip(rows, values, strict=True):
                drawn[row][name] = self.distributions.decode(name, value)
        return [Suggestion(params) for params in drawn]

    def _column(self, name: str, distribution: BaseDistribution, split: Split, random: np.random.Generator, count: int) -> Array:
        if distribution.single():
            return np.full(count, single_value(distribution))
        return self._best({name: distribution}, split, random, count)[name] if count else np.empty(0)

    def _joint_spaces(self) -> Sequence[dict[str, BaseDistribution]]:
        """The sets of parameters that are drawn together."""
        if not self._options.multivariate:
            return ()
        if not self._options.group:
            return (self.distributions.unconditional,) if self.distributions.unconditional else ()
        groups = _SearchSpaceGroup()
        for names in sorted(self._columns.shapes):
            groups.add_distributions({name: self.distributions.all[name] for name in names})
        together = (sorted(group) for group in groups.search_spaces)
        spaces = ({name: self.distributions.all[name] for name in names if not self.distributions.all[name].single()} for names in together)
        return [space for space in spaces if space]

    def _best(self, space: Mapping[str, BaseDistribution], split: Split, random: np.random.Generator, count: int) -> dict[str, Array]:
        """A column of `count` values for each parameter of the space."""
        good, bad = (Mixture(self._columns.observations(rows, space), space) for rows in (split.below, split.above))
        candidates = good.sample(random, count * self._options.n_ei_candidates)
        gains = good.log_density(candidates) - bad.log_density(candidates)
        chosen = candidates[_pick(candidates, gains.reshape(count, -1), distinct=len(space) > 1)]
        return {name: chosen[:, place] for place, name in enumerate(space)}


def _pick(candidates: Array, gains: Array, distinct: bool) -> NDArray[np.intp]:
    """For each row of gains its best candidate; where distinct, its best that no row before took, if it has such a one."""
    offsets = np.arange(len(gains)) * gains.shape[1]
    if not distinct or len(gains) == 1:
        best: NDArray[np.intp] = offsets + gains.argmax(axis=1)
        return best
    taken: set[bytes] = set()
    picked = []
    for offset, ranks in zip(offsets, np.argsort(-gains, axis=1, kind="stable"), strict=True):
        fresh = (offset + rank for rank in ranks if candidates[offset + rank].tobytes() not in taken)
        picked.append(place := next(fresh, offset + ranks[0]))
        taken.add(candidates[place].tobytes())
    return np.array(picked)
