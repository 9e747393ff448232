"""The Target of numbers, the half with torch: standardisation, loss, metrics and reports."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainer.configuration import DatasetInfo, TrainConfig, narrowing
from trainer.data.dataset import PARTS, Dataset
from trainer.data.targets import HasTargets, TargetValue
from trainer.targets.encoding import encode
from trainer.targets.examples import MOST_WORST
from trainer.targets.numbers.config import (
    MOST_BINS,
    MOST_MAGNITUDE,
    MOST_SCORED,
    QUANTILES,
    NumberBin,
    NumberFacts,
    NumberHyperparameters,
    NumberReport,
    NumberTestReport,
    WrongNumber,
)
from trainer.targets.numbers.measures import HeadsNumberLoss, loss_of, measure, standardised
from trainer.targets.numbers.spec import number_info
from trainer.tasks.base import Decision, Measurement, Names
from trainer.tasks.composition import ComposedTask

LEAST_IN_A_BIN = 5  # examples


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLoss:
    """Settings of the loss."""

    loss: str
    delta: float  # of the huber loss
    mean: float  # of the training targets; likewise std
    std: float


class NumbersTarget(ComposedTask):
    """One number for each example. The network's output is the number in standard deviations from the mean, of the training targets."""

    def facts(self, dataset: Dataset) -> Mapping[str, Any]:
        """Mean, deviation and range of the targets of each part."""
        targets = self.targets(dataset)
        return {"numbers": {part: facts_of(targets[rows]) for part in PARTS if (rows := dataset.rows(part))}}

    def targets(self, dataset: Dataset) -> Tensor:
        """Numbers in the unit of the data, float64 [N]."""
        if not isinstance(dataset, HasTargets) or any(not isinstance(target, float) for target in dataset.targets):
            raise TypeError(f"{type(dataset).__name__} has no numbers")
        return torch.tensor([target for target in dataset.targets if isinstance(target, float)], dtype=torch.float64)

    def loss_settings(self, config: TrainConfig, targets: Tensor, info: DatasetInfo) -> NumberLoss:
        """The kind of the loss, and the standardisation."""
        mean, std = number_info(info).scale
        return NumberLoss(loss=_asked(config).loss, delta=_asked(config).huber_delta, mean=mean, std=std)

    def loss_of(self, outputs: Tensor, targets: Tensor, settings: NumberLoss) -> tuple[Tensor, Tensor]:
        """The loss of each example in standardised units [B], and weights of 1 [B]."""
        losses = loss_of(outputs[:, 0], standardised(targets, settings.mean, settings.std), settings.loss, settings.delta)
        return losses, torch.ones_like(losses)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The outputs [B, 1]: they have fewer digits in the unit of the data if its mean is large."""
        return outputs

    def measure(
        self,
        tallies: Tensor,
        targets: Tensor,
        info: DatasetInfo,
        *,
        examples: bool = False,
        names: Names | None = None,
        decisions: Sequence[Decision] | None = None,
    ) -> Sequence[Measurement]:
        """Outputs [M, N, 1] and targets [N] → root mean squared and mean absolute error, R², and correlations of values and of ranks."""
        predicted = _in_unit(tallies[..., 0], info)
        report = _test_report if examples else _report
        # A report has finite numbers alone. The metrics of such a run are not finite.
        finite = predicted.nan_to_num(nan=MOST_MAGNITUDE, posinf=MOST_MAGNITUDE, neginf=-MOST_MAGNITUDE)
        measured = zip(measure(predicted, targets), finite.clamp(-MOST_MAGNITUDE, MOST_MAGNITUDE), strict=True)
        return [Measurement(metrics, partial(report, own, targets, names)) for metrics, own in measured]

    def metadata(self, info: DatasetInfo, decision: Decision = None) -> Mapping[str, str]:
        """The mean and standard deviation that turn the network's output into the number: mean + std * output."""
        mean, std = number_info(info).scale
        return {"target_mean": repr(mean), "target_std": repr(std)}

    def probability_names(self, info: DatasetInfo) -> Sequence[str]:
        """None."""
        return ()

    def encoded(self, target: str, info: DatasetInfo) -> Tensor:
        """The number, float64."""
        return torch.tensor(float(target), dtype=torch.float64)

    def final(self, outputs: Tensor, info: DatasetInfo) -> Tensor:
        """The numbers in the unit of the data, [N]."""
        return _in_unit(outputs[:, 0], info)

    def answers(self, outputs: Tensor, info: DatasetInfo, decision: Decision) -> Sequence[TargetValue]:
        """The numbers in the unit of the data."""
        numbers: list[float] = self.final(outputs, info).tolist()
        return numbers

    def heads_loss(self, configs: Sequence[TrainConfig], targets: Tensor, info: DatasetInfo) -> HeadsNumberLoss:
        """Each member's loss."""
        members, (mean, std) = [_asked(config) for config in configs], number_info(info).scale
        return HeadsNumberLoss([one.loss for one in members], [one.huber_delta for one in members], mean, std, targets.device)

    def heads_tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs [M, 1, B] → [M, B, 1]."""
        return outputs.transpose(1, 2)


def _in_unit(outputs: Tensor, info: DatasetInfo) -> Tensor:
    """Outputs → numbers in the unit of the data, float64."""
    mean, std = number_info(info).scale
    return outputs.double() * std + mean


def facts_of(targets: Tensor) -> NumberFacts:
    """Facts about the targets of a part, float64 [N]."""
    ordered = targets.sort().values
    median = float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return NumberFacts(
        count=len(targets),
        mean=float(targets.mean()),
        std=float(targets.std(correction=0)),
        min=float(ordered[0]),
        max=float(ordered[-1]),
        median=median,
        mean_deviation=float((targets - median).abs().mean()),
    )


def _report(predicted: Tensor, targets: Tensor, names: Names | None) -> NumberReport:
    """The report of predictions and targets, float64 [N]."""
    predicted, targets = predicted.cpu(), targets.cpu()
    residuals = predicted - targets
    return NumberReport(
        residual_quantiles=tuple(_quantiles(residuals, QUANTILES)),
        bins=tuple(_bins(predicted, targets)),
        worst_numbers=() if names is None else tuple(_worst(predicted, targets, names)),
    )


def _worst(predicted: Tensor, targets: Tensor, names: Names) -> Iterator[WrongNumber]:
    """The examples with the largest residuals."""
    rows = (predicted - targets).abs().argsort(descending=True, stable=True)[:MOST_WORST].tolist()
    for row, example in zip(rows, names(rows), strict=True):
        yield WrongNumber(**dict(example), target=float(targets[row]), predicted=float(predicted[row]))


def _test_report(predicted: Tensor, targets: Tensor, names: Names | None) -> NumberTestReport:
    listed = len(targets) <= MOST_SCORED
    return NumberTestReport(
        **dict(_report(predicted, targets, names)),
        residual_values=encode((predicted - targets).cpu().numpy(), "<f4") if listed else None,
        target_values=encode(targets.cpu().numpy(), "<f4") if listed else None,
    )


def _quantiles(values: Tensor, shares: Sequence[float]) -> list[float]:
    """Quantiles of values [N], interpolated; torch.quantile refuses more than 16 million values."""
    ordered = values.sort().values
    places = torch.tensor(shares, dtype=torch.float64) * (len(ordered) - 1)
    low = places.long()
    high = (low + 1).clamp(max=len(ordered) - 1)
    found: list[float] = torch.lerp(ordered[low], ordered[high], places - low).tolist()
    return found


def _bins(predicted: Tensor, targets: Tensor) -> list[NumberBin]:
    """Predictions in ranges of the target with nearly equally many examples each; equal targets are in one range."""
    order = targets.argsort(stable=True)
    ordered, guesses = targets[order], predicted[order]
    bins, count = list[NumberBin](), max(1, min(MOST_BINS, len(ordered) // LEAST_IN_A_BIN))
    edges = [round(place * len(ordered) / count) for place in range(1, count)]
    starts = sorted({0, *(int(torch.searchsorted(ordered, ordered[edge])) for edge in edges)})
    for first, last in zip(starts, [*starts[1:], len(ordered)], strict=True):
        own = guesses[first:last]
        p10, p90 = _quantiles(own, (0.1, 0.9))
        bins.append(
            NumberBin(
                low=float(ordered[first]), high=float(ordered[last - 1]), count=last - first,
                target=float(ordered[first:last].mean()), predicted=float(own.mean()), p10=p10, p90=p90,
            )
        )  # fmt: skip
    return bins


_asked: Callable[[TrainConfig], NumberHyperparameters] = narrowing(NumberHyperparameters, "has no hyperparameters of regression")
