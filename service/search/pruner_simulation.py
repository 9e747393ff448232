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
    """A study's reports as columns, ordered by `time`, and its trials as columns. Times are sequence numbers of the study's events.

    Trials whose heads are trained together are judged together, at the time of the first report among them.
    """

    maximize: bool
    trials: Sequence[RecordedTrial]
    epochs: Integers  # (trials,)
    origin: Integers  # (trials,) the index of each trial; for a duplicate, that of the trial with its result
    trial: Integers  # (reports,) the index of the trial
    step: Integers  # (reports,)
    value: Floats  # (reports,)
    best: Floats  # (reports,) the best finite value of the trial so far; NaN before there is one
    time: Integers  # (reports,)
    together: Integers  # (reports,) equal for reports that are judged together

    @property
    def count(self) -> int:
        """The number of trials."""
        return len(self.trials)


def board_of(trials: Sequence[RecordedTrial], reports: RecordedReports, *, maximize: bool) -> Board:
    """The columns of these trials, ordered by number, and of their reports in any order."""
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
    """`time` and `together` of each report. Reports of trials that were trained together share both at each step."""
    time, together = seq.copy(), np.arange(len(seq), dtype=np.int64)
    sharing = np.flatnonzero(shared >= 0)
    if len(sharing):
        # One number per group of trials and step.
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
    """The indices of a trial's reports, in order, for each trial with reports."""
    if not len(trial):
        return []
    order = np.argsort(trial, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(trial[order])) + 1)


def pruned_by_study(one: RecordedTrial) -> bool:
    """Whether the study's pruner ended the trial."""
    return one.state is TrialState.PRUNED and one.ended is not None


def compare(board: Board, judged: Integers, rule: Median | Percentile) -> Integers:
    """The index of the report that ends each trial, or -1. `judged`: indices of the reports at which the pruner decides, in order.

    Thresholds change only when a trial completes, so all reports between two completions are judged at once.
    """
    ends = np.full(board.count, -1, np.int64)
    peers = _Peers(board, rule, board.step[judged])
    reports_of = {int(board.trial[places[0]]): places for places in places_by_trial(board.trial)}
    completions = sorted((one.ended, index) for index, one in enumerate(board.trials) if one.complete and one.ended is not None)
    stops = np.searchsorted(board.time[judged], [time for time, _ in completions]).tolist()
    start = 0
    for (_, trial), stop in zip(completions, stops, strict=True):
        _judge(board, judged[start:stop], peers, ends)
        start = stop
        if ends[board.origin[trial]] < 0 and trial in reports_of:
            peers.complete(reports_of[trial])
    _judge(board, judged[start:], peers, ends)
    return ends


def _judge(board: Board, places: Integers, peers: "_Peers", ends: Integers) -> None:
    places = places[ends[board.trial[places]] < 0]
    for place in places[peers.end(places)].tolist():
        if ends[trial := board.trial[place]] < 0:
            ends[trial] = place


class _Peers:
    """The thresholds at each step, from the trials that are complete so far."""

    def __init__(self, board: Board, rule: Median | Percentile, steps: Integers) -> None:
        share = 50.0 if isinstance(rule, Median) else rule.percentile
        self._quantile = (100 - share if board.maximize else share) / 100
        self._board, self._rule = board, rule
        self._count = 0
        self._judged_steps = np.zeros(int(board.step.max(initial=0)) + 1, np.bool_)
        self._judged_steps[steps] = True
        self._values = defaultdict[int, list[float]](list)
        self._needed = np.full(len(self._judged_steps), np.nan)

    def complete(self, places: Integers) -> None:
        """Add a complete trial with these reports."""
        board = self._board
        self._count += 1
        places = places[self._judged_steps[board.step[places]] & np.isfinite(board.value[places])]
        steps = board.step[places]
        rows = [self._values[step] for step in steps.tolist()]
        for row, value in zip(rows, board.value[places].tolist(), strict=True):
            insort(row, value)
        if rows:
            needed = quantiles_of(rows, self._quantile)
            self._needed[steps] = np.where([len(row) >= self._rule.n_min_trials for row in rows], needed, np.nan)

    def end(self, places: Integers) -> Flags:
        """Whether each of the reports ends its trial. A report that is not finite always does."""
        board = self._board
        diverged: Flags = ~np.isfinite(board.value[places])
        if self._count < max(1, self._rule.n_startup_trials):
            return diverged
        best, needed = board.best[places], self._needed[board.step[places]]
        behind: Flags = best < needed if board.maximize else best > needed  # false where either is NaN
        return diverged | behind


def quantiles_of(rows: Sequence[Sequence[float]], share: float) -> Floats:
    """The quantile of each row of ascending values, with linear interpolation; bitwise equal to numpy's."""
    last = np.array([len(row) for row in rows]) - 1
    place = last * share
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, last)
    below = np.array([row[index] for row, index in zip(rows, low.tolist(), strict=True)])
    above = np.array([row[index] for row, index in zip(rows, high.tolist(), strict=True)])
    part, apart = place - low, above - below
    # As numpy does, from the upper neighbour for the upper half: the other formula rounds differently.
    quantiles: Floats = np.where(part >= 0.5, above - apart * (1 - part), below + apart * part)
    return quantiles


