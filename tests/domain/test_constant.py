"""Results beside what always answering the largest class scores."""

import math

import pytest
import torch

from service.domain.spec import Objective
from service.domain.verdict import Estimate, Verdict, constant_of
from trainer.targets.classes.measuring import measure, tallies_of
from trainer.tasks.image_classification.config import ImageClassificationInfo
from trainer.tasks.image_classification.spec import SPEC

FACTS = ImageClassificationInfo(
    classes=("noise", "cat", "dog"), images={"train": 8, "validation": 100, "test": 100}, fingerprint="", split="", weights_sha256=None,
    class_counts={"train": (6, 1, 1), "validation": (95, 3, 2), "test": (90, 5, 5)},
)  # fmt: skip


@pytest.mark.parametrize("metric", [name for name in SPEC.metrics if name not in ("loss", "ece")])
def test_values_are_those_that_the_trainer_measures(metric: str) -> None:
    actual = torch.tensor([0] * 95 + [1] * 3 + [2] * 2)
    logits = torch.tensor([0.95, 0.03, 0.02]).log()[None, :, None].expand(1, 3, 100)
    measured = measure(tallies_of(logits, actual), actual, 3)[0][metric]
    found = constant_of(FACTS, "validation", metric)
    assert found is not None and found.score.value == pytest.approx(measured) and (found.score.label, found.score.share) == ("noise", 0.95)


def test_no_constant_prediction_is_named_for_the_calibration_error() -> None:
    assert constant_of(FACTS, "validation", "ece") is None


def test_the_loss_is_that_of_answering_the_shares() -> None:
    found = constant_of(FACTS, "validation", "loss")
    assert found is not None and found.score.value == pytest.approx(-sum(p * math.log(p) for p in (0.95, 0.03, 0.02)))
    assert found.judged(0.1) is None and "not better" in str(found.judged(0.3))


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ((30, 20, 10), "The largest class, noise, has 50.0 % of the validation images. Always answering it gives accuracy 50.0 %."),
        ((20, 20, 20), "Each of the 3 classes has 33.3 % of the validation images. Always answering one of them gives accuracy 33.3 %."),
        (
            (10, 20, 20),
            "Each of the 2 largest classes, cat and dog, has 40.0 % of the validation images. Always answering one of them gives accuracy "
            "40.0 %.",
        ),
    ],
)
def test_of_equal_classes_none_is_called_the_largest(counts: tuple[int, ...], sentence: str) -> None:
    found = constant_of(FACTS.model_copy(update={"class_counts": {"validation": counts}}), "validation", "accuracy")
    assert found is not None and found.score.sentence == sentence


def test_class_weights_are_no_advice_where_the_classes_are_equal_in_training_too() -> None:
    for train, advised in (((40, 40, 40), False), ((60, 40, 20), True)):
        facts = FACTS.model_copy(update={"class_counts": {"train": train, "validation": (10, 10, 10)}})
        found = constant_of(facts, "validation", "accuracy")
        assert found is not None and ("class_weights" in found.score.advice) == advised


def test_a_best_value_that_is_not_above_is_said_so_with_the_metrics_that_suit() -> None:
    found = constant_of(FACTS, "validation", "accuracy")
    assert found is not None and "noise, has 95.0 % of the validation images" in found.score.sentence
    assert found.judged(0.96) is None
    for value in (0.95, 0.94):
        reported = str(found.judged(value))
        assert (
            "not better" in reported and "Recall" in reported and "balanced accuracy" in reported and "class_weights: balanced" in reported
        )


def verdict(low: float, high: float, metric: str = "accuracy") -> Verdict:
    interval = Estimate(value=(low + high) / 2, low=low, high=high)
    objective = Objective(metric=metric, direction=SPEC.metrics[metric].direction)
    return Verdict(state="done", objective=objective, seeds=3, test_images=100, arms=(), expected=interval, new_images=interval)


@pytest.mark.parametrize(("low", "high", "better"), [(0.91, 0.97, True), (0.88, 0.95, False), (0.90, 0.95, False), (0.80, 0.85, False)])
def test_a_confirmed_result_is_better_where_its_whole_interval_is(low: float, high: float, better: bool) -> None:
    found = constant_of(FACTS, "test", "accuracy")
    assert found is not None
    reported = str(found.confirmed(verdict(low, high)))
    assert "90.0 % of the test images" in reported and ("is not better beyond its uncertainty" in reported) is not better


def test_facts_of_version_0_1_have_no_counts() -> None:
    assert constant_of(FACTS.model_copy(update={"class_counts": None}), "validation", "accuracy") is None
    assert constant_of(None, "validation", "accuracy") is None
