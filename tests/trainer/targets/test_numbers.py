"""Metrics, losses and per-example scores of regression, against torchmetrics, autograd and leaving examples out in truth."""

import numpy as np
import pytest
import torch
import torchmetrics.functional as oracle
from scipy import stats
from torch import Tensor

from trainer.targets.numbers.config import number_of
from trainer.targets.numbers.measures import HeadsNumberLoss, loss_of, measure, standardised
from trainer.targets.numbers.scores import Residuals

METRICS = ("rmse", "mae", "r2", "pearson", "spearman")


def numbers(models: int = 3, examples: int = 60, *, ties: bool = False, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Predictions [M, N] that follow targets [N]; with ties both have equal values."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.randn(examples, generator=generator, dtype=torch.float64) * 4
    predicted = 0.7 * targets + torch.randn((models, examples), generator=generator, dtype=torch.float64) * 2 + 1
    if ties:
        targets, predicted = targets.round(), predicted.round()
    return predicted + offset, targets + offset


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_those_of_torchmetrics(ties: bool) -> None:
    predicted, targets = numbers(ties=ties)
    for found, own in zip(measure(predicted, targets), predicted, strict=True):
        expected = {
            "rmse": oracle.mean_squared_error(own, targets, squared=False),
            "mae": oracle.mean_absolute_error(own, targets),
            "r2": oracle.r2_score(own, targets),
            "pearson": oracle.pearson_corrcoef(own, targets),
            "spearman": torch.tensor(stats.spearmanr(own, targets).statistic),  # torchmetrics ranks ties of float32 only
        }
        assert found == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-9)


def test_metrics_keep_their_digits_far_from_0() -> None:
    near, far = (measure(*numbers(offset=offset))[0] for offset in (0.0, 1e7))
    assert far == pytest.approx(near, rel=1e-6)


def test_a_constant_has_no_correlation_and_constant_targets_no_r2() -> None:
    predicted, targets = torch.full((1, 8), 2.0, dtype=torch.float64), torch.arange(8.0, dtype=torch.float64)
    (found,) = measure(predicted, targets)
    assert found["pearson"] == found["spearman"] == 0 and found["r2"] < 0
    same = torch.full((8,), 2.0, dtype=torch.float64)
    assert [one["r2"] for one in measure(torch.stack([same, same + 1]), same)] == [1, 0]


def test_a_model_with_nan_has_no_finite_metric() -> None:
    predicted, targets = numbers()
    predicted[1, 5] = torch.nan
    found = measure(predicted, targets)
    assert all(np.isnan(found[1][name]) for name in METRICS)
    assert all(np.isfinite(found[0][name]) for name in METRICS)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("metric", ["rmse", "mae", "r2", "pearson"])
def test_an_examples_score_is_what_leaving_it_out_shows(metric: str, ties: bool) -> None:
    predicted, targets = numbers(1, 40, ties=ties)
    one = Residuals((predicted[0] - targets).numpy(), targets.numpy())
    whole = measure(predicted, targets)[0][metric]
    rows = torch.arange(40)
    without = [measure(predicted[:, rows != row], targets[rows != row])[0][metric] for row in rows]
    assert one.scores(metric) == pytest.approx(40 * whole - 39 * np.array(without), abs=1e-8)


@pytest.mark.parametrize("ties", [False, True])
def test_a_score_of_the_rank_correlation_nears_that_of_leaving_the_example_out(ties: bool) -> None:
    predicted, targets = numbers(1, 400, ties=ties)
    one = Residuals((predicted[0] - targets).numpy(), targets.numpy())
    whole, rows = measure(predicted, targets)[0]["spearman"], torch.arange(400)
    without = [measure(predicted[:, rows != row], targets[rows != row])[0]["spearman"] for row in rows]
    pseudo, scores = 400 * whole - 399 * np.array(without), one.scores("spearman")
    assert scores.mean() == pytest.approx(whole, abs=1e-12)
    assert scores.std() == pytest.approx(pseudo.std(), rel=0.02)
    assert np.corrcoef(scores, pseudo)[0, 1] > 0.999


@pytest.mark.parametrize("metric", METRICS)
def test_the_mean_of_the_scores_is_the_metric(metric: str) -> None:
    predicted, targets = numbers(1, 4_000)
    one = Residuals((predicted[0] - targets).numpy(), targets.numpy())
    assert one.scores(metric).mean() == pytest.approx(measure(predicted, targets)[0][metric], rel=2e-3)


def test_the_losses_are_those_of_torch() -> None:
    outputs, targets = torch.randn(9, generator=torch.Generator().manual_seed(0)) * 3, torch.zeros(9)
    assert torch.equal(loss_of(outputs, targets, "mse", 1.0), torch.nn.MSELoss(reduction="none")(outputs, targets))
    assert torch.equal(loss_of(outputs, targets, "l1", 1.0), torch.nn.L1Loss(reduction="none")(outputs, targets))
    assert torch.equal(loss_of(outputs, targets, "huber", 0.5), torch.nn.HuberLoss(reduction="none", delta=0.5)(outputs, targets))


@pytest.mark.parametrize("first", [0, 1, 2])
def test_gradients_written_by_hand_are_those_of_autograd(first: int) -> None:
    losses, deltas = ["mse", "huber", "l1", "huber"], [1.0, 0.4, 1.0, 2.0]
    generator = torch.Generator().manual_seed(1)
    targets = torch.randn(16, generator=generator, dtype=torch.float64) * 5 + 100
    outputs = torch.randn((4, 1, 16), generator=generator, requires_grad=True)
    found = HeadsNumberLoss(losses, deltas, 100.0, 5.0, torch.device("cpu")).of(first, 4)
    means, slope = found(outputs.detach()[first:], targets)
    for member in range(first, 4):
        own = loss_of(outputs[member, 0], standardised(targets, 100.0, 5.0), losses[member], deltas[member]).mean()
        (expected,) = torch.autograd.grad(own, outputs)
        torch.testing.assert_close(means[member - first], own.detach())
        torch.testing.assert_close(slope[member - first], expected[member])


@pytest.mark.parametrize(("text", "value"), [("3", 3.0), (" -1.5e3 ", -1500.0), ("-0", 0.0), ("\u22122", -2.0), ("007", 7.0), (".5", 0.5)])
def test_numbers_are_read(text: str, value: float) -> None:
    assert repr(number_of(text)) == repr(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "not a number"), ("three", "not a number"), ("1,5", "not a number"), ("1_000", "not a number"), ("NaN", "NaN"),
     ("inf", "infinite"), ("-Infinity", "infinite"), ("1e999", "infinite"), ("1e31", "too large")],
)  # fmt: skip
def test_texts_that_are_no_numbers_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        number_of(text)
