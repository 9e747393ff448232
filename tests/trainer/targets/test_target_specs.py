"""What the targets state without a model: the constant prediction, as the trainer would measure it, and sections of the card."""

import base64
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from trainer.configuration import DatasetInfo
from trainer.targets.classes.config import ClassReport
from trainer.targets.classes.measuring import tallies_of
from trainer.targets.examples import MOST_WORST, NamedExample
from trainer.targets.labels.card import LabelSummary
from trainer.targets.labels.config import LabelTestReport
from trainer.targets.labels.measures import HeadsLabelLoss, count, losses_of
from trainer.targets.numbers.config import NumberFacts, NumberReport, NumberTestReport
from trainer.targets.numbers.measures import HeadsNumberLoss, measure
from trainer.targets.numbers.spec import METRICS
from trainer.targets.numbers.target import facts_of
from trainer.tasks.image_classification.config import ImageClassificationInfo
from trainer.tasks.image_classification.task import TASK as CLASSES_TASK
from trainer.tasks.image_multilabel.config import ImageMultilabelInfo
from trainer.tasks.image_multilabel.spec import SPEC as LABELS
from trainer.tasks.image_multilabel.task import TASK as LABELS_TASK
from trainer.tasks.image_regression.config import ImageRegressionInfo
from trainer.tasks.image_regression.spec import SPEC as NUMBERS
from trainer.tasks.image_regression.task import TASK as NUMBERS_TASK

DIGESTS: dict[str, Any] = {"fingerprint": "f", "split": "s", "weights_sha256": None}
VALUES = torch.tensor([1.0, 2.0, 2.0, 5.0, 20.0], dtype=torch.float64)
ACTUAL = torch.tensor([[True, False, True], [True, False, False], [False, False, False], [True, True, False]])


def named(places: Sequence[int]) -> list[NamedExample]:
    return [NamedExample(name=str(place)) for place in places]


def facts(values: torch.Tensor = VALUES) -> DatasetInfo:
    found: NumberFacts = facts_of(values)
    return ImageRegressionInfo(
        images={"train": len(values), "validation": len(values)}, numbers={"train": found, "validation": found}, **DIGESTS
    )


def labels() -> DatasetInfo:
    counts = {"validation": tuple(ACTUAL.sum(0).tolist())}
    return ImageMultilabelInfo(
        images={"validation": len(ACTUAL)}, labels=("a", "b", "c"), label_counts=counts, without_labels={"validation": 1}, **DIGESTS
    )


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
def test_the_constant_number_scores_what_is_measured_of_it(metric: str) -> None:
    found = NUMBERS.constant(facts(), "validation", metric)
    assert found is not None
    (measured,) = measure(torch.full((1, len(VALUES)), float(found.label), dtype=torch.float64), VALUES)
    assert found.value == pytest.approx(measured[metric])
    shifted = measure(torch.full((1, len(VALUES)), float(found.label) + 0.5, dtype=torch.float64), VALUES)[0][metric]
    assert (shifted < found.value) if metric == "r2" else (shifted > found.value), "no other constant is better"


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_a_constant_number_has_no_correlation_to_compare_with(metric: str) -> None:
    assert NUMBERS.constant(facts(), "validation", metric) is None
    assert NUMBERS.constant(facts(), "test", "rmse") is None


@pytest.mark.parametrize(
    "metric", ["f1", "precision", "recall", "micro_f1", "micro_precision", "micro_recall", "hamming", "subset_accuracy", "loss"]
)
def test_the_constant_set_scores_what_is_measured_of_it(metric: str) -> None:
    found = LABELS.constant(labels(), "validation", metric)
    assert found is not None and "A label applies on average to " in found.sentence

    def value(predicted: torch.Tensor) -> float:
        counts = count(predicted[None], ACTUAL)
        match metric:
            case "hamming":
                return float((predicted != ACTUAL).double().mean())
            case "subset_accuracy":
                return float((predicted == ACTUAL).all(1).double().mean())
        named = counts.total if metric.startswith("micro_") else counts
        return float(getattr(named, metric.removeprefix("micro_")).mean())

    if metric == "loss":
        logits = ACTUAL.double().mean(0).logit().expand(ACTUAL.shape)
        assert found.value == pytest.approx(float(losses_of(logits, ACTUAL).mean()))
    else:
        every, none = value(torch.ones_like(ACTUAL)), value(torch.zeros_like(ACTUAL))
        assert found.value == pytest.approx(min(every, none) if metric == "hamming" else max(every, none))


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
def test_a_constant_set_has_no_ranking_to_compare_with(metric: str) -> None:
    assert LABELS.constant(labels(), "validation", metric) is None


