"""Requests of claims over REST: their models, and the check of reported metrics against the study."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, StrictInt, ValidationError

from search_spaces import Fault
from search_spaces.parameters import FrozenModel
from service.domain.errors import InvalidInput
from service.domain.fault_messages import faults_of
from service.domain.spec import StudySpec
from trainer.configuration import TrainConfig
from trainer.tasks.base import MOST_MAGNITUDE
from trainer.tasks.capabilities import PerExample
from trainer.tasks.registry import spec_of

CLAIMANT = "rest:"
"""The beginning of a claimant's id among the workers."""
MOST_STEPS = 100_000
MOST_METRICS = 64  # of a report
BESIDE = ("train_loss", "lr")
"""Metrics that every task reports beside its own."""

MetricText = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\s=]+$")]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Metrics = Annotated[Mapping[MetricText, Number | None], Field(max_length=MOST_METRICS)]
"""Values by name. null: the value is not finite."""

Body = TypeVar("Body", bound=BaseModel)


class NewClaim(FrozenModel):
    """Who claims."""

    worker: str = Field(
        default="claimant",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:-]{0,99}$",
        description="name of the claimant, such as the host's; it is `rest:NAME` among the workers",
    )


class ClaimReport(FrozenModel):
    """The metrics of one step, such as an epoch."""

    step: StrictInt = Field(ge=1, le=MOST_STEPS, description="above the last reported one")
    metrics: Metrics = Field(min_length=1, description="values by name; null for a value that is not finite", examples=[{"accuracy": 0.9}])


class ClaimResult(FrozenModel):
    """The end of a trial's training. By default with the metrics of the last report."""

    step: StrictInt | None = Field(default=None, ge=1, le=MOST_STEPS, description="of `metrics`; default: the step after the last one")
    metrics: Metrics = Field(default_factory=dict, description="a last report")
    report: Mapping[str, Any] | None = Field(default=None, description="the task's report on the validation examples")
    train_seconds: Number | None = Field(default=None, ge=0, le=1e9, description="default: the seconds since the claim")
    peak_memory: StrictInt | None = Field(default=None, ge=0, le=2**53, description="bytes")


class ClaimFailure(FrozenModel):
    """Why the trial has no result."""

    reason: Literal["script_error", "crashed", "out_of_memory", "diverged", "infeasible", "timeout"] = Field(
        default="script_error", description="`crashed` returns the trial to the queue, up to `limits.attempts` times"
    )
    detail: str = Field(default="", max_length=4_000, description="a sentence, without line breaks")


class ClaimReturn(FrozenModel):
    """The trial returns to the queue; the attempt does not count."""

    detail: str = Field(default="", max_length=4_000, description="why, as a sentence without line breaks")


def parse(model: type[Body], document: object) -> Body:
    """The document as the model. Raises InvalidInput."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidInput(fault for item in error.errors(include_url=False) for fault in faults_of(item)) from None


def check_metrics(spec: StudySpec, metrics: Mapping[str, float | None], step: int, most: int | None) -> None:
    """Raises InvalidInput for metrics or a step that a run of the study does not have. `most`: see `last_step`."""
    faults = [fault.below(("metrics", name)) for name, value in metrics.items() for fault in _metric_faults(spec, name, value)]
    if most is not None and step > most:
        faults.append(Fault(("step",), "beyond_last_step", f"the trial has {most} steps; report steps from 1 to {most}"))
    if faults:
        raise InvalidInput(faults)


def _metric_faults(spec: StudySpec, name: str, value: float | None) -> Iterator[Fault]:
    known = spec_of(spec.task).metrics
    metric = known.get(name)
    if metric is None and is_closed(spec) and name not in BESIDE:
        yield Fault((), "unknown_metric", f"the task has no such metric; report {', '.join((*known, *BESIDE))}")
    if value is None:
        return
    if metric is not None and not metric.holds(value):
        yield Fault((), "out_of_range", f"values of this metric are from {metric.low:g} to {metric.high:g}; correct it")
    elif abs(value) > MOST_MAGNITUDE:
        yield Fault((), "out_of_range", f"the magnitude of a value is at most {MOST_MAGNITUDE:g}; report null for a run that diverged")


def is_closed(spec: StudySpec) -> bool:
    """Whether the task lists all its metrics; otherwise the study names them."""
    return spec.objective.metric in spec_of(spec.task).metrics


def last_step(spec: StudySpec, params: Mapping[str, Any], number: int, round: int | None) -> int | None:
    """The last step of a trial; None if the study gives none."""
    config = spec.config_for(params, number, round)
    return config.last_step if isinstance(config, TrainConfig) or config.last_step > 1 else None


def report_of(spec: StudySpec, document: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The report of a result, if it fits the task. Raises InvalidInput."""
    if document is None:
        return {}
    try:
        spec_of(spec.task).Report.model_validate(document)
    except ValidationError as error:
        raise InvalidInput(fault.below(("report",)) for item in error.errors(include_url=False) for fault in faults_of(item)) from None
    return document


def may_confirm(spec: StudySpec) -> bool:
    """Whether claims over REST may train trials of the confirmation, which compares scores of each test example where a task has them."""
    return not isinstance(spec_of(spec.task), PerExample)
