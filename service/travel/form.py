"""The lines of a study's file, as `docs/travel.md` describes them."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, StrictStr, ValidationInfo, field_validator, model_validator

from search_spaces import Fault, Scalar, raise_if_any
from search_spaces.parameters import Frozen
from service.domain.records import CONFIRMATION, Confirmation
from service.domain.spec import MAX_NUMBER
from service.domain.states import StudyState, TrialState
from service.travel.results import check_result
from trainer.configuration import DatasetInfo
from trainer.protocol import FailureReason

SCHEMA_VERSION: Literal[1] = 1
CHUNK_STEPS = 500  # of a trial in one line; those after them follow in lines of their own
MAX_STEP = 100_000
MAX_TEXT = 4_000
MAX_FACTS = 4 * 1024 * 1024  # characters
DIGEST = re.compile(r"[0-9a-f]{64}\Z")
LAST_YEAR = 2105  # until then a float of seconds tells microseconds apart

Word = Literal["nan", "pos_inf", "neg_inf"]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Told = Finite | Word
"""A reported number: JSON has no other way to say that it is none."""


def _moment(text: object) -> float:
    """Seconds since 1970 of a time as ISO 8601 writes it, with its zone."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) and len(text) <= 40 else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1970 <= moment.year <= LAST_YEAR:
        raise ValueError(f"write a time between 1970 and {LAST_YEAR} such as 2026-11-22T09:30:00.000000Z")
    return max(0.0, moment.timestamp())


def seconds_of(moment: str | None) -> float | None:
    """Seconds since 1970 of a sound line's time."""
    return None if moment is None else _moment(moment)


def moment_text(seconds: float) -> str:
    """The time as a line has it: UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Moment = Annotated[float, BeforeValidator(_moment)]
Text = Annotated[StrictStr, Field(max_length=MAX_TEXT)]
Name = Annotated[StrictStr, Field(max_length=64, pattern=r"^[^\x00-\x1f]+$")]
Number = Annotated[StrictInt, Field(ge=0, lt=MAX_NUMBER)]
Count = Annotated[StrictInt, Field(ge=0, lt=2**31)]
Step = Annotated[StrictInt, Field(ge=1, le=MAX_STEP)]


def _rising(steps: list[int]) -> list[int]:
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError("steps rise from each to the next; sort them")
    return steps


class Reports(Frozen):
    """What a trial reported, by metric in columns: `metrics[name][i]` is the value at `steps[i]`, null where it reported none."""

    steps: Annotated[list[Step], Field(max_length=CHUNK_STEPS), AfterValidator(_rising)] = Field(default_factory=list)
    metrics: Annotated[dict[Name, list[Told | None]], Field(max_length=100)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _columns_are_equally_long(self) -> Self:
        raise_if_any(
            Fault(("metrics", name), "wrong_length", f"this has {len(column)} values for {len(self.steps)} steps; make them equal")
            for name, column in self.metrics.items()
            if len(column) != len(self.steps)
        )
        return self


def _bounded_facts(facts: DatasetInfo) -> DatasetInfo:
    """The facts, which every look at the study carries. A worker finds no larger ones. Raises Faulty."""
    raise_if_any(_facts_faults(facts))
    return facts


def _facts_faults(facts: DatasetInfo) -> Iterator[Fault]:
    yield from (Fault((field,), code, message) for field, code, message in facts.faults())
    for name in ("fingerprint", "split", "weights_sha256"):
        digest = getattr(facts, name)
        if digest is not None and not DIGEST.match(digest):
            yield Fault((name,), "not_a_digest", "this is a SHA-256 in 64 hexadecimal digits; correct it")
    if len(facts.model_dump_json()) > MAX_FACTS:
        yield Fault((), "too_large", f"the facts of a study have at most {MAX_FACTS} characters; shorten the names in them")


class StudyLine(Frozen):
    """The first line: the study."""

    kind: Literal["thawline/study"] = "thawline/study"
    schema_version: Literal[1] = SCHEMA_VERSION
    id: Annotated[StrictStr, Field(max_length=16)] | None = Field(description="where it was exported; an import gives it a new one")
    name: Annotated[StrictStr, Field(min_length=1, max_length=128)]
    state: StudyState
    reason: Text | None
    spec: dict[str, Any] = Field(description="as GET /api/v1/studies/{study} shows it")
    facts: Annotated[DatasetInfo, AfterValidator(_bounded_facts)] | None
    confirmation: Confirmation | None
    created: Number = Field(description="trials that follow")
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None

    @field_validator("reason")
    @classmethod
    def _failure_has_a_reason(cls, reason: str | None, known: ValidationInfo) -> str | None:
        if reason is None and known.data.get("state") is StudyState.FAILED:
            raise ValueError("a study that failed has a reason; give it")
        return reason


class TrialLine(Frozen):
    """A trial, with what it reported at its first steps."""

    kind: Literal["thawline/trial"] = "thawline/trial"
    number: Number
    state: TrialState
    params: Mapping[str, Scalar]
    value: Told | None
    metrics: Annotated[dict[Name, Told], Field(max_length=100)]
    step: Annotated[StrictInt, Field(ge=0, le=MAX_STEP)]
    attempt: Count
    reason: FailureReason | None
    detail: Text | None
    worker: Annotated[StrictStr, Field(max_length=128)] | None
    duplicate_of: Number | None
    source: Literal["sampler", "baseline", "user", "duplicate", "confirmation", "imported"]
    confirms: Number | None
    round: Annotated[StrictInt, Field(ge=1, le=100)] | None
    result: Annotated[dict[str, Any], AfterValidator(check_result)]
    queued_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    reports: Reports

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        raise_if_any(self._faults())
        return self

    def _faults(self) -> list[Fault]:
        found = []
        if self.state is TrialState.COMPLETE and not isinstance(self.value, float):
            found.append(Fault(("value",), "no_value", "a complete trial has a number here; give it, or change the state"))
        if (self.state is TrialState.FAILED) is not (self.reason is not None):
            found.append(Fault(("reason",), "reason_without_failure", "a trial has a reason if and only if it failed; make them agree"))
        if (self.source == CONFIRMATION) is not (self.confirms is not None) or (self.confirms is None) is not (self.round is None):
            agree = "confirms and round go with the source confirmation, and with no other; make them agree"
            found.append(Fault(("confirms",), "confirmation_without_round", agree))
        if self.duplicate_of is not None and self.duplicate_of >= self.number:
            found.append(Fault(("duplicate_of",), "not_an_earlier_trial", "a trial can only repeat an earlier one; correct the number"))
        if self.reports.steps and self.reports.steps[-1] > self.step:
            found.append(Fault(("reports", "steps"), "step_above_last", "reports go further than the trial's step; raise that"))
        return found


class ReportsLine(Reports):
    """More of what the trial before it reported, in the order of the steps."""

    kind: Literal["thawline/reports"] = "thawline/reports"
    number: Number


class EndLine(Frozen):
    """The last line, by which a file that was cut or changed is told."""

    kind: Literal["thawline/end"] = "thawline/end"
    trials: Number
    lines: Count = Field(description="before this one")
    sha256: StrictStr = Field(pattern=r"^[0-9a-f]{64}$", description="over all bytes before this line")


Line = StudyLine | TrialLine | ReportsLine | EndLine
