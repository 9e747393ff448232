"""Successive halving and Hyperband played again: a trial goes on when it is among the best of its rung."""

from bisect import insort
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from service.domain.pruning import places
from service.search.replaying.board import Board, Integers

Rung = tuple[int, int]  # bracket, rung


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where the rungs of each trial are."""

    min_steps: int
    factor: int
    brackets: Integers  # of each trial; the first rung of a bracket is that many factors up

    def step(self, bracket: int, rung: int) -> int:
        """The epoch from which a trial of the bracket has reached the rung."""
        return int(self.min_steps * self.factor ** (bracket + rung))


def climb(board: Board, asked: Integers, ladder: Ladder) -> Integers:
    """Of each trial the place of the report that ends it, or -1. `asked`: places of reports, in order, at which the pruner decides.

    Asynchronous successive halving (Li et al. 2020), as Optuna has it: a trial that is not among the best of its rung ends.
    """
    ends = np.full(board.count, -1, np.int64)
    climbers = _Climbers(board, ladder)
    finite = np.isfinite(board.value)
    for _, members in groupby(asked.tolist(), key=lambda place: int(board.together[place])):
        group = {int(board.trial[place]): place for place in members if ends[board.trial[place]] < 0}
        gone = {trial: place for trial, place in group.items() if not finite[place]}
        behind = climbers.left_behind({trial: place for trial, place in group.items() if trial not in gone})
        for trial in [*gone, *behind]:
            ends[trial] = group[trial]
    return ends


class _Climbers:
    """The values in each rung, rising, and the rungs that each trial has passed."""

    def __init__(self, board: Board, ladder: Ladder) -> None:
        self._board, self._ladder = board, ladder
        self._passed = [0] * board.count
        self._values = defaultdict[Rung, list[float]](list)

    def left_behind(self, group: Mapping[int, int]) -> list[int]:
        """Of these trials, with their reports' places, those that end now: all enter a rung before it is judged, the lowest first."""
        behind, climbing = list[int](), dict(group)
        while climbing := {trial: place for trial, place in climbing.items() if self._reaches_a_rung(trial, place)}:
            lowest = min(self._passed[trial] for trial in climbing)
            entering = {trial: place for trial, place in climbing.items() if self._passed[trial] == lowest}
            for trial, place in entering.items():
                insort(self._values[self._rung(trial)], float(self._board.value[place]))
            left = [trial for trial, place in entering.items() if not self._is_among_the_best(trial, place)]
            for trial in entering:
                self._passed[trial] += 1
            for trial in left:
                del climbing[trial]
            behind += left
        return behind

    def _rung(self, trial: int) -> Rung:
        return int(self._ladder.brackets[trial]), self._passed[trial]

    def _reaches_a_rung(self, trial: int, place: int) -> bool:
        bracket, rung = self._rung(trial)
        return bool(self._board.step[place] >= self._ladder.step(bracket, rung))

    def _is_among_the_best(self, trial: int, place: int) -> bool:
        values, value = self._values[self._rung(trial)], self._board.value[place]
        last = places(len(values), self._ladder.factor)
        return bool(value >= values[-last] if self._board.maximize else value <= values[last - 1])
