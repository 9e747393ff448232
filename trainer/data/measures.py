"""Models of what `thaw data inspect` reports: the spread of a measure, and the split of a data set. Imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field

from trainer.configuration import Frozen, ListingFacts

MOST_UNREADABLE = 20  # names of files that are left out


class Spread(Frozen):
    """Quantiles of a measure over the examples."""

    least: float
    median: float
    p95: float = Field(description="95 % of the examples have at most this value")
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | None:
        """None without values. Each quantile is one of the values."""
        if not values:
            return None
        ordered = sorted(values)
        last = len(ordered) - 1
        return cls(least=ordered[0], median=ordered[last // 2], p95=ordered[-(-last * 95 // 100)], most=ordered[last])


class Splitting(Frozen):
    """A data set as a run lists and splits it."""

    parts: Mapping[str, int] = Field(description="number of examples in train, validation and test")
    distinct: int = Field(description="number of examples with different content")
    fingerprint: str
    split: str
    listing: ListingFacts
    notes: tuple[str, ...] = Field(default=(), description="sentences about the examples as the model's input")
    unreadable: tuple[str, ...] = Field(default=(), description="some of the files that are left out, with the reasons")
    unreadable_count: int = 0
    duplicates: Mapping[str, Any] | None = Field(default=None, description="groups of near-duplicates; None if not searched for")
    measures: Mapping[str, Spread] = Field(default_factory=dict, description="of the examples as the model's input")
