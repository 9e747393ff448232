"""The verdict of a confirmation, and its comparison with the best constant prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, FiniteFloat

from search_spaces import Scalar
from search_spaces.parameters import FrozenModel
from service.domain.spec import Objective
from trainer.configuration import DatasetInfo, Part
from trainer.tasks.capabilities import ConstantPrediction, ConstantScore
from trainer.tasks.registry import spec_of

LEVEL = 0.95
FEWEST_USEFUL_RUNS = 3
"""Runs of a configuration whose intervals are of use. Of one more run the interval reaches 5 standard deviations to either side with
three runs, 15.6 with two (Student's t at 95 % times the square root of 1 + 1/n)."""


class Estimate(FrozenModel):
    """A value with its confidence interval."""

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    level: FiniteFloat = LEVEL


class Price(FrozenModel):
    """The cost of a configuration: medians over its runs."""

    trainable: int = Field(description="number of trained parameters")
    train_seconds: FiniteFloat = Field(description="training time of a run; for heads trained together, the run's share of it")
    peak_memory: int = Field(description="bytes")


class Compared(FrozenModel):
    """A configuration under comparison."""

    trial: int = Field(description="number of its trial in the search")
    baseline: bool
    params: Mapping[str, Scalar]
    searched: FiniteFloat | None = Field(description="the validation value by which the search ranked it; null without one")
    rounds: tuple[int, ...] = Field(description="confirmation rounds of the runs below")
    runs: tuple[int, ...] = Field(default=(), description="trial numbers of the runs")
    test: tuple[FiniteFloat, ...] = Field(description="the objective of each run on the test examples")
    validation: tuple[FiniteFloat, ...] = Field(description="the objective of each run on the validation examples")
    mean: Estimate | None = Field(description="mean of the test scores over seeds; its interval needs at least two runs")
    behind: Estimate | None = Field(
        description="paired difference to the best by mean, in the objective's unit, above 0 where this one is worse; null for the best"
    )
    tied: bool = Field(description="whether it is not distinguishable from the best")
    stopped_after: int | None = Field(default=None, description="the round after which it was stopped as clearly worse")
    failed: str | None = Field(default=None, description="reason why a run has no result, which excludes the configuration")
    price: Price | None


class Optimism(FrozenModel):
    """By how much the search overestimated its best trial. Above 0: it looked better than it is."""

    trial: int = Field(description="the trial with the best value of the search; the recommended one may be another")
    searched: FiniteFloat = Field(description="its validation value in the search")
    confirmed: FiniteFloat = Field(description="its mean on the test examples over fresh seeds")
    value: FiniteFloat = Field(description="the difference; above 0 where the search overestimated")
    chosen: FiniteFloat = Field(description="the part that disappears with fresh seeds on the same validation examples: a lucky seed")


Helped = Literal["yes", "unclear", "no"]


class Verdict(FrozenModel):
    """The result of a study's confirmation, complete or so far."""

    state: Literal["running", "done", "stopped"] = Field(description="stopped: the study ended before its confirmation did")
    objective: Objective
    seeds: int = Field(description="most runs of each configuration")
    test_images: int  # like `new_images` and `uplift_new_images` a name from version 0.1, for examples of any task
    arms: tuple[Compared, ...]
    best: int | None = Field(default=None, description="the trial with the best mean")
    tied: tuple[int, ...] = Field(default=(), description="trials not distinguishable from the best, including it, best first")
    recommended: int | None = Field(default=None, description="the cheapest trial within one standard error of the best")
    expected: Estimate | None = Field(
        default=None,
        description="mean over seeds of the recommended trial, on these test examples; where it was chosen among tied trials, the interval "
        "is wider on the side of worse values, to correct for the selection",
    )
    new_images: Estimate | None = Field(default=None, description="the same for new examples from the distribution of the test examples")
    single_run: Estimate | None = Field(
        default=None, description="prediction interval of one more run with a fresh seed, on these test examples"
    )
    uplift: Estimate | None = Field(
        default=None, description="difference to the baseline, above 0 where better; mean over seeds, on these test examples"
    )
    uplift_new_images: Estimate | None = Field(default=None, description="the same for new examples of the same kind")
    optimism: Optimism | None = None
    helped: Helped | None = Field(
        default=None,
        description="yes: better than the baseline on new examples too; unclear: better on these test examples, too few to conclude more; "
        "no: the baseline is recommended, or the difference is within the variation over seeds; null: no result of the baseline",
    )
    words: tuple[str, ...] = Field(default=(), description="the result in plain sentences, the most important first")


ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Constant:
    """The score of the best constant prediction on one part of the data, for comparison with results."""

    score: ConstantScore
    task: str
    metric: str

    def is_beaten_by(self, value: float) -> bool:
        """Whether a result is better than the constant prediction."""
        metric, constant = spec_of(self.task).metrics[self.metric], self.score.value
        return value > constant + ROUNDING if metric.direction == "maximize" else value < constant - ROUNDING

    def judged(self, value: float) -> str | None:
        """A sentence for the best value of a search that is not better than the constant prediction; None if it is better."""
        if self.is_beaten_by(value):
            return None
        return f"{self.metric.capitalize()} {self._shown(value)}, the best so far, is not better than this. {self.score.advice}".rstrip()

    def confirmed(self, verdict: Verdict) -> str | None:
        """Sentences about a confirmed result. It counts as better only if its whole interval is. None without a confirmation."""
        interval = verdict.new_images or verdict.expected
        if interval is None:
            return None
        better = self.is_beaten_by(interval.low) and self.is_beaten_by(interval.high)
        examples = f"{spec_of(self.task).example}s"
        where = f"on new {examples} of the same kind" if verdict.new_images is not None else f"on the test {examples}"
        shown = f"{self._shown(interval.low)} to {self._shown(interval.high)} {where}"
        if better:
            return f"{self.score.sentence} The confirmed result, {shown}, is better."
        return f"{self.score.sentence} The confirmed result, {shown}, is not better beyond its uncertainty. {self.score.advice}".rstrip()

    def _shown(self, value: float) -> str:
        return spec_of(self.task).metrics[self.metric].shown(value)


def constant_of(facts: DatasetInfo | None, part: Part, metric: str) -> Constant | None:
    """The best constant prediction on a part. None where the task has none for the metric, or the facts do not determine it."""
    task = spec_of(facts.task) if facts is not None else None
    if facts is None or not isinstance(task, ConstantPrediction) or (score := task.constant(facts, part, metric)) is None:
        return None
    return Constant(score, facts.task, metric)
