"""Which of a trial's checkpoints stay: the newest, and the best by the objective."""

import math
from typing import Any

import pytest

from service.domain.records import kept
from trainer.protocol import Checkpoint


def checkpoints(*steps: int) -> list[Checkpoint]:
    return [Checkpoint(step=step, path=f"/c/{step}", sha256="0" * 64, size=1) for step in steps]


@pytest.mark.parametrize(
    ("newest", "objective", "direction", "left"),
    [
        (2, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}, "maximize", [4, 3]),
        (2, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}, "minimize", [4, 3, 1]),
        (1, {1: 0.1, 2: 0.9, 3: 0.3, 4: 0.4}, "maximize", [4, 2]),
        (1, {1: 0.5, 2: 0.5, 3: 0.5, 4: 0.4}, "maximize", [4, 3]),  # of equal ones the newest
        (1, {1: math.nan, 2: math.inf, 3: 0.3}, "maximize", [4, 3]),
        (1, {1: math.nan, 2: -math.inf}, "minimize", [4]),
        (1, {}, "maximize", [4]),
    ],
)
def test_the_newest_and_the_best_stay(newest: int, objective: dict[int, float], direction: Any, left: list[int]) -> None:
    assert [one.step for one in kept(checkpoints(4, 3, 2, 1), newest, objective, direction)] == left


def test_few_are_all_kept() -> None:
    assert kept(checkpoints(4), 2, {}, "maximize") == tuple(checkpoints(4)) and kept([], 1, {}, "minimize") == ()
