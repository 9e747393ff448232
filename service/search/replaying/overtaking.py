"""Whether a pruned trial would have become the best: nobody knows, but what others gained from the same epoch on is on record."""

import math
from collections.abc import Sequence

import numpy as np

from service.domain.pruning import Overtaker
from service.domain.records import Recorded
from service.search.replaying.board import Board, Floats, pruned_in_truth


def overtakers(board: Board, winner: Recorded) -> list[Overtaker]:
    """Of each pruned trial with a value, the share of complete trials whose gain would have lifted it above the winner."""
    last = {int(trial): place for place, trial in enumerate(board.trial.tolist())}
    pruned = [index for index, one in enumerate(board.trials) if pruned_in_truth(one) and one.trained and index in last]
    finite = [index for index in pruned if np.isfinite(board.value[last[index]])]
    gains = {step: _gains_from(board, step) for step in {int(board.step[last[index]]) for index in finite}}
    found = list[Overtaker]()
    for index in finite:
        place = last[index]
        if len(known := gains[int(board.step[place])]):
            lifted = board.value[place] + known
            above = lifted > winner.value if board.maximize else lifted < winner.value
            found.append(Overtaker(trial=board.trials[index].number, chance=float(above.mean()), n=len(known)))
    return sorted(found, key=lambda one: (-one.chance, one.trial))


def chance_of_any(found: Sequence[Overtaker]) -> float | None:
    """That at least one of them would have, were they independent of each other; None when there are none."""
    return 1 - math.prod(1 - one.chance for one in found) if found else None


def _gains_from(board: Board, step: int) -> Floats:
    """What the objective of each complete trial changed by from that epoch to its end."""
    final = np.array([one.value if one.complete and one.trained else np.nan for one in board.trials], np.float64)
    at = np.flatnonzero((board.step == step) & np.isfinite(board.value))
    gains = final[board.trial[at]] - board.value[at]
    known: Floats = gains[np.isfinite(gains)]
    return known
