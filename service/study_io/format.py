"""The models of the lines of a study file, and their parser."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any, BinaryIO, Literal, NoReturn, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from search_spaces import Fault, Faulty, Scalar, raise_if_any
from search_spaces.documents import MAX_INTEGER, from_json
from search_spaces.faults import Path
from search_spaces.parameters import FrozenModel
from service.domain.errors import InvalidInput
from service.domain.fault_messages import faults_of
from service.domain.pruning import PruningReason
from service.domain.records import CONFIRMATION, Confirmation
from service.domain.spec import MAX_NUMBER
from service.domain.states import StudyState, TrialState
from trainer.configuration import DatasetInfo, counted
from trainer.protocol import FailureReason, Reuse, Scores
from trainer.tasks.base import TaskSpec
from trainer.tasks.registry import example_fields

Amount = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e15, le=1e15)]  # bounded, so that sums stay finite
Whole = Annotated[StrictInt, Field(ge=0, le=2**53)]
Of = TypeVar("Of", bound=BaseModel)


class _Open(BaseModel):
    """A model that keeps unknown fields unchanged."""

    model_config = ConfigDict(frozen=True, extra="allow")


class _Pace(_Open):
    samples_per_second: Amount | None = None
    seconds_left: Amount | None = None
    memory: Whole | None = None
    utilization: Amount | None = None
    seconds: dict[StrictStr, Amount | None] = Field(default_factory=dict)
    saved_seconds: Amount | None = None


def _strictly(model: type[Of]) -> Callable[[object], Of]:
    """A validator that reads a value as the model without conversions, because other code reads the raw value."""

    def read(value: object) -> Of:
        try:
            return model.model_validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            raise Faulty(_faults_in(error)) from None

    return read


class _Result(_Open):
    environment: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    trainable: Whole | None = None
    train_seconds: Amount | None = None
    peak_memory: Whole | None = None
    device_memory: Whole | None = None
    reuse: Annotated[Reuse | None, BeforeValidator(_strictly(Reuse))] = None
    pace: _Pace | None = None
    evidence: Annotated[PruningReason | None, BeforeValidator(_strictly(PruningReason))] = None
    test: Annotated[Scores | None, BeforeValidator(_strictly(Scores))] = None


def check_result(result: dict[str, Any]) -> dict[str, Any]:
    """The unchanged result. Raises Faulty if it is not valid."""
    if nulls := [name for name in _Result.model_fields if name in result and result[name] is None]:
        raise_if_any(Fault((name,), "null", "null is not accepted here; remove this, or give it a value") for name in nulls)
    try:
        _Result.model_validate(result)
    except ValidationError as error:
        raise Faulty(_faults_in(error)) from None
    return result


def _faults_in(error: ValidationError) -> Iterator[Fault]:
    for item in error.errors(include_url=False, include_input=False):
        yield from faults_of(item)


def _check_fields(model: type[BaseModel], report: Mapping[str, Any]) -> None:
    """Raises Faulty if a field does not fit the model. Fields may be missing at the top level, because only the pages read them."""
    try:
        _strictly(model)(report)
    except Faulty as error:
        raise_if_any(fault for fault in error.faults if fault.code != "missing" or len(fault.path) > 1)


def test_report(task: TaskSpec, result: Mapping[str, Any]) -> BaseModel | None:
    """The task's report on the test examples in a checked result; None without one.

    Also checks the fields of the task's report on the validation examples, which are at the top level of the result.
    Raises Faulty if a report does not fit the task.
    """
    report = {name: result[name] for name in task.Report.model_fields if name in result}
    if report:
        _check_fields(task.Report, report)
    if "test" not in result:
        return None
    try:
        return _strictly(task.TestReport)({name: value for name, value in result["test"].items() if name != "metrics"})
    except Faulty as error:
        raise Faulty(fault.below(("test",)) for fault in error.faults) from None


SCHEMA_VERSION: Literal[1] = 1
CHUNK_STEPS = 500  # of a trial in one line; later steps follow in lines of their own
MAX_STEP = 100_000
MAX_TEXT = 4_000
MAX_FACTS = 4 * 1024 * 1024  # characters
DIGEST = re.compile(r"[0-9a-f]{64}\Z")
LAST_YEAR = 2105  # until then a float of seconds has a resolution of a microsecond

Word = Literal["nan", "pos_inf", "neg_inf"]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Reported = Finite | Word
"""A reported number, or a word for a number that JSON cannot represent."""


def _moment(text: object) -> float:
    """Seconds since 1970 from an ISO 8601 time with a zone. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) and len(text) <= 40 else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1970 <= moment.year <= LAST_YEAR:
        raise ValueError(f"write a time between 1970 and {LAST_YEAR} such as 2026-11-22T09:30:00.000000Z")
    return max(0.0, moment.timestamp())


