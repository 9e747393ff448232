"""What a confirmation found: whom it compared, what the recommendation is worth, and whether tuning helped."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, FiniteFloat

from search_spaces import Scalar
from search_spaces.parameters import Frozen
from service.domain.spec import Objective

LEVEL = 0.95


class Estimate(Frozen):
    """A number with the interval that holds it."""

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    level: FiniteFloat = LEVEL


class Price(Frozen):
    """What a configuration costs: medians over its runs."""

    trainable: int = Field(description="parameters that are trained")
    train_seconds: FiniteFloat = Field(description="of a run; of one that shared its pass with others, its share of it")
    peak_memory: int = Field(description="bytes")


class Compared(Frozen):
    """A configuration under comparison."""

    trial: int = Field(description="number of the trial of the search that had it")
    baseline: bool
    params: Mapping[str, Scalar]
    searched: FiniteFloat | None = Field(description="the validation value by which the search ranked it; null when it had none")
    rounds: tuple[int, ...] = Field(description="of the runs below")
    runs: tuple[int, ...] = Field(default=(), description="the trials that they are, by number")
    test: tuple[FiniteFloat, ...] = Field(description="the objective on the test examples, a run each")
    validation: tuple[FiniteFloat, ...] = Field(description="the same on the validation examples")
    mean: Estimate | None = Field(description="of the test scores, over seeds; the interval is null below two runs")
    behind: Estimate | None = Field(
        description="paired difference to the best by mean, in the objective's unit, above 0 where this one is worse; null for the best"
    )
    tied: bool = Field(description="cannot be told apart from the best")
    stopped_after: int | None = Field(default=None, description="the round after which the race gave it up as clearly worse")
    failed: str | None = Field(default=None, description="why a run has no result; it is out then")
    price: Price | None


class Optimism(Frozen):
    """How much better the best of the search looked than it is. Above 0: it looked better."""

    trial: int = Field(description="with the best value of the search; what is recommended may be another one")
    searched: FiniteFloat = Field(description="the validation value that the search saw")
    confirmed: FiniteFloat = Field(description="the mean on the test examples over fresh seeds")
    value: FiniteFloat = Field(description="the difference, signed so that above 0 the search flattered")
    chosen: FiniteFloat = Field(description="the part that is gone on the same validation examples with fresh seeds: luck of the draw")


Helped = Literal["yes", "unclear", "no"]


class Verdict(Frozen):
    """The answer of a study that confirmed its best, or what is known of it so far."""

    state: Literal["running", "done", "stopped"] = Field(description="stopped: the study ended before its confirmation did")
    objective: Objective
    seeds: int = Field(description="most runs of each configuration")
    test_images: int  # this name, `new_images` and `uplift_new_images` are those of version 0.1; they are of any examples
    arms: tuple[Compared, ...]
    best: int | None = Field(default=None, description="the trial with the best mean")
    tied: tuple[int, ...] = Field(default=(), description="trials that cannot be told apart from the best, itself among them, best first")
    recommended: int | None = Field(default=None, description="the cheapest of those within one standard error of the best")
    expected: Estimate | None = Field(
        default=None,
        description="mean over seeds of the recommended one, on these test examples; where it was chosen among several that are tied, the "
        "interval reaches further to the side on which being chosen flatters",
    )
    new_images: Estimate | None = Field(
        default=None, description="the same for new examples of the same kind, of which the test examples are a sample"
    )
    single_run: Estimate | None = Field(default=None, description="where one more run with a fresh seed falls, on these test examples")
    uplift: Estimate | None = Field(default=None, description="over the baseline, above 0 where better; over seeds, on these test examples")
    uplift_new_images: Estimate | None = Field(default=None, description="the same for new examples of the same kind")
    optimism: Optimism | None = None
    helped: Helped | None = Field(
        default=None,
        description="yes: better than the baseline on new examples too; unclear: on these examples only, as far as so few can tell; "
        "no: the baseline is recommended, or what is recommended is no better beyond what seeds explain; null: nothing to compare with",
    )
    words: tuple[str, ...] = Field(default=(), description="all of it in plain sentences, the most important first")
