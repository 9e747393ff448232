"""Simulates pruners on the recorded reports of a study."""

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import assert_never

import numpy as np
import optuna
from numpy.typing import NDArray

from service.domain.pruning import PotentialWinner, places
from service.domain.records import RecordedReports, RecordedTrial
from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.spec import StudySpec
from service.domain.states import TrialState
from service.search.distributions import Distributions
from service.search.history import History, RowsForPruners, running_trial
from service.search.pruners import decision_steps, pruner_for

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Board:
    """Columns of reports, by `time`, and columns of trials, by place. Times are sequence numbers of the study's events.

    Trials that share a pass are asked together, at the time of the first of them.
    """

    maximize: bool
    trials: Sequence[RecordedTrial]
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


def board_of(trials: Sequence[RecordedTrial], reports: RecordedReports, *, maximize: bool) -> Board:
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


def _origin(one: RecordedTrial, by_number: dict[int, int], own: int) -> int:
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
    for rows in places_by_trial(trial):
        known = np.where(np.isfinite(value[rows]), value[rows], worst)
        reached = accumulate.accumulate(known)
        best[rows] = np.where(np.isfinite(reached), reached, np.nan)
    return best


def places_by_trial(trial: Integers) -> list[Integers]:
    """Of each trial that has some, the places of its reports, in their order."""
    if not len(trial):
        return []
    order = np.argsort(trial, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(trial[order])) + 1)


def pruned_in_truth(one: RecordedTrial) -> bool:
    """Whether the study's pruner ended it."""
    return one.state is TrialState.PRUNED and one.ended is not None


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


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What a pruner would have done."""

    ends: Integers  # of each trial the place of the report at which it is ended, or -1
    asked: Integers  # places of the reports at which the pruner decides, those after a trial's end too
    steps: tuple[int, ...]  # at which it may decide, of the longest trial

    def ended(self, board: Board) -> Flags:
        """Of each trial whether it is ended; of a duplicate, whether the one is that answered it."""
        flags: Flags = self.ends[board.origin] >= 0
        return flags


def simulate(spec: StudySpec, board: Board, pruner: Pruner) -> SimulationResult | None:
    """The trials' ends by this pruner; None for one whose decisions cost too much to be asked for all again (wilcoxon)."""
    steps = decision_steps(spec.model_copy(update={"pruner": pruner}), int(board.epochs.max(initial=1)))
    asked = np.flatnonzero(_at_decision_steps(board, steps))
    ends = _ends(spec, board, pruner, asked)
    return None if ends is None else SimulationResult(ends, asked, steps)


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
    for rows in places_by_trial(board.trial):
        rows = rows[np.isfinite(board.value[rows])]
        if len(rows) > width:
            values = sign * board.value[rows]
            before = np.maximum.accumulate(values)[:-width]
            since = np.lib.stride_tricks.sliding_window_view(values, width)[1:].max(axis=1)
            flags[rows[width:]] = before - patient.min_delta > since
    return flags


def overtakers(board: Board, winner: RecordedTrial) -> list[PotentialWinner]:
    """Of each pruned trial with a value, the share of complete trials whose gain would have lifted it above the winner."""
    last = {int(trial): place for place, trial in enumerate(board.trial.tolist())}
    pruned = [index for index, one in enumerate(board.trials) if pruned_in_truth(one) and one.trained and index in last]
    finite = [index for index in pruned if np.isfinite(board.value[last[index]])]
    gains = {step: _gains_from(board, step) for step in {int(board.step[last[index]]) for index in finite}}
    found = list[PotentialWinner]()
    for index in finite:
        place = last[index]
        if len(known := gains[int(board.step[place])]):
            lifted = board.value[place] + known
            above = lifted > winner.value if board.maximize else lifted < winner.value
            found.append(PotentialWinner(trial=board.trials[index].number, chance=float(above.mean()), n=len(known)))
    return sorted(found, key=lambda one: (-one.chance, one.trial))


def chance_of_any(found: Sequence[PotentialWinner]) -> float | None:
    """That at least one of them would have, were they independent of each other; None when there are none."""
    return 1 - math.prod(1 - one.chance for one in found) if found else None


def _gains_from(board: Board, step: int) -> Floats:
    """What the objective of each complete trial changed by from that epoch to its end."""
    final = np.array([one.value if one.complete and one.trained else np.nan for one in board.trials], np.float64)
    at = np.flatnonzero((board.step == step) & np.isfinite(board.value))
    gains = final[board.trial[at]] - board.value[at]
    known: Floats = gains[np.isfinite(gains)]
    return known
