"""The recorded reports as columns, in the order in which a pruner would have been asked about them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.records import Recorded, Reports
from service.domain.states import TrialState

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Board:
    """Columns of reports, by `time`, and columns of trials, by place. Times are sequence numbers of the study's events.

    Trials that share a pass are asked together, at the time of the first of them.
    """

    maximize: bool
    trials: Sequence[Recorded]
    epochs: Integers  # of each trial
    origin: Integers  # the place of each trial, or of the one that answered it
    trial: Integers  # of each report, the trial's place
    step: Integers
    value: Floats
    best: Floats  # the best finite value of the trial so far; NaN before there is one
    time: Integers
    together: Integers  # equal for reports that are judged together

    @property
    def count(self) -> int:
        """Of trials."""
        return len(self.trials)


def board_of(trials: Sequence[Recorded], reports: Reports, *, maximize: bool) -> Board:
    """The columns, from trials by number and reports in any order."""
    place = {one.id: index for index, one in enumerate(trials)}
    by_number = {one.number: index for index, one in enumerate(trials)}
    trial = np.fromiter((place[key] for key in reports.trials), np.int64, len(reports.trials))
    step = np.asarray(reports.steps, np.int64)
    passes = {name: index for index, name in enumerate(sorted({one.shared for one in trials if one.shared is not None}))}
    shared = np.array([passes[one.shared] if one.shared is not None else -1 for one in trials], np.int64)
    time, together = _times(shared[trial], step, np.asarray(reports.seqs, np.int64))
    order = np.lexsort((trial, together, step, time))
    trial, step, time, together = trial[order], step[order], time[order], together[order]
    value = np.asarray(reports.values, np.float64)[order]
    return Board(
        maximize=maximize,
        trials=trials,
        epochs=np.array([one.epochs for one in trials], np.int64),
        origin=np.array([_origin(one, by_number, index) for index, one in enumerate(trials)], np.int64),
        trial=trial, step=step, value=value, best=_best_so_far(trial, value, maximize), time=time, together=together,
    )  # fmt: skip


def _origin(one: Recorded, by_number: dict[int, int], own: int) -> int:
    return own if one.duplicate_of is None else by_number.get(one.duplicate_of, own)


def _times(shared: Integers, step: Integers, seq: Integers) -> tuple[Integers, Integers]:
    """Of each report the time, and whom it is judged with: all of a pass at a step, else nobody."""
    time, together = seq.copy(), np.arange(len(seq), dtype=np.int64)
    sharing = np.flatnonzero(shared >= 0)
    if len(sharing):
        groups = shared[sharing] * (step.max() + 1) + step[sharing]
        _, group = np.unique(groups, return_inverse=True)
        first = np.full(group.max() + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, group, seq[sharing])
        time[sharing], together[sharing] = first[group], len(seq) + group
    return time, together


def _best_so_far(trial: Integers, value: Floats, maximize: bool) -> Floats:
    best = np.full(len(value), np.nan)
    (accumulate, worst) = (np.maximum, -np.inf) if maximize else (np.minimum, np.inf)
    for places in places_by_trial(trial):
        known = np.where(np.isfinite(value[places]), value[places], worst)
        reached = accumulate.accumulate(known)
        best[places] = np.where(np.isfinite(reached), reached, np.nan)
    return best


def places_by_trial(trial: Integers) -> list[Integers]:
    """Of each trial that has some, the places of its reports, in their order."""
    if not len(trial):
        return []
    order = np.argsort(trial, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(trial[order])) + 1)


def pruned_in_truth(one: Recorded) -> bool:
    """Whether the study's pruner ended it."""
    return one.state is TrialState.PRUNED and one.ended is not None
