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


class Estimate(FrozenModel):
    """A number with the interval that holds it."""

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    level: FiniteFloat = LEVEL


class Price(FrozenModel):
    """What a configuration costs: medians over its runs."""

    trainable: int = Field(description="parameters that are trained")
    train_seconds: FiniteFloat = Field(description="of a run; of one that shared its pass with others, its share of it")
    peak_memory: int = Field(description="bytes")


class Compared(FrozenModel):
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


class Optimism(FrozenModel):
    """How much better the best of the search looked than it is. Above 0: it looked better."""

    trial: int = Field(description="with the best value of the search; what is recommended may be another one")
    searched: FiniteFloat = Field(description="the validation value that the search saw")
    confirmed: FiniteFloat = Field(description="the mean on the test examples over fresh seeds")
    value: FiniteFloat = Field(description="the difference, signed so that above 0 the search flattered")
    chosen: FiniteFloat = Field(description="the part that is gone on the same validation examples with fresh seeds: luck of the draw")


Helped = Literal["yes", "unclear", "no"]


class Verdict(FrozenModel):
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


ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Constant:
    """The score of the best constant prediction on one part of the data, to compare results with."""

    score: ConstantScore
    task: str
    metric: str

    def is_beaten_by(self, value: float) -> bool:
        """Whether a result is better than the constant prediction."""
        metric, constant = spec_of(self.task).metrics[self.metric], self.score.value
        return value > constant + ROUNDING if metric.direction == "maximize" else value < constant - ROUNDING

    def judged(self, value: float) -> str | None:
        """A sentence for a best value of a search that is not better, by plain comparison; None if it is better."""
        if self.is_beaten_by(value):
            return None
        return f"{self.metric.capitalize()} {self._shown(value)}, the best so far, is not better than this. {self.score.advice}".rstrip()

    def confirmed(self, verdict: Verdict) -> str | None:
        """Sentences about a confirmed result, which is better only if its whole interval is. None without a confirmation."""
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
    """None where the task has no constant prediction for that metric, or the facts are too few for one."""
    task = spec_of(facts.task) if facts is not None else None
    if facts is None or not isinstance(task, ConstantPrediction) or (score := task.constant(facts, part, metric)) is None:
        return None
    return Constant(score, facts.task, metric)
