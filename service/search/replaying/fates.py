"""Where a pruner would have ended each trial: any of ours, asked at its decision steps about what was recorded."""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
import optuna

from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.spec import StudySpec
from service.search.distributions import Distributions
from service.search.history import History
from service.search.pruners import decision_steps, pruner_for
from service.search.replaying.board import Board, Flags, Integers, places_by_trial
from service.search.replaying.peers import compare
from service.search.replaying.rungs import Ladder, climb
from service.search.rows import RowsForPruners, running_trial


@dataclass(frozen=True, slots=True)
class Fates:
    """What a pruner would have done."""

    ends: Integers  # of each trial the place of the report at which it is ended, or -1
    asked: Integers  # places of the reports at which the pruner decides, those after a trial's end too
    steps: tuple[int, ...]  # at which it may decide, of the longest trial

    def ended(self, board: Board) -> Flags:
        """Of each trial whether it is ended; of a duplicate, whether the one is that answered it."""
        flags: Flags = self.ends[board.origin] >= 0
        return flags


def fates(spec: StudySpec, board: Board, pruner: Pruner) -> Fates | None:
    """The trials' ends by this pruner; None for one whose decisions cost too much to be asked for all again (wilcoxon)."""
    steps = decision_steps(spec.model_copy(update={"pruner": pruner}), int(board.epochs.max(initial=1)))
    asked = np.flatnonzero(_at_decision_steps(board, steps))
    ends = _ends(spec, board, pruner, asked)
    return None if ends is None else Fates(ends, asked, steps)


def _at_decision_steps(board: Board, steps: tuple[int, ...]) -> Flags:
    deciding = np.zeros(max(int(board.step.max(initial=0)), *steps, 0) + 1, np.bool_)
    deciding[list(steps)] = True
    own = board.origin[board.trial] == board.trial
    flags: Flags = deciding[board.step] & (board.step < board.epochs[board.trial]) & own
    return flags


def _ends(spec: StudySpec, board: Board, pruner: Pruner, asked: Integers) -> Integers | None:
    match pruner:
        case NoPruner():
            return np.full(board.count, -1, np.int64)
        case Median() | Percentile():
            return compare(board, asked, pruner)
        case Asha():
            brackets = np.full(board.count, pruner.min_early_stopping_rate, np.int64)
            return climb(board, asked, Ladder(pruner.min_steps, pruner.reduction_factor, brackets))
        case Hyperband():
            return climb(board, asked, Ladder(pruner.min_steps, pruner.reduction_factor, _brackets(spec, board, pruner)))
        case Threshold():
            return _first(board, asked[_outside(board, asked, pruner)])
        case Wilcoxon():
            return None
        case Patient(wrapped=wrapped):
            impatient = asked[_without_improvement(board, pruner)[asked] | ~np.isfinite(board.value[asked])]
            return _first(board, impatient) if isinstance(wrapped, NoPruner) else _ends(spec, board, wrapped, impatient)
        case _:
            assert_never(pruner)


def _brackets(spec: StudySpec, board: Board, pruner: Hyperband) -> Integers:
    """Of each trial: it follows from the study's name, as decisions have it, and the trial's number."""
    brackets = pruner_for(pruner, spec.epochs)
    name = str(spec.sampler.seed)
    study = optuna.Study(name, RowsForPruners(History(spec, Distributions(spec.search_space)), name, {}), pruner=brackets)
    return np.array([brackets.id_of(study, running_trial(one.number)) for one in board.trials], np.int64)  # type: ignore[attr-defined]


def _outside(board: Board, places: Integers, bounds: Threshold) -> Flags:
    value = board.value[places]
    outside: Flags = ~np.isfinite(value)
    if bounds.lower is not None:
        outside |= value < bounds.lower
    if bounds.upper is not None:
        outside |= value > bounds.upper
    return outside


def _first(board: Board, places: Integers) -> Integers:
    """Of each trial the first of these places, or -1."""
    ends = np.full(board.count, -1, np.int64)
    trials, first = np.unique(board.trial[places], return_index=True)
    ends[trials] = places[first]
    return ends


def _without_improvement(board: Board, patient: Patient) -> Flags:
    """The reports at which the last `patience + 1` finite values of a trial are all worse than the best before them."""
    flags = np.zeros(len(board.trial), np.bool_)
    width = patient.patience + 1
    sign = 1.0 if board.maximize else -1.0
    for places in places_by_trial(board.trial):
        places = places[np.isfinite(board.value[places])]
        if len(places) > width:
            values = sign * board.value[places]
            before = np.maximum.accumulate(values)[:-width]
            since = np.lib.stride_tricks.sliding_window_view(values, width)[1:].max(axis=1)
            flags[places[width:]] = before - patient.min_delta > since
    return flags
