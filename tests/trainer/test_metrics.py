"""Metrics against figures worked out by hand, and against torchmetrics."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.functional import classification as tm

from trainer.targets.classes.config import ClassReport
from trainer.targets.classes.measuring import PROBABILITIES, contributions, measure, tallies_of
from trainer.targets.classes.target import report_of
from trainer.tasks.image_classification.spec import SPEC

SHARES = ("precision", "recall", "f1")
ACTUAL = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = torch.tensor([0, 0, 0, 1, 1, 2, 2, 0])


def tallied(predicted: torch.Tensor, actual: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """Tallies without probabilities of classes, of predictions that are certain; [M, N, 4]."""
    certain = torch.ones_like(losses)
    return torch.stack((predicted.to(losses.dtype), losses, certain, (predicted == actual).to(losses.dtype)), -1)


def measured(predicted: torch.Tensor, actual: torch.Tensor, loss: float, classes: int) -> tuple[Mapping[str, float], ClassReport]:
    """Of one model whose loss is the same for each image."""
    (metrics,) = measure(tallied(predicted[None], actual, torch.full((1, len(actual)), loss)), actual, classes)
    return metrics, report_of(predicted, actual, "abcdef"[:classes])


def test_metrics_of_a_small_case_are_those_worked_out_by_hand() -> None:
    metrics, report = measured(PREDICTED, ACTUAL, 0.75, classes=3)
    assert report.confusion_matrix == ((3, 1, 0), (0, 1, 1), (1, 0, 1))
    assert report.per_class_recall == {"a": 0.75, "b": 0.5, "c": 0.5}
    assert metrics["accuracy"] == pytest.approx(5 / 8)
    assert metrics["recall"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert metrics["precision"] == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert metrics["f1"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert metrics["loss"] == 0.75


def test_a_class_that_is_never_predicted_counts_with_zero() -> None:
    metrics, report = measured(torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1]), 1.0, classes=2)
    assert metrics["precision"] == pytest.approx(0.25) and metrics["recall"] == pytest.approx(0.5)
    assert report.per_class_recall == {"a": 1.0, "b": 0.0}


def test_the_metrics_are_those_that_a_study_may_name() -> None:
    logits = torch.rand((1, 3, 8), generator=torch.Generator().manual_seed(0))
    assert measure(tallies_of(logits, ACTUAL), ACTUAL, 3)[0].keys() == SPEC.metrics.keys()
    assert SPEC.metrics.keys() - measured(PREDICTED, ACTUAL, 0.5, classes=3)[0].keys() == {"auroc", "average_precision"}


@pytest.mark.parametrize("seed", range(5))
def test_many_models_at_once_have_the_metrics_that_torchmetrics_gives_each(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    classes, lanes = 6, 4
    actual = torch.randint(0, classes - 1, (30,), generator=random)  # the last class has no image
    predicted = torch.randint(0, classes - seed % 2, (lanes, 30), generator=random)
    losses = torch.rand((lanes, 30), generator=random)
    for lane, metrics in enumerate(measure(tallied(predicted, actual, losses), actual, classes)):
        named = {
            "accuracy": ("accuracy", "micro"),
            "precision": ("precision", "macro"),
            "recall": ("recall", "macro"),
            "f1": ("f1_score", "macro"),
            **{f"{kind}_{name}": (f"{name}_score" if name == "f1" else name, kind) for kind in ("micro", "weighted") for name in SHARES},
            "matthews": ("matthews_corrcoef", None),
        }
        theirs = {
            name: float(
                getattr(tm, f"multiclass_{metric}")(
                    predicted[lane], actual, num_classes=classes, **({} if average is None else {"average": average})
                )
            )
            for name, (metric, average) in named.items()
        }
        shown = {name: metrics[name] for name in (*theirs, "loss")}
        assert shown == pytest.approx(theirs | {"loss": float(losses[lane].mean())}, abs=1e-6)
        report = report_of(predicted[lane], actual, "abcdef")
        recalls = list(report.per_class_recall.values())
        assert recalls == pytest.approx(tm.multiclass_recall(predicted[lane], actual, classes, average="none").tolist())
        assert list(map(list, report.confusion_matrix)) == tm.multiclass_confusion_matrix(predicted[lane], actual, classes).tolist()


@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (3, 1), (6, 2), (7, 3)])
def test_metrics_of_probabilities_are_those_of_torchmetrics(classes: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    actual = torch.cat((torch.arange(classes), torch.randint(0, classes, (60,), generator=random)))
    logits = torch.randn((3, classes, len(actual)), generator=random).round(decimals=1)  # with ties
    logits[0] = 0
    tallies = tallies_of(logits, actual)
    for model, shares, metrics in zip(logits, tallies[..., PROBABILITIES:], measure(tallies, actual, classes), strict=True):
        assert shares == pytest.approx(model.softmax(0).T, abs=1e-6)
        theirs = {
            "auroc": tm.multiclass_auroc(shares, actual, classes),
            "average_precision": tm.multiclass_average_precision(shares, actual, classes),
            "ece": tm.multiclass_calibration_error(shares, actual, classes, n_bins=15, norm="l1"),
            "balanced_accuracy": tm.multiclass_accuracy(shares, actual, classes, average="macro"),
        }
        if classes > 5 and model.any():  # of equal logits torchmetrics takes the first five classes
            theirs["top_5_accuracy"] = tm.multiclass_accuracy(shares, actual, classes, average="micro", top_k=5)
        assert {name: metrics[name] for name in theirs} == pytest.approx({name: float(one) for name, one in theirs.items()}, abs=1e-6)


def test_classes_without_examples_have_no_part_in_the_ranking() -> None:
    logits, actual = torch.randn((1, 4, 30), generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    (metrics,) = measure(tallies_of(logits, actual), actual, 4)
    shares = logits[0].softmax(0)
    aurocs = [float(tm.binary_auroc(shares[label], (actual == label).long())) for label in range(3)]
    assert metrics["auroc"] == pytest.approx(sum(aurocs) / 3, abs=1e-6)
    assert metrics["balanced_accuracy"] == pytest.approx(metrics["weighted_recall"])


@pytest.mark.parametrize("name", ["top_5_accuracy", "ece", "auroc", "average_precision"])
@pytest.mark.parametrize("single", [False, True], ids=["several of each class", "one class with one example"])
def test_an_examples_contribution_is_what_leaving_it_out_shows(name: str, single: bool) -> None:
    random = torch.Generator().manual_seed(5)
    actual = torch.randint(0, 3, (40,), generator=random)
    if single:
        actual[actual == 2] = 1
        actual[7] = 2
    logits = torch.randn((1, 3, 40), generator=random).round(decimals=1)
    logits[0, actual, torch.arange(40)] += 1
    tallies = tallies_of(logits, actual)
    whole, everyone = measure(tallies, actual, 3)[0][name], torch.arange(40)
    left_out = [40 * whole - 39 * measure(tallies[:, everyone != row], actual[everyone != row], 3)[0][name] for row in range(40)]
    assert contributions(tallies[0], actual)[name] == pytest.approx(left_out, abs=1e-6)


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most numbers in a tensor that an operation inside the `with` block returns."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.count = max(self.count, found.numel())
        return found


def test_the_counts_of_many_models_stay_small() -> None:
    """Confusion matrices of 64 models of 500 classes would hold 16 million numbers."""
    random, models, classes, images = torch.Generator().manual_seed(0), 64, 500, 1_000
    predicted, actual = (
        torch.randint(0, classes, (models, images), generator=random),
        torch.randint(0, classes, (images,), generator=random),
    )
    largest = Largest()  # type: ignore[no-untyped-call]
    with largest:
        measure(tallied(predicted, actual, torch.zeros(models, images)), actual, classes)
    assert 0 < largest.count <= 4 * models * max(classes, images)


def test_the_trainer_does_not_wait_for_torchmetrics_to_be_imported() -> None:
    code = "import sys, trainer.tasks.image_classification.task; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
