"""Sections of the model card of a regression."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import Field, FiniteFloat

from trainer.configuration import Frozen
from trainer.targets.numbers.config import QUANTILES, NumberBin, NumberInfo
from trainer.tasks.capabilities import CardData, CardSection, CardTable


class ResidualSummary(Frozen):
    """Residuals (prediction less target), in the unit of the data."""

    quantiles: tuple[FiniteFloat, ...] = Field(description="at 5, 25, 50, 75 and 95 %, the mean over the runs")
    bins: tuple[NumberBin, ...] = Field(default=(), description="predictions by target, of the first run")


class NumberSummary(Frozen):
    """The summary of the runs' reports in an exported file."""

    residuals: ResidualSummary | None = Field(default=None, description="of the runs")


def summary_of(reports: Sequence[Mapping[str, Any]]) -> NumberSummary:
    """The mean of the runs' quantiles, and the bins of the first run."""
    known = [report for report in reports if len(report.get("residual_quantiles") or ()) == len(QUANTILES)]
    if not known:
        return NumberSummary()
    quantiles = tuple(fmean(values) for values in zip(*(report["residual_quantiles"] for report in known), strict=True))
    bins = tuple(NumberBin.model_validate(one) for one in known[0].get("bins") or ())
    return NumberSummary(residuals=ResidualSummary(quantiles=quantiles, bins=bins))


def data_of(info: NumberInfo, examples: str) -> CardData:
    """The card's contents about the targets: their mean, deviation and range by part."""
    mean, std = info.scale
    return CardData(
        opening=f"regression, one number for each of the {examples}.",
        counts=tuple(_ranges(info)),
        notes=(f"The network's output is standardised: the prediction is {mean:.6g} + {std:.6g} times the output.",),
    )


def _ranges(info: NumberInfo) -> Iterator[CardTable]:
    rows = [
        (part, *(f"{value:.6g}" for value in (found.mean, found.std, found.min, found.median, found.max)))
        for part, found in info.numbers.items()
    ]
    yield CardTable(("targets", "mean", "standard deviation", "lowest", "median", "highest"), rows)


def results_of(found: ResidualSummary, where: str) -> CardSection:
    """Quantiles of the residuals, and predictions by target."""
    shares = [f"{100 * share:g} %" for share in QUANTILES]
    blocks: list[str | CardTable] = [
        f"Quantiles of the residuals (prediction less target) {where}.",
        CardTable(("share of residuals below", "residual"), [*zip(shares, (f"{value:.4g}" for value in found.quantiles), strict=True)]),
    ]
    if found.bins:
        rows = [
            (f"{one.low:.4g} to {one.high:.4g}", one.count, *(f"{value:.4g}" for value in (one.target, one.predicted, one.p10, one.p90)))
            for one in found.bins
        ]
        blocks += ["Predictions by target, of one of these runs.", CardTable(
            ("targets", "examples", "mean target", "mean prediction", "10 % below", "90 % below"), rows
        )]  # fmt: skip
    return CardSection("Residuals", tuple(blocks))