def seconds_of(moment: str | None) -> float | None:
    """Seconds since 1970 from the time in a sound line."""
    return None if moment is None else _moment(moment)


def moment_text(seconds: float) -> str:
    """The time as it is written in a line: UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Moment = Annotated[float, BeforeValidator(_moment)]
Text = Annotated[StrictStr, Field(max_length=MAX_TEXT)]
Name = Annotated[StrictStr, Field(max_length=64, pattern=r"^[^\x00-\x1f]+$")]
TrialNumber = Annotated[StrictInt, Field(ge=0, lt=MAX_NUMBER)]
CountField = Annotated[StrictInt, Field(ge=0, lt=2**31)]
StepNumber = Annotated[StrictInt, Field(ge=1, le=MAX_STEP)]


def _rising(steps: list[int]) -> list[int]:
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError("steps must rise strictly; sort them")
    return steps


class ReportColumns(FrozenModel):
    """A trial's reports as columns: `metrics[name][i]` is the value at `steps[i]`, or null if the trial reported none."""

    steps: Annotated[list[StepNumber], Field(max_length=CHUNK_STEPS), AfterValidator(_rising)] = Field(default_factory=list)
    metrics: Annotated[dict[Name, list[Reported | None]], Field(max_length=100)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _columns_are_equally_long(self) -> Self:
        raise_if_any(
            Fault(
                ("metrics", name),
                "wrong_length",
                f"this has {counted(len(column), 'value')} for {counted(len(self.steps), 'step')}; make them equal",
            )
            for name, column in self.metrics.items()
            if len(column) != len(self.steps)
        )
        return self


def _bounded_facts(facts: DatasetInfo) -> DatasetInfo:
    """The unchanged facts. Raises Faulty if they are larger than those of a worker can be; every answer about the study contains them."""
    raise_if_any(_facts_faults(facts))
    return facts


def _facts_faults(facts: DatasetInfo) -> Iterator[Fault]:
    yield from (Fault((field,), code, message) for field, code, message in facts.faults())
    for name in ("fingerprint", "split", "weights_sha256"):
        digest = getattr(facts, name)
        if digest is not None and not DIGEST.match(digest):
            yield Fault((name,), "not_a_digest", "this must be a SHA-256 of 64 lowercase hexadecimal digits; correct it")
    if len(facts.model_dump_json()) > MAX_FACTS:
        yield Fault((), "too_large", f"the facts of a study have at most {MAX_FACTS} characters; shorten the names in them")


class StudyLine(FrozenModel):
    """The first line, which describes the study."""

    kind: Literal["thawline/study"] = "thawline/study"
    schema_version: Literal[1] = SCHEMA_VERSION
    id: Annotated[StrictStr, Field(max_length=16)] | None = Field(description="where it was exported; an import gives it a new one")
    name: Annotated[StrictStr, Field(min_length=1, max_length=128)]
    state: StudyState
    reason: Text | None
    spec: dict[str, Any] = Field(description="as GET /api/v1/studies/{study} shows it")
    facts: Annotated[DatasetInfo, AfterValidator(_bounded_facts)] | None
    confirmation: Confirmation | None
    created: TrialNumber = Field(description="trials that follow")
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None

    @field_validator("reason")
    @classmethod
    def _failure_has_a_reason(cls, reason: str | None, known: ValidationInfo) -> str | None:
        if reason is None and known.data.get("state") is StudyState.FAILED:
            raise ValueError("a failed study needs a reason; add it")
        return reason


class TrialLine(FrozenModel):
    """A trial, with the reports of its first steps."""

    kind: Literal["thawline/trial"] = "thawline/trial"
    number: TrialNumber
    state: TrialState
    params: Mapping[str, Scalar]
    value: Reported | None
    metrics: Annotated[dict[Name, Reported], Field(max_length=100)]
    step: Annotated[StrictInt, Field(ge=0, le=MAX_STEP)]
    attempt: CountField
    reason: FailureReason | None
    detail: Text | None
    worker: Annotated[StrictStr, Field(max_length=128)] | None
    duplicate_of: TrialNumber | None
    source: Literal["sampler", "baseline", "user", "duplicate", "confirmation", "imported"]
    confirms: TrialNumber | None
    round: Annotated[StrictInt, Field(ge=1, le=100)] | None
    result: Annotated[dict[str, Any], AfterValidator(check_result)]
    queued_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    reports: ReportColumns

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        raise_if_any(self._faults())
        return self

    def _faults(self) -> list[Fault]:
        found = []
        if self.state is TrialState.COMPLETE and not isinstance(self.value, float):
            found.append(Fault(("value",), "no_value", "a complete trial needs a number here; add it, or change the state"))
        if (self.state is TrialState.FAILED) is not (self.reason is not None):
            found.append(
                Fault(
                    ("reason",),
                    "reason_without_failure",
                    "failed trials need a reason, other trials must not have one; correct the state or the reason",
                )
            )
        if (self.source == CONFIRMATION) is not (self.confirms is not None) or (self.confirms is None) is not (self.round is None):
            agree = "trials with the source confirmation need confirms and round, other trials must have neither; correct one of them"
            found.append(Fault(("confirms",), "confirmation_without_round", agree))
        if self.duplicate_of is not None and self.duplicate_of >= self.number:
            found.append(Fault(("duplicate_of",), "not_an_earlier_trial", "a trial can only duplicate an earlier one; correct the number"))
        if self.reports.steps and self.reports.steps[-1] > self.step:
            found.append(Fault(("reports", "steps"), "step_above_last", "the last reported step is above the trial's step; raise step"))
        return found


class ReportsLine(ReportColumns):
    """Further reports of the preceding trial, in the order of the steps."""

    kind: Literal["thawline/reports"] = "thawline/reports"
    number: TrialNumber


class EndLine(FrozenModel):
    """The last line, which detects files that were truncated or changed."""

    kind: Literal["thawline/end"] = "thawline/end"
    trials: TrialNumber
    lines: CountField = Field(description="before this one")
    sha256: StrictStr = Field(pattern=r"^[0-9a-f]{64}$", description="over all bytes before this line")


StudyFileLine = StudyLine | TrialLine | ReportsLine | EndLine


MAX_LINE = 16 * 1024 * 1024
MAX_VALUE_TEXT = 4_096  # characters; the limit of a path
MAX_KEY = 256
MAX_ENTRIES = 65_536  # of a mapping
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
KINDS: dict[str, type[StudyFileLine]] = {
    "thawline/study": StudyLine, "thawline/trial": TrialLine, "thawline/reports": ReportsLine, "thawline/end": EndLine,
}  # fmt: skip


def refuse(line: int, fault: Fault) -> NoReturn:
    """Raises InvalidInput with the fault at that line, counted from 1."""
    raise InvalidInput([fault.below((f"line {line}",))])


def lines(file: BinaryIO) -> Iterator[tuple[int, StudyFileLine]]:
    """Each line with its number, from 1. The last line is an EndLine with the count and checksum of the lines before it.

    Raises InvalidInput, which names the line.
    """
    digest, trials, number = hashlib.sha256(), 0, 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        line = _line(number, raw)
        if (number == 1) is not isinstance(line, StudyLine):
            first = "the first line, and only the first, must be the study (kind thawline/study); restore the order"
            refuse(number, Fault(("kind",), "out_of_order", first))
        if isinstance(line, EndLine):
            _check_end(number, line, trials, digest.hexdigest())
            if file.readline(2):
                refuse(number + 1, Fault((), "after_the_end", "no line may follow the line thawline/end; remove the rest"))
            yield number, line
            return
        digest.update(raw)
        trials += isinstance(line, TrialLine)
        yield number, line
    refuse(number + 1, Fault((), "cut_off", "the file is truncated: its last line (kind thawline/end) is missing; export or copy it again"))


def _check_end(number: int, end: EndLine, trials: int, sha256: str) -> None:
    if (end.trials, end.lines) != (trials, number - 1):
        counted = f"this line states {end.trials} trials in {end.lines} lines, but there are {trials} in {number - 1}"
        refuse(number, Fault(("lines",), "lines_missing", f"{counted}; export or copy the file again"))
    if end.sha256 != sha256:
        changed = "the checksum does not match the lines before: the file was changed or damaged; export or copy it again"
        refuse(number, Fault(("sha256",), "changed", changed))


def _line(number: int, raw: bytes) -> StudyFileLine:
    if len(raw) > MAX_LINE:
        refuse(number, Fault((), "line_too_long", f"a line has at most {MAX_LINE} bytes"))
    if not raw.endswith(b"\n"):
        refuse(number, Fault((), "cut_off", "the file is truncated within this line; export or copy it again"))
    try:
        document = from_json(raw.decode("utf-8"))
    except UnicodeDecodeError:
        refuse(number, Fault((), "not_utf8", "the line is not UTF-8 text; export or copy the file again"))
    except Faulty as error:
        raise InvalidInput(_without_lines(fault).below((f"line {number}",)) for fault in error.faults) from None
    return _formed(number, document)


def _without_lines(fault: Fault) -> Fault:
    """The fault without the parser's own line number, which is always 1."""
    return Fault(fault.path, fault.code, fault.message.replace(" near line 1", ""))


def _formed(number: int, document: Any) -> StudyFileLine:
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        known = f"each line of a study file needs a kind, one of {', '.join(KINDS)}; give a file that `thaw study export` wrote"
        refuse(number, Fault(("kind",), "unknown_kind", known))
    if number == 1 and document.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        newer = f"this version reads schema_version {SCHEMA_VERSION}; import the file with the release that wrote it, or a later one"
        refuse(number, Fault(("schema_version",), "unknown_version", newer))
    if fault := next(_unstorable({name: part for name, part in document.items() if name not in ("reports", "metrics")}), None):
        refuse(number, fault)
    if fault := next(_large_integers(document), None):
        refuse(number, fault)
    try:
        return KINDS[kind].model_validate(document)
    except ValidationError as error:
        found = (fault for item in error.errors(include_url=False, include_input=False) for fault in faults_of(item))
        raise InvalidInput(fault.below((f"line {number}",)) for fault in found) from None


def _unstorable(value: Any, path: Path = ()) -> Iterator[Fault]:
    """Faults of values that some database cannot store: texts with NUL or surrogates, and numbers that are not finite or too large."""
    match value:
        case str() if UNSTORABLE.search(value):
            yield Fault(path, "invalid_text", "NUL and surrogate characters are not accepted; remove them")
        case str() if len(value) > MAX_VALUE_TEXT and path[-1] not in example_fields():  # the task's report bounds these
            yield Fault(path, "text_too_long", f"a text has at most {MAX_VALUE_TEXT} characters; shorten it")
        case float() if not math.isfinite(value):
            yield Fault(path, "not_finite", "NaN and Infinity are not accepted here; write a finite number")
        case int() if abs(value) > MAX_INTEGER:
            yield Fault(path, "too_large", "whole numbers must lie between -2^53 and 2^53")
        case dict():
            yield from _unstorable_keys(value, path)
            for key, item in value.items():
                yield from _unstorable(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from _unstorable(item, (*path, index))


def _unstorable_keys(value: dict[str, Any], path: Path) -> Iterator[Fault]:
    if any(UNSTORABLE.search(key) for key in value):
        yield Fault(path, "invalid_name", "a key contains NUL or surrogate characters; remove them")
    if any(len(key) > MAX_KEY for key in value):
        yield Fault(path, "name_too_long", f"a key has at most {MAX_KEY} characters; shorten it")
    if len(value) > MAX_ENTRIES:
        yield Fault(path, "too_many_entries", f"a mapping has at most {MAX_ENTRIES} entries; remove some")


def _large_integers(document: dict[str, Any]) -> Iterator[Fault]:
    """Faults of reported values that are integers above 2^53, which not all readers represent exactly."""
    # `any` over whole columns: a file may have millions of values.
    line = document.get("reports") if isinstance(document.get("reports"), dict) else document
    metrics: Any = line.get("metrics") if isinstance(line, dict) else None
    columns = metrics.items() if isinstance(metrics, dict) else ()
    last: Any = document.get("metrics")
    values = [
        *((("metrics", name), column) for name, column in columns),
        (("metrics",), list(last.values()) if isinstance(last, dict) else []),
    ]
    for path, column in [*values, (("value",), [document.get("value")])]:
        if isinstance(column, list) and any(type(value) is int and abs(value) > MAX_INTEGER for value in column):
            yield Fault(
                path, "too_large", "whole numbers must lie between -2^53 and 2^53; write larger ones with an exponent, such as 1e25"
            )


def again(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """The documents of a file that `lines` has checked, each with the number of bytes of its line, without the last one."""
    file.seek(0)
    for raw in file:
        document = json.loads(raw)
        if document["kind"] != "thawline/end":
            yield len(raw), document


def is_whole(file: BinaryIO) -> bool:
    """Whether the checksum in the last line matches the lines before it. Does not check the lines themselves."""
    file.seek(0)
    digest, last = hashlib.sha256(), b""
    while raw := file.readline(MAX_LINE + 1):
        digest.update(last)
        last = raw
    try:
        return bool(json.loads(last)["sha256"] == digest.hexdigest())
    except (ValueError, KeyError, TypeError):
        return False
