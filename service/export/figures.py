"""Numbers as a model card says them."""

from service.domain.verdict import Estimate
from trainer.tasks.base import Metric


def score(metric: Metric | None, value: float) -> str:
    """A value of a metric, None for a number that is none of the task's: shares in percent."""
    return f"{100 * value:.2f} %" if metric is not None and metric.is_share else f"{value:.4g}"


def interval(metric: Metric | None, estimate: Estimate | None) -> str:
    """A value with its interval."""
    if estimate is None:
        return "not known"
    return f"{score(metric, estimate.value)} ({score(metric, estimate.low)} to {score(metric, estimate.high)})"


def difference(metric: Metric | None, estimate: Estimate | None) -> str:
    """A difference with its interval: of shares in points."""
    return (
        "not known"
        if estimate is None
        else f"{gain(metric, estimate.value)} ({gain(metric, estimate.low)} to {gain(metric, estimate.high)})"
    )


def gain(metric: Metric | None, value: float) -> str:
    """A difference of two values, with its sign: of shares in points."""
    return f"{100 * value:+.2f} points" if metric is not None and metric.is_share else f"{value:+.4g}"


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
