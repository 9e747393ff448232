"""A study's pruning looked back on: what it saved, what other pruners would have done, and what is not known."""

from collections.abc import Mapping, Sequence

from service.domain.pruning import Agreement, Hindsight, Replayed, Spared
from service.domain.records import NO_REPORTS, Recorded, Recording
from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner
from service.search.replaying.board import Board, board_of, pruned_in_truth
from service.search.replaying.fates import Fates, fates
from service.search.replaying.labels import label_of
from service.search.replaying.overtaking import chance_of_any, overtakers
from service.search.replaying.words import words

OTHERS: Mapping[str, Pruner] = {
    "none": NoPruner(),
    "median": Median(),
    "percentile-25": Percentile(),
    "asha-2": Asha(reduction_factor=2),
    "asha-3": Asha(reduction_factor=3),
    "asha-4": Asha(reduction_factor=4),
    "hyperband": Hyperband(),
    "patient-median": Patient(patience=2, wrapped=Median()),
}
MOST_OVERTAKERS = 10  # that are named


def look_back(recording: Recording) -> Hindsight:
    """All that the recorded curves say of the study's pruning. They may be missing; then no pruner is asked again."""
    spec, trials = recording.spec, recording.trials
    board = board_of(trials, recording.reports or NO_REPORTS, maximize=spec.objective.direction == "maximize")
    winner = best_of(trials, maximize=board.maximize)
    saved, rivals = _saved(trials), overtakers(board, winner) if winner is not None else []
    known = recording.reports is not None
    found = Hindsight(
        partial=recording.partial,
        saved=saved,
        winner=None if winner is None else winner.number,
        words=(),
        pruners=_pruners(recording, board, winner) if known else (),
        overtaking=tuple(one for one in rivals[:MOST_OVERTAKERS] if one.chance > 0),
        chance=chance_of_any(rivals),
        agreement=_agreement(recording, board) if known else None,
    )
    return found.model_copy(update={"words": words(found, spec, trials, with_reports=known)})


def best_of(trials: Sequence[Recorded], *, maximize: bool) -> Recorded | None:
    """The best complete trial; of equal ones the first."""
    sign = -1.0 if maximize else 1.0
    ranked = [(sign * one.value, one.number, one) for one in trials if one.complete and one.trained and one.value is not None]
    return min(ranked)[2] if ranked else None


def _saved(trials: Sequence[Recorded]) -> Spared:
    trained = [one for one in trials if one.trained]
    spared = [one for one in trained if pruned_in_truth(one)]
    seconds = [one.seconds_left for one in spared if one.seconds_left is not None]
    epochs = sum(one.epochs - one.step for one in spared)
    told = sum(one.epochs - one.step for one in spared if one.seconds_left is not None)
    return Spared(
        epochs=epochs,
        of=sum(one.epochs if pruned_in_truth(one) else one.step for one in trained),
        seconds=sum(seconds) * epochs / told if told else None,
    )


def _pruners(recording: Recording, board: Board, winner: Recorded | None) -> tuple[Replayed, ...]:
    """The study's own as it was, then each other one."""
    own = recording.spec.pruner
    name = next((name for name, pruner in OTHERS.items() if pruner == own), "own")
    rest = [(name, pruner) for name, pruner in OTHERS.items() if pruner != own]
    replayed = [(name, pruner, fates(recording.spec, board, pruner)) for name, pruner in rest]
    others = [_replayed(board, winner, name, pruner, fate) for name, pruner, fate in replayed if fate is not None]
    return (_as_it_was(recording, winner, name), *others)


def _as_it_was(recording: Recording, winner: Recorded | None, name: str) -> Replayed:
    epochs = sum(one.step for one in recording.trials if one.trained)
    kept = None if winner is None else True
    return Replayed(
        name=name,
        label=label_of(recording.spec.pruner),
        own=True,
        kept_winner=kept,
        likely=kept,
        winner=None if winner is None else winner.number,
        trials_pruned=sum(pruned_in_truth(one) for one in recording.trials),
        continued=0,
        epochs=(epochs, epochs),
    )


def _replayed(board: Board, winner: Recorded | None, name: str, pruner: Pruner, fate: Fates) -> Replayed:
    ended = fate.ended(board)
    surviving = [one for index, one in enumerate(board.trials) if not ended[index]]
    best = best_of(surviving, maximize=board.maximize)
    likely = None if winner is None else not ended[board.trials.index(winner)]
    spent = [_epochs(board, index, fate) for index, one in enumerate(board.trials) if one.trained]
    return Replayed(
        name=name,
        label=label_of(pruner),
        own=False,
        kept_winner=likely if winner is not None and _is_known(board, winner, fate) else None,
        likely=likely,
        winner=None if best is None else best.number,
        trials_pruned=int(ended.sum()),
        continued=sum(pruned_in_truth(one) and one.trained for one in surviving),
        epochs=(sum(least for least, _ in spent), sum(most for _, most in spent)),
    )


def _epochs(board: Board, index: int, fate: Fates) -> tuple[int, int]:
    """That the trial would have trained, at least and at most."""
    one, end = board.trials[index], int(fate.ends[index])
    if end >= 0:
        return int(board.step[end]), int(board.step[end])
    if not pruned_in_truth(one):
        return one.step, one.step
    return next((step for step in fate.steps if one.step < step < one.epochs), one.epochs), one.epochs


def _is_known(board: Board, winner: Recorded, fate: Fates) -> bool:
    """Whether, before the winner was judged for the last time, no trial was pruned in truth that would have gone on and had a say."""
    if not fate.steps:
        return True
    index = board.trials.index(winner)
    judged = fate.asked[board.trial[fate.asked] == index]
    judged = judged[judged <= fate.ends[index]] if fate.ends[index] >= 0 else judged
    gone_on = [one.ended for place, one in enumerate(board.trials) if pruned_in_truth(one) and fate.ends[board.origin[place]] < 0]
    return not len(judged) or all(ended is None or board.time[judged[-1]] < ended for ended in gone_on)


def _agreement(recording: Recording, board: Board) -> Agreement | None:
    """Of the trials that were trained and have ended."""
    if isinstance(recording.spec.pruner, NoPruner) or (fate := fates(recording.spec, board, recording.spec.pruner)) is None:
        return None
    ended = [index for index, one in enumerate(board.trials) if one.trained and one.ended is not None]
    return Agreement(same=sum(_ends_alike(board, index, fate) for index in ended), of=len(ended))


def _ends_alike(board: Board, index: int, fate: Fates) -> bool:
    one, end = board.trials[index], int(fate.ends[index])
    return bool(board.step[end] == one.step and pruned_in_truth(one)) if end >= 0 else not pruned_in_truth(one)
