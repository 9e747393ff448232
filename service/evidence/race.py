"""The race: which arms are trained once more, and which are clearly worse already."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.evidence.arms import Arm
from trainer.contract import Direction

FIRST_ROUNDS = 3  # of every arm, at once: on fewer nothing is decided


@dataclass(frozen=True, slots=True)
class Round:
    """A round of the confirmation: who takes part, by their trials of the search."""

    round: int
    arms: tuple[int, ...]


def next_round(arms: Sequence[Arm], direction: Direction, seeds: int) -> Round | None:
    """The round that follows when all that were queued have ended; None when there is nothing more to learn, or to spend."""
    raise NotImplementedError
