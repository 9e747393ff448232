"""From trials to what is compared: which runs count, what they tell, and what they cost."""

from typing import Any

import numpy as np
import pytest

from service.confirmation.race import Arm, arms_of
from service.domain.records import CONFIRMATION, Confirmation, Trial
from service.domain.states import TrialState
from tests.operations.driving import TEST_IMAGES, scored, spec_of
from trainer.targets.classes.predictions import Predictions

TOLD = {
    "params": {"lr": 0.5},
    "value_kind": "finite",
    "metrics": {},
    "step": 3,
    "attempt": 1,
    "reason": None,
    "detail": None,
    "worker": None,
}
BLANK = {"duplicate_of": None, "changed": 1, "checkpoints": (), "queued_at": 0.0, "started_at": None, "finished_at": None}


def trial(number: int, **changes: Any) -> Trial:
    """A trial of the search, complete."""
    known = {"id": number, "study": "s", "number": number, "state": TrialState.COMPLETE, "value": 0.9, "source": "sampler"}
    return Trial(**{**TOLD, **BLANK, **known, **changes})


def repeat(round: int, test: float | None = 0.8, **changes: Any) -> Trial:
    """Trial 4 trained again; None for a run that was not scored."""
    reported = scored(0.7, test or 0.0).test
    result: dict[str, Any] = {"trainable": 1_000, "train_seconds": 10.0 * round, "peak_memory": 5 * round}
    if test is not None and reported is not None:
        result |= {"test": reported.flat()}
    known = {"value": 0.7, "source": CONFIRMATION, "confirms": 4, "round": round, "result": result}
    return trial(100 + round, **{**known, **changes})


def arm(*repeats: Trial, **changes: Any) -> Arm:
    (found,) = arms_of(spec_of(**changes), Confirmation(arms=(4,), baseline=0), [trial(4)], repeats)
    return found


def test_an_arm_has_its_scores_by_round_and_the_median_of_its_costs() -> None:
    found = arm(repeat(3, 0.9), repeat(1, 0.8), repeat(2, 0.7))
    assert [(one.round, one.test, one.validation) for one in found.repeats] == [(1, 0.8, 0.7), (2, 0.7, 0.7), (3, 0.9, 0.7)]
    assert found.cost is not None
    assert (found.cost.trainable, found.cost.train_seconds, found.cost.peak_memory) == (1_000, 20.0, 10)
    assert (found.searched, found.baseline, found.open, found.failed) == (0.9, False, 0, None)


def test_images_are_those_of_the_confusion_matrix_in_its_order() -> None:
    (one,) = arm(repeat(1, 0.8)).repeats
    assert isinstance(one.examples, Predictions)
    assert (one.examples.actual == one.examples.predicted).mean() == pytest.approx(0.8)
    assert np.bincount(one.examples.actual).tolist() == [TEST_IMAGES // 2] * 2


def test_the_step_between_two_scores_is_one_image_and_a_loss_has_none() -> None:
    (one,) = arm(repeat(1)).repeats
    assert one.resolution == 1 / TEST_IMAGES
    (one,) = arm(repeat(1), objective={"metric": "loss", "direction": "minimize"}).repeats
    assert (one.resolution, one.test) == (0.0, 0.5)


@pytest.mark.parametrize(
    "lost",
    [
        repeat(2, None),
        repeat(2, value=1.5),
        repeat(2, value=float("nan")),
        repeat(2, state=TrialState.FAILED, value=None, detail="the loss was nan"),
    ],
    ids=["not scored", "more than all", "not a number", "failed"],
)
def test_a_run_without_a_score_that_can_be_puts_its_arm_out(lost: Trial) -> None:
    found = arm(repeat(1), lost)
    assert [one.round for one in found.repeats] == [1]
    assert found.failed is not None and "trial 102, round 2" in found.failed


def test_a_run_that_was_cancelled_is_as_if_it_had_never_been_and_an_open_one_is_waited_for() -> None:
    found = arm(repeat(1), repeat(2, state=TrialState.CANCELLED, value=None), repeat(3, None, state=TrialState.RUNNING, value=None))
    assert ([one.round for one in found.repeats], found.open, found.failed) == ([1], 1, None)


def test_of_runs_that_shared_a_pass_each_has_its_share_of_the_time() -> None:
    shared = repeat(1)
    found = arm(repeat(1, result={**shared.result, "reuse": {"lanes": 4}}))
    assert found.cost is not None and found.cost.train_seconds == 2.5
