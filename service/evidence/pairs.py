"""Two configurations, compared round by round: what is common to a round falls out of the difference."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce

import numpy as np

from service.evidence.arms import Arm, Repeat
from service.evidence.images import scores_by_image
from service.evidence.intervals import Values, spread
from trainer.contract import Direction


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
    """Scores on the test images by round, (n,)."""
    return np.array([one.test for one in _in(arm, rounds)], dtype=np.float64)


def mean_of(arm: Arm, rounds: Collection[int]) -> float:
    """Mean score on the test images over those of the rounds that the arm has."""
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


def images_of(arm: Arm, metric: str, rounds: Collection[int]) -> Values | None:
    """Mean over the rounds of each image's score, (N,); None where the runs do not tell of each image, or not of the same ones."""
    told = [one.images for one in _in(arm, rounds) if one.images is not None]
    if not told or len(told) < len(rounds) or len(told[0].actual) < 2:
        return None
    if any(not np.array_equal(one.actual, told[0].actual) for one in told[1:]):
        return None
    mean = reduce(np.add, (scores_by_image(one, metric) for one in told)) / len(told)
    return mean if np.isfinite(mean).all() else None


def _in(arm: Arm, rounds: Collection[int] | None) -> list[Repeat]:
    return [repeat for repeat in arm.repeats if rounds is None or repeat.round in rounds]
