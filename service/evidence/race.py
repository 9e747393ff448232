"""The race: which arms are trained once more, and which are clearly worse already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.evidence.arms import Arm
from service.evidence.intervals import chance_of_no_less
from service.evidence.pairs import Pair, mean_of, paired, rounds_of
from trainer.configuration import Direction

FIRST_ROUNDS = 3  # of every arm, at once: on fewer nothing is decided
MISTAKEN = 0.05  # how often, at most, a race gives up the best


@dataclass(frozen=True, slots=True)
class Round:
    """A round of the confirmation: who takes part, by their trials of the search."""

    round: int
    arms: tuple[int, ...]


def next_round(arms: Sequence[Arm], direction: Direction, seeds: int) -> Round | None:
    """The round that follows when all that were queued have ended; None when there is nothing more to learn, or to spend.

    An arm with a failed run is out, and so is one that the race gave up or that lacks a round. The baseline stays: the uplift needs it.
    """
    done = _done(arms)
    if any(arm.open for arm in arms) or done >= seeds:
        return None
    lost = dropped(arms, direction, seeds)
    left = [arm for arm in arms if arm.failed is None and arm.trial not in lost and (arm.baseline or _has_all(arm, done))]
    return Round(done + 1, tuple(arm.trial for arm in left)) if left else None


def dropped(arms: Sequence[Arm], direction: Direction, seeds: int) -> Mapping[int, int]:
    """Of each arm that the race gave up, by its trial of the search, the round after which it did.

    After each round from FIRST_ROUNDS on, an arm goes that is worse than the best of those left by a one-sided paired t test. The level is
    shared out among rivals and looks (Bonferroni), so that the best goes in 5 % of races at most. What was decided on earlier rounds is
    found again from their runs: nothing of it is stored.
    Sources: Maron and Moore, NIPS 6, 1994; Birattari et al., GECCO 2002 (F-Race).
    """
    lost: dict[int, int] = {}
    for look in range(FIRST_ROUNDS, min(_decided(arms) + 1, seeds)):
        left = [arm for arm in arms if arm.trial not in lost and _has_all(arm, look)]
        worse = _clearly_worse(left, direction, look, _level(len(arms), seeds))
        lost |= {arm.trial: look for arm in left if arm.trial in worse and not _went_on(arm, look)}
    return lost


def _went_on(arm: Arm, look: int) -> bool:
    """Whether it was trained after that round: then it was not given up, whatever the test says today."""
    return arm.open > 0 or max(rounds_of(arm)) > look


def _level(arms: int, seeds: int) -> float:
    """Of each single test."""
    return MISTAKEN / (max(arms - 1, 1) * (seeds - FIRST_ROUNDS))


def _clearly_worse(left: Sequence[Arm], direction: Direction, look: int, level: float) -> list[int]:
    if len(left) < 2:
        return []
    rounds = range(1, look + 1)
    best = (max if direction == "maximize" else min)(left, key=lambda arm: mean_of(arm, rounds))
    rivals = [paired(best, arm, direction, rounds) for arm in left if arm is not best and not arm.baseline]
    return [pair.other for pair in rivals if _is_worse(pair, level)]


def _is_worse(pair: Pair, level: float) -> bool:
    return chance_of_no_less(pair.behind, pair.resolution) < level


def _done(arms: Sequence[Arm]) -> int:
    """The last round of which anything is known."""
    return max((max(rounds_of(arm), default=0) for arm in arms), default=0)


def _decided(arms: Sequence[Arm]) -> int:
    """The last round after which the race has decided: all its runs have ended, or later ones are queued."""
    done = _done(arms)
    waiting = [arm for arm in arms if arm.open]
    return done if not waiting or any(_has_all(arm, done) for arm in waiting) else done - 1


def _has_all(arm: Arm, last: int) -> bool:
    return rounds_of(arm) >= set(range(1, last + 1))
