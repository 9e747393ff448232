"""Models of regression: hyperparameters, facts about the numbers, and reports. Imports no torch."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator
from pydantic_core import PydanticCustomError

from trainer.configuration import DatasetInfo, Frozen, Hyperparameters, Part
from trainer.targets.encoding import bytes_of
from trainer.targets.examples import MOST_WORST, NamedExample

MOST_SCORED = 100_000  # most test examples whose predictions are stored
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the residuals, in a report
MOST_BINS = 20  # of a report
MOST_MAGNITUDE = 1e30  # of a target


class NumberHyperparameters(Hyperparameters):
    """The loss of regression. Targets are standardised by the mean and the deviation of the training part."""

    loss: Literal["mse", "l1", "huber"] = Field(
        default="mse", description="of standardised targets; huber: half the squared error up to huber_delta, beyond it linear"
    )
    huber_delta: FiniteFloat = Field(
        default=1.0, gt=0, le=1_000, description="of the huber loss, in standard deviations of the training targets; else ignored"
    )


class NumberFacts(Frozen):
    """The targets of one part of the data."""

    count: int = Field(ge=0)
    mean: FiniteFloat
    std: FiniteFloat = Field(ge=0, description="population standard deviation")
    min: FiniteFloat
    max: FiniteFloat
    median: FiniteFloat
    mean_deviation: FiniteFloat = Field(ge=0, description="mean absolute distance to the median")


class NumberInfo(DatasetInfo):
    """Facts about the targets."""

    numbers: Mapping[Part, NumberFacts] = Field(description="in the unit of the data; parts without examples are left out")

    @property
    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation by which targets are standardised: those of the training part."""
        train = self.numbers["train"]
        return train.mean, train.std or 1.0

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """A fault of imported facts: no facts about the training part."""
        if "train" not in self.numbers:
            yield "numbers", "no_train_part", "the targets of the training part are missing; add their mean and standard deviation"
        yield from super().faults()


class NumberBin(Frozen):
    """Examples whose targets lie in one range."""

    low: FiniteFloat
    high: FiniteFloat
    count: int = Field(ge=1)
    target: FiniteFloat = Field(description="mean")
    predicted: FiniteFloat = Field(description="mean")
    p10: FiniteFloat = Field(description="10 % of the predictions are below; likewise p90")
    p90: FiniteFloat


class WrongNumber(NamedExample):
    """An example with a large residual."""

    target: FiniteFloat
    predicted: FiniteFloat

    @property
    def answer(self) -> Mapping[str, str]:
        """The numbers."""
        return {"target": f"{self.target:.4g}", "prediction": f"{self.predicted:.4g}"}


class NumberReport(Frozen):
    """The report of a run on the validation examples, in the unit of the data. A residual is the prediction less the target."""

    residual_quantiles: tuple[FiniteFloat, ...] = Field(
        min_length=len(QUANTILES), max_length=len(QUANTILES), description="of the residuals: 5, 25, 50, 75 and 95 %"
    )
    bins: tuple[NumberBin, ...] = Field(default=(), max_length=MOST_BINS, description="by target, equally many examples each")
    worst_numbers: tuple[WrongNumber, ...] = Field(default=(), max_length=MOST_WORST, description="largest residuals first")


Encoded = Annotated[str, Field(max_length=4 * MOST_SCORED * 2)]


class NumberTestReport(NumberReport):
    """The report on the test examples, with the residual and the target of each."""

    __test__ = False  # pytest would collect it by its name

    residual_values: Encoded | None = Field(
        default=None,
        description="base64 of the residuals as little-endian float32; examples are ordered by content; None for more than "
        f"{MOST_SCORED} examples",
    )
    target_values: Encoded | None = Field(default=None, description="base64 of the targets, likewise")

    @model_validator(mode="after")
    def _has_four_bytes_an_example(self) -> "NumberTestReport":
        sizes = [None if text is None else len(bytes_of(text) or b"") for text in (self.residual_values, self.target_values)]
        if sizes[0] != sizes[1] or sizes[0] == 0 or (sizes[0] or 0) % 4:
            raise PydanticCustomError(
                "wrong_length", "residuals and targets must be base64 of four bytes for each test example; correct them"
            )
        return self


def number_of(text: str) -> float:
    """The number that a target is written as. Raises ValueError with the reason for a text that is no finite number."""
    try:
        value = float(text.strip().replace("\u2212", "-"))
    except ValueError:
        raise ValueError("is not a number") from None
    if "_" in text:  # Python's own spelling of digits, which no table means as a number
        raise ValueError("is not a number")
    if math.isnan(value):
        raise ValueError("is not a number (NaN)")
    if math.isinf(value) or abs(value) > MOST_MAGNITUDE:
        raise ValueError("is infinite, or too large")
    return value + 0.0  # -0.0 becomes 0.0
