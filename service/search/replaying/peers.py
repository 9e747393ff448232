"""The percentile rule played again: a trial ends when its best so far is behind that share of the complete trials at the same step."""

from bisect import insort
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from service.domain.samplers import Median, Percentile
from service.search.replaying.board import Board, Flags, Floats, Integers, places_by_trial


def compare(board: Board, asked: Integers, rule: Median | Percentile) -> Integers:
    """Of each trial the place of the report that ends it, or -1. `asked`: places of reports, in order, at which the pruner decides.

    Between two trials that complete nothing changes for the others, so all reports between them are judged at once.
    """
    ends = np.full(board.count, -1, np.int64)
    peers = _Peers(board, rule, board.step[asked])
    reports_of = {int(board.trial[places[0]]): places for places in places_by_trial(board.trial)}
    completions = sorted((one.ended, index) for index, one in enumerate(board.trials) if one.complete and one.ended is not None)
    stops = np.searchsorted(board.time[asked], [time for time, _ in completions]).tolist()
    start = 0
    for (_, trial), stop in zip(completions, stops, strict=True):
        _judge(board, asked[start:stop], peers, ends)
        start = stop
        if ends[board.origin[trial]] < 0 and trial in reports_of:
            peers.complete(reports_of[trial])
    _judge(board, asked[start:], peers, ends)
    return ends


def _judge(board: Board, places: Integers, peers: "_Peers", ends: Integers) -> None:
    places = places[ends[board.trial[places]] < 0]
    for place in places[peers.are_ahead_of(places)].tolist():
        if ends[trial := board.trial[place]] < 0:
            ends[trial] = place


class _Peers:
    """What is needed at each step, by the trials that are complete so far."""

    def __init__(self, board: Board, rule: Median | Percentile, steps: Integers) -> None:
        share = 50.0 if isinstance(rule, Median) else rule.percentile
        self._quantile = (100 - share if board.maximize else share) / 100
        self._board, self._rule = board, rule
        self._count = 0
        self._asked = np.zeros(int(board.step.max(initial=0)) + 1, np.bool_)
        self._asked[steps] = True
        self._values = defaultdict[int, list[float]](list)
        self._needed = np.full(len(self._asked), np.nan)

    def complete(self, places: Integers) -> None:
        """One more trial is complete, with these reports."""
        board = self._board
        self._count += 1
        places = places[self._asked[board.step[places]] & np.isfinite(board.value[places])]
        steps = board.step[places]
        rows = [self._values[step] for step in steps.tolist()]
        for row, value in zip(rows, board.value[places].tolist(), strict=True):
            insort(row, value)
        if rows:
            needed = quantiles_of(rows, self._quantile)
            self._needed[steps] = np.where([len(row) >= self._rule.n_min_trials for row in rows], needed, np.nan)

    def are_ahead_of(self, places: Integers) -> Flags:
        """Which of the reports end their trials. One that is not finite does in any case."""
        board = self._board
        gone: Flags = ~np.isfinite(board.value[places])
        if self._count < max(1, self._rule.n_startup_trials):
            return gone
        best, needed = board.best[places], self._needed[board.step[places]]
        behind: Flags = best < needed if board.maximize else best > needed  # false where either is NaN
        return gone | behind


def quantiles_of(rows: Sequence[Sequence[float]], share: float) -> Floats:
    """Of each row of rising values the quantile between neighbours, to the last bit as numpy has it."""
    last = np.array([len(row) for row in rows]) - 1
    place = last * share
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, last)
    below = np.array([row[index] for row, index in zip(rows, low.tolist(), strict=True)])
    above = np.array([row[index] for row, index in zip(rows, high.tolist(), strict=True)])
    part, apart = place - low, above - below
    quantiles: Floats = np.where(part >= 0.5, above - apart * (1 - part), below + apart * part)
    return quantiles