Rung = tuple[int, int]  # bracket, rung


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs of each trial."""

    min_steps: int
    factor: int
    brackets: Integers  # (trials,); the first rung of bracket b is at min_steps * factor^b

    def step(self, bracket: int, rung: int) -> int:
        """The epoch from which a trial of the bracket has reached the rung."""
        return int(self.min_steps * self.factor ** (bracket + rung))


def climb(board: Board, judged: Integers, ladder: Ladder) -> Integers:
    """The index of the report that ends each trial, or -1. `judged`: indices of the reports at which the pruner decides, in order.

    Asynchronous successive halving (Li et al. 2020), as implemented in Optuna: a trial that is not among the best of its rung ends.
    """
    ends = np.full(board.count, -1, np.int64)
    rungs = _Rungs(board, ladder)
    finite = np.isfinite(board.value)
    for _, members in groupby(judged.tolist(), key=lambda place: int(board.together[place])):
        group = {int(board.trial[place]): place for place in members if ends[board.trial[place]] < 0}
        diverged = {trial: place for trial, place in group.items() if not finite[place]}
        behind = rungs.eliminate({trial: place for trial, place in group.items() if trial not in diverged})
        for trial in [*diverged, *behind]:
            ends[trial] = group[trial]
    return ends


class _Rungs:
    """The values in each rung, in ascending order, and the number of rungs that each trial has passed."""

    def __init__(self, board: Board, ladder: Ladder) -> None:
        self._board, self._ladder = board, ladder
        self._passed = [0] * board.count
        self._values = defaultdict[Rung, list[float]](list)

    def eliminate(self, group: Mapping[int, int]) -> list[int]:
        """The trials that end now, of a group given as trial to index of its report.

        Rungs are judged in ascending order, each after all trials of the group that reach it have entered it.
        """
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
    """The decisions of a simulated pruner."""

    ends: Integers  # (trials,) the index of the report at which the trial ends, or -1
    judged: Integers  # indices of the reports at which the pruner decides, including those after a trial's end
    steps: tuple[int, ...]  # decision steps of the longest trial

    def ended(self, board: Board) -> Flags:
        """Whether each trial is ended; a duplicate is if its original is."""
        flags: Flags = self.ends[board.origin] >= 0
        return flags


def simulate(spec: StudySpec, board: Board, pruner: Pruner) -> SimulationResult | None:
    """Simulate the pruner on the recorded reports. None for wilcoxon, whose decisions are too expensive to repeat."""
    steps = decision_steps(spec.model_copy(update={"pruner": pruner}), int(board.epochs.max(initial=1)))
    judged = np.flatnonzero(_at_decision_steps(board, steps))
    ends = _ends(spec, board, pruner, judged)
    return None if ends is None else SimulationResult(ends, judged, steps)


def _at_decision_steps(board: Board, steps: tuple[int, ...]) -> Flags:
    deciding = np.zeros(max(int(board.step.max(initial=0)), *steps, 0) + 1, np.bool_)
    deciding[list(steps)] = True
    own = board.origin[board.trial] == board.trial
    flags: Flags = deciding[board.step] & (board.step < board.epochs[board.trial]) & own
    return flags


def _ends(spec: StudySpec, board: Board, pruner: Pruner, judged: Integers) -> Integers | None:
    match pruner:
        case NoPruner():
            return np.full(board.count, -1, np.int64)
        case Median() | Percentile():
            return compare(board, judged, pruner)
        case Asha():
            brackets = np.full(board.count, pruner.min_early_stopping_rate, np.int64)
            return climb(board, judged, Ladder(pruner.min_steps, pruner.reduction_factor, brackets))
        case Hyperband():
            return climb(board, judged, Ladder(pruner.min_steps, pruner.reduction_factor, _brackets(spec, board, pruner)))
        case Threshold():
            return _first(board, judged[_outside(board, judged, pruner)])
        case Wilcoxon():
            return None
        case Patient(wrapped=wrapped):
            impatient = judged[_without_improvement(board, pruner)[judged] | ~np.isfinite(board.value[judged])]
            return _first(board, impatient) if isinstance(wrapped, NoPruner) else _ends(spec, board, wrapped, impatient)
        case _:
            assert_never(pruner)


def _brackets(spec: StudySpec, board: Board, pruner: Hyperband) -> Integers:
    """The bracket of each trial."""
    brackets = pruner_for(pruner, spec.last_step)
    # The study's name must be that of `Pruning`, because brackets are derived from name and number.
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
    """The first of these indices that belongs to each trial, or -1."""
    ends = np.full(board.count, -1, np.int64)
    trials, first = np.unique(board.trial[places], return_index=True)
    ends[trials] = places[first]
    return ends


def _without_improvement(board: Board, patient: Patient) -> Flags:
    """Flags of the reports at which the last `patience + 1` finite values of a trial are all worse than the best before them."""
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
    """For each pruned trial with a finite value, the share of complete trials whose later gain would have put it ahead of the winner."""
    last = {int(trial): place for place, trial in enumerate(board.trial.tolist())}
    pruned = [index for index, one in enumerate(board.trials) if pruned_by_study(one) and one.trained and index in last]
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
    """The chance that at least one of them would have overtaken, assuming independence; None when there are none."""
    return 1 - math.prod(1 - one.chance for one in found) if found else None


def _gains_from(board: Board, step: int) -> Floats:
    """The change of the objective of each complete trial from that epoch to its end."""
    final = np.array([one.value if one.complete and one.trained else np.nan for one in board.trials], np.float64)
    at = np.flatnonzero((board.step == step) & np.isfinite(board.value))
    gains = final[board.trial[at]] - board.value[at]
    known: Floats = gains[np.isfinite(gains)]
    return known
