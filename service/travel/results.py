"""What a trial's result may hold, checked so that whatever reads it later finds what it expects."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from search_spaces import Fault, Faulty, raise_if_any
from service.domain.parsing import faults_of
from service.domain.pruning import Evidence
from trainer.protocol import Reuse, Scores
from trainer.tasks.base import TaskSpec

Amount = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e15, le=1e15)]  # sums of them stay finite
Whole = Annotated[StrictInt, Field(ge=0, le=2**53)]
Of = TypeVar("Of", bound=BaseModel)


class _Open(BaseModel):
    """Fields that are not named here are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")


class _Pace(_Open):
    samples_per_second: Amount | None = None
    seconds_left: Amount | None = None
    memory: Whole | None = None
    utilization: Amount | None = None
    seconds: dict[StrictStr, Amount | None] = Field(default_factory=dict)
    saved_seconds: Amount | None = None


def _strictly(model: type[Of]) -> Callable[[object], Of]:
    """Reads a value as the model, but takes no text for a number: others read it without a model."""

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
    reuse: Annotated[Reuse | None, BeforeValidator(_strictly(Reuse))] = None
    pace: _Pace | None = None
    evidence: Annotated[Evidence | None, BeforeValidator(_strictly(Evidence))] = None
    test: Annotated[Scores | None, BeforeValidator(_strictly(Scores))] = None


def check_result(result: dict[str, Any]) -> dict[str, Any]:
    """The result itself, as it came. Raises Faulty with what is wrong in it."""
    if nulls := [name for name in _Result.model_fields if name in result and result[name] is None]:
        raise_if_any(Fault((name,), "null", "leave this out, or give it a value") for name in nulls)
    try:
        _Result.model_validate(result)
    except ValidationError as error:
        raise Faulty(_faults_in(error)) from None
    return result


def _faults_in(error: ValidationError) -> Iterator[Fault]:
    for item in error.errors(include_url=False, include_input=False):
        yield from faults_of(item)


def _check_fields(model: type[BaseModel], report: Mapping[str, Any]) -> None:
    """Raises Faulty where one of the fields is not the model's. A file may lack others: nothing but their display needs them."""
    try:
        _strictly(model)(report)
    except Faulty as error:
        raise_if_any(fault for fault in error.faults if fault.code != "missing" or len(fault.path) > 1)


def test_report(task: TaskSpec, result: Mapping[str, Any]) -> BaseModel | None:
    """The task's report of the test examples in a checked result, None without one. Raises Faulty where a report is not the task's.

    The fields of the other report stand beside those that every result has.
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
