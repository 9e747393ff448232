"""Metrics, threshold, loss and per-example scores of labels, against torchmetrics, autograd and leaving examples out in truth."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as oracle
from torch import Tensor

from trainer.targets.labels.config import joined, names_of, parted
from trainer.targets.labels.measures import (
    THRESHOLDS,
    HeadsLabelLoss,
    balanced_weights,
    choose_thresholds,
    count,
    losses_of,
    predict,
)
from trainer.targets.labels.reader import NO_LABEL, OTHERS, LabelReader
from trainer.targets.labels.scores import LabelPredictions
from trainer.targets.ranking import ranking, sorted_by_label

LABELS = 5


def logits(models: int = 3, examples: int = 60, *, ties: bool = False) -> tuple[Tensor, Tensor]:
    """Logits [M, N, L] that follow labels [N, L] of unequal frequency; with ties many logits are equal."""
    generator = torch.Generator().manual_seed(5)
    actual = torch.rand((examples, LABELS), generator=generator) < torch.tensor([0.5, 0.3, 0.2, 0.15, 0.1])
    found = torch.randn((models, examples, LABELS), generator=generator) + 2 * actual - 1
    return (found.mul(2).round().div(2) if ties else found), actual


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_those_of_torchmetrics(ties: bool) -> None:
    found, actual = logits(ties=ties)
    thresholds = [0.3, 0.51, 0.62]  # no probability equals one: torchmetrics predicts a label only above it
    counts, (areas, precisions) = count(predict(found, thresholds), actual), ranking(sorted_by_label(found, actual))
    for model, threshold in enumerate(thresholds):
        own, options = found[model].sigmoid(), {"num_labels": LABELS, "threshold": threshold}
        for name in ("f1", "precision", "recall"):
            of_torchmetrics = getattr(oracle, f"multilabel_{name}_score" if name == "f1" else f"multilabel_{name}")
            for average, value in (("macro", getattr(counts, name)), ("micro", getattr(counts.total, name))):
                assert float(value[model].mean()) == pytest.approx(
                    float(of_torchmetrics(own, actual, average=average, **options)), rel=1e-6
                )
        area = oracle.multilabel_auroc(own, actual, LABELS, average="none")
        precision = oracle.multilabel_average_precision(own, actual, LABELS, average="none")
        torch.testing.assert_close(areas[model], area.double(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(precisions[model], precision.double(), rtol=1e-5, atol=1e-6)


def test_a_ranking_is_not_defined_without_examples_of_both_kinds() -> None:
    found, actual = logits(1, 20)
    actual[:, 0], actual[:, 1], actual[::2, 2:] = False, True, True
    areas, precisions = ranking(sorted_by_label(found, actual))
    assert areas[0].isnan().tolist() == [True, True, False, False, False]
    assert precisions[0].isnan().tolist() == [True, False, False, False, False] and precisions[0, 1] == 1


def test_the_threshold_has_the_largest_macro_f1() -> None:
    found, actual = logits(4, 200)
    for model, threshold in enumerate(choose_thresholds(sorted_by_label(found, actual))):
        scores = {one: float(count(predict(found[model : model + 1], [one]), actual).f1.mean()) for one in THRESHOLDS}
        best = max(scores.values())
        assert scores[threshold] == pytest.approx(best, abs=1e-12)
        assert abs(threshold - 0.5) == pytest.approx(min(abs(one - 0.5) for one, score in scores.items() if score >= best - 1e-12))


def test_many_models_have_the_values_that_each_has_alone() -> None:
    found, actual = logits(5, 80)
    together = sorted_by_label(found, actual)
    alone = [sorted_by_label(found[model : model + 1], actual) for model in range(5)]
    assert choose_thresholds(together) == [choose_thresholds(own)[0] for own in alone]
    for one, others in zip(ranking(together), zip(*map(ranking, alone), strict=True), strict=True):
        assert torch.equal(one, torch.cat(others))


def test_a_model_with_nan_among_its_logits_does_not_disturb_the_others() -> None:
    found, actual = logits(2, 40)
    expected = ranking(sorted_by_label(found[1:], actual))
    found[0, 3, 2] = torch.nan
    assert all(torch.equal(one[1:], other) for one, other in zip(ranking(sorted_by_label(found, actual)), expected, strict=True))


@pytest.mark.parametrize("first", [0, 1])
def test_gradients_written_by_hand_are_those_of_autograd(first: int) -> None:
    found, actual = logits(3, 24)
    outputs = found.transpose(1, 2).contiguous().requires_grad_()
    weighted, weights = [False, True, False], balanced_weights(actual)
    means, slope = HeadsLabelLoss(weighted, weights).of(first, 3)(outputs.detach()[first:], actual)
    for member in range(first, 3):
        own = losses_of(outputs[member].T, actual, weights if weighted[member] else None).mean()
        (expected,) = torch.autograd.grad(own, outputs)
        torch.testing.assert_close(means[member - first], own.detach())
        torch.testing.assert_close(slope[member - first], expected[member])


def test_the_balanced_weight_is_the_number_of_examples_without_for_each_with() -> None:
    actual = torch.tensor([[True, False], [False, False], [False, True], [True, True]])
    assert balanced_weights(actual).tolist() == [1.0, 1.0]
    assert balanced_weights(actual[:3]).tolist() == [2.0, 2.0]


def value(one: LabelPredictions, metric: str, rows: np.ndarray) -> float:
    """The metric as the trainer measures it, of these examples."""
    actual, predicted, found = (torch.tensor(column[rows]) for column in (one.actual, one.predicted, one.logits))
    counts = count(predicted[None], actual)
    match metric:
        case "loss":
            return float(losses_of(found, actual).mean())
        case "hamming":
            return float((actual != predicted).double().mean())
        case "subset_accuracy":
            return float((actual == predicted).all(1).double().mean())
        case "auroc" | "average_precision":
            return float(ranking(sorted_by_label(found[None], actual))[metric == "average_precision"].nanmean())
    named = counts.total if metric.startswith("micro_") else counts
    return float(getattr(named, metric.removeprefix("micro_")).mean())


def predictions(examples: int, *, ties: bool = False) -> LabelPredictions:
    found, actual = logits(1, examples, ties=ties)
    return LabelPredictions(actual=actual.numpy(), predicted=predict(found, [0.4])[0].numpy(), logits=found[0].double().numpy())


EVERY = (
    "f1", "precision", "recall", "micro_f1", "micro_precision", "micro_recall", "hamming", "subset_accuracy", "auroc", "average_precision",
    "loss",
)  # fmt: skip


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("metric", EVERY)
def test_an_examples_score_is_what_leaving_it_out_shows(metric: str, ties: bool) -> None:
    one, everyone = predictions(40, ties=ties), np.arange(40)
    whole = value(one, metric, everyone)
    left_out = [40 * whole - 39 * value(one, metric, np.delete(everyone, place)) for place in everyone]
    assert one.scores(metric) == pytest.approx(left_out, abs=1e-8)


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
def test_a_label_of_one_example_counts_where_it_is_there(metric: str) -> None:
    one, everyone = predictions(30), np.arange(30)
    one.actual[:, 4] = everyone == 7
    whole = value(one, metric, everyone)
    left_out = [30 * whole - 29 * value(one, metric, np.delete(everyone, place)) for place in everyone]
    assert one.scores(metric) == pytest.approx(left_out, abs=1e-8)


@pytest.mark.parametrize("metric", EVERY)
def test_the_mean_of_the_scores_is_the_metric(metric: str) -> None:
    one = predictions(3_000)
    assert one.scores(metric).mean() == pytest.approx(value(one, metric, np.arange(3_000)), abs=3e-3)


@pytest.mark.parametrize(
    ("cell", "names"),
    [("", ()), ("  ", ()), ("cat", ("cat",)), ("dog|cat", ("cat", "dog")), (" dog | cat |dog", ("cat", "dog")), ("NA|01", ("01", "NA"))],
)
def test_a_cell_is_a_set_of_names(cell: str, names: tuple[str, ...]) -> None:
    assert names_of(cell, "|") == names
    assert parted(joined(names)) == names


@pytest.mark.parametrize("cell", ["|", "cat|", "|cat", "cat||dog"])
def test_an_empty_name_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="empty label name"):
        names_of(cell, "|")


def shares(validation: float = 0.2, test: float = 0.0) -> Any:
    return SimpleNamespace(validation=validation, test=test)


def targets(**numbers: int) -> dict[str, Counter[Any]]:
    """Counts of targets, without parts; the names of a set are joined by _."""
    return {joined(sorted(name.split("_"))) if name != "none" else "": Counter({None: number}) for name, number in numbers.items()}


def test_an_example_is_in_the_stratum_of_its_rarest_label() -> None:
    found = LabelReader().strata(targets(cat=40, cat_dog=20, dog_eel=10, none=9), shares(), ())
    assert found.names == (NO_LABEL, "cat", "dog", "eel") and found.merged == 0
    assert {target: found.names[place] for target, place in found.of.items()} == {
        "cat": "cat", joined(["cat", "dog"]): "dog", joined(["dog", "eel"]): "eel", "": NO_LABEL,
    }  # fmt: skip


def test_rare_strata_are_one_and_counted() -> None:
    found = LabelReader().strata(targets(cat=40, dog=20, eel=2, fox=3, gnu=1), shares(), ())
    assert found.names == ("cat", "dog", OTHERS) and found.merged == 3
    alone = LabelReader().strata(targets(cat=40, dog=20, gnu=1), shares(), ())
    assert alone.names == ("cat", OTHERS) and alone.merged == 2, "one example cannot be divided, so the next stratum is merged with it"
    assert LabelReader().strata(targets(cat=2, dog=1), shares(), ()).names == (OTHERS,)


def test_a_stratum_that_a_given_part_lacks_is_merged() -> None:
    counts: dict[str, Counter[Any]] = {
        name: Counter({"train": 50, "test": number}) for name, number in (("cat", 10), ("dog", 10), ("eel", 0))
    }
    found = LabelReader().strata(counts, shares(), ("train", "test"))
    assert found.names == ("dog", OTHERS) and found.merged == 2, "of equal size, the first by name is merged with it"
    assert LabelReader().strata(counts, shares(), ("train", "validation", "test")).names == (OTHERS,), "nothing is drawn"
