"""The verdict of a confirmation, a pure function of its arms."""

from collections.abc import Sequence
from typing import Literal

from service.domain.spec import Objective
from service.domain.verdict import Verdict
from service.evidence.arms import Arm


def judge(
    arms: Sequence[Arm], objective: Objective, *, seeds: int, test_images: int, state: Literal["running", "done", "stopped"]
) -> Verdict:
    """What the runs so far say."""
    raise NotImplementedError
