"""Which of a trial's checkpoints stay."""

import math
from collections.abc import Mapping, Sequence

from trainer.configuration import Direction
from trainer.protocol import Checkpoint

WHILE_RUNNING = 2  # one may turn out to be damaged
AT_THE_END = 1


def kept(checkpoints: Sequence[Checkpoint], newest: int, objective: Mapping[int, float], direction: Direction) -> tuple[Checkpoint, ...]:
    """The `newest` ones and the best one, newest first as they are given.

    `objective` is by step; a step without a finite value is no best one, and of equal ones the newest is.
    """
    sign = 1 if direction == "maximize" else -1
    valued = [one for one in checkpoints if math.isfinite(objective.get(one.step, math.nan))]
    best = max(valued, key=lambda one: sign * objective[one.step], default=None)
    return tuple(one for place, one in enumerate(checkpoints) if place < newest or one is best)
