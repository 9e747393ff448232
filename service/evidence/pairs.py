"""Two configurations, compared round by round: what is common to a round falls out of the difference."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from service.evidence.arms import Arm, Repeat
from service.evidence.crossed import Values
from service.evidence.intervals import spread
from trainer.configuration import Direction


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """How far an arm is behind another one, above 0 where it is worse."""

    other: int  # that may be behind, by its trial of the search
    rounds: tuple[int, ...]  # that both have
    behind: Values  # by round, (n,)
    resolution: float  # of a difference

    @property
    def error(self) -> float:
        """Standard error of the mean difference; there must be two rounds."""
        return spread(self.behind, self.resolution) / math.sqrt(len(self.behind))


def rounds_of(arm: Arm) -> set[int]:
    """Those that are complete."""
    return {repeat.round for repeat in arm.repeats}


def tests_of(arm: Arm, rounds: Collection[int] | None = None) -> Values:
    """Scores on the test examples by round, (n,)."""
    return np.array([one.test for one in _in(arm, rounds)], dtype=np.float64)


def mean_of(arm: Arm, rounds: Collection[int]) -> float:
    """Mean score on the test examples over those of the rounds that the arm has."""
    return float(tests_of(arm, rounds).mean())


def resolution_of(arm: Arm) -> float:
    """The step between two possible scores of the arm."""
    return max((repeat.resolution for repeat in arm.repeats), default=0.0)


def paired(one: Arm, other: Arm, direction: Direction, rounds: Collection[int] | None = None) -> Pair:
    """How far `other` is behind `one` in the rounds that both have, of those asked for."""
    common = sorted((rounds_of(one) & rounds_of(other)) & set(rounds if rounds is not None else rounds_of(one)))
    sign = 1.0 if direction == "maximize" else -1.0
    # Two roundings are in a difference: their variances add up.
    resolution = math.hypot(resolution_of(one), resolution_of(other))
    return Pair(other.trial, tuple(common), sign * (tests_of(one, common) - tests_of(other, common)), resolution)


def have_scores(arms: Collection[Arm], rounds: Collection[int], metric: str) -> bool:
    """Whether all their runs in those rounds have finite scores of each of the same test examples, two at least."""
    found = [repeat.examples for arm in arms for repeat in _in(arm, rounds)]
    known = [one for one in found if one is not None]
    if len(known) < len(arms) * len(rounds) or not known or len(known[0]) < 2:
        return False
    return all(one.are_those_of(known[0]) for one in known[1:]) and all(one.has_scores(metric) for one in known)


def scores_of(arm: Arm, rounds: Collection[int], metric: str) -> Iterator[Values]:
    """The scores of the test examples (N,), a round at a time: those of all rounds would fill the memory."""
    return (one.examples.scores(metric) for one in _in(arm, rounds) if one.examples is not None)


def _in(arm: Arm, rounds: Collection[int] | None) -> list[Repeat]:
    return [repeat for repeat in arm.repeats if rounds is None or repeat.round in rounds]