def test_the_card_has_the_mean_of_the_runs_and_lacks_what_no_run_reported() -> None:
    quantiles = (-2.0, -1.0, 0.0, 1.0, 2.0)
    reports = [NumberReport(residual_quantiles=tuple(factor * one for one in quantiles)).model_dump() for factor in (1, 2)]
    summary = NUMBERS.summary(facts(), reports)
    assert summary.residuals is not None and summary.residuals.quantiles == (-3.0, -1.5, 0.0, 1.5, 3.0)
    section = NUMBERS.card_results(facts(), summary, "on the test rows")
    assert section is not None and "on the test rows" in str(section.blocks[0])
    assert NUMBERS.card_results(facts(), NUMBERS.summary(facts(), []), "") is None
    assert LABELS.card_results(labels(), LabelSummary(), "") is None


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e38])
def test_a_run_whose_outputs_are_not_finite_has_a_report(value: float) -> None:
    outputs = torch.zeros((1, len(VALUES), 1))
    outputs[0, 2] = value
    (found,) = NUMBERS_TASK.measure(outputs, VALUES, facts(), examples=True, names=named)
    assert not METRICS["rmse"].holds(found.metrics["rmse"]) and found.report().model_dump(mode="json")["worst_numbers"][0]["name"] == "2"
    logits = torch.zeros((1, *ACTUAL.shape))
    logits[0, 1, 1] = value
    (labelled,) = LABELS_TASK.measure(logits, ACTUAL, labels(), examples=True, names=named)
    assert labelled.report().model_dump(mode="json")["per_label"].keys() == {"a", "b", "c"}
    outputs = torch.eye(3)[None] + torch.zeros((1, 3, 3))
    outputs[0, 0, 1] = value
    report = reported(outputs.transpose(1, 2), torch.tensor([2, 1, 2]))
    assert all(0 <= one.target_probability <= one.probability <= 1 for one in report.worst_classes if value == 1e38)


def reported(logits: torch.Tensor, actual: torch.Tensor) -> ClassReport:
    """The report of logits [1, C, N] and classes [N]."""
    classes = tuple(f"class {number}" for number in range(logits.shape[1]))
    info = ImageClassificationInfo(classes=classes, images={"validation": len(actual)}, **DIGESTS)
    (found,) = CLASSES_TASK.measure(tallies_of(logits, actual), actual, info, names=named)
    return ClassReport.model_validate(found.report().model_dump(mode="json"))


@pytest.mark.parametrize("classes", [3, 100])
def test_the_wrong_predictions_with_the_least_probability_of_the_truth_are_named(classes: int) -> None:
    random = torch.Generator().manual_seed(0)
    logits, actual = torch.randn((1, classes, 60), generator=random), torch.randint(0, classes, (60,), generator=random)
    shares = logits[0].softmax(0)
    truth, predicted = shares.gather(0, actual[None])[0], shares.argmax(0)
    wrong = [row for row in truth.argsort().tolist() if predicted[row] != actual[row]][:MOST_WORST]
    found = reported(logits, actual).worst_classes
    assert [one.name for one in found] == [str(row) for row in wrong] and len(found) == MOST_WORST
    assert [one.target for one in found] == [f"class {int(actual[row])}" for row in wrong]
    assert [one.predicted for one in found] == [f"class {int(predicted[row])}" for row in wrong]
    assert [one.target_probability for one in found] == pytest.approx(truth[wrong].tolist(), abs=1e-6)
    assert [one.probability for one in found] == pytest.approx(shares.amax(0)[wrong].tolist(), abs=1e-6)


def test_without_a_wrong_prediction_none_is_named() -> None:
    assert reported(torch.eye(3)[None], torch.arange(3)).worst_classes == ()


def coded(count: int) -> str:
    return base64.b64encode(bytes(count)).decode()


@pytest.mark.parametrize(
    "values",
    [
        {"residual_values": coded(8)}, {"residual_values": coded(8), "target_values": coded(4)},
        {"residual_values": "?", "target_values": "?"},
        {"residual_values": coded(6), "target_values": coded(6)}, {"residual_values": "", "target_values": ""},
    ],
)  # fmt: skip
def test_a_report_with_values_of_unequal_length_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="four bytes"):
        NumberTestReport.model_validate({"residual_quantiles": (0.0,) * 5, **values})


@pytest.mark.parametrize(("bits", "logits"), [(2, 12), (1, 10), (1, 0), (0, 12), (2, 16)])
def test_a_report_with_bits_of_another_length_than_its_logits_is_refused(bits: int, logits: int) -> None:
    scores = {"examples": 1, "predicted": 1, "hits": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    report = {"threshold": 0.5, "per_label": {name: scores for name in "abc"}}
    sound = {"target_bits": coded(1), "predicted_bits": coded(1), "logits": coded(12)}  # two examples with three labels
    assert LabelTestReport.model_validate({**report, **sound}).logits
    with pytest.raises(ValidationError, match="as many values"):
        LabelTestReport.model_validate({**report, "target_bits": coded(bits), "predicted_bits": coded(bits), "logits": coded(logits)})


def test_a_step_of_heads_together_asks_the_device_nothing() -> None:
    meta = torch.device("meta")  # values cannot be read there
    targets = torch.empty(32, dtype=torch.float64, device=meta)
    loss, slope = HeadsNumberLoss(["mse", "l1", "huber"], [1.0, 1.0, 0.5], 3.0, 2.0, meta)(torch.empty((3, 1, 32), device=meta), targets)
    assert loss.shape == (3,) and slope.shape == (3, 1, 32) and slope.dtype == torch.float32
    sets = torch.empty((32, 4), dtype=torch.bool, device=meta)
    loss, slope = HeadsLabelLoss([True, False, True], torch.ones(4, device=meta))(torch.empty((3, 4, 32), device=meta), sets)
    assert loss.shape == (3,) and slope.shape == (3, 4, 32) and slope.dtype == torch.float32
