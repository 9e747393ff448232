"""What a trial's result may hold, checked so that whatever reads it later finds what it expects."""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr, ValidationError, model_validator

from search_spaces import Fault, Faulty, raise_if_any
from service.domain.evidence import Evidence
from service.domain.parsing import faults_of
from trainer.contract import Reuse, Scores

Amount = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[StrictInt, Field(ge=0, le=2**53)]
Matrix = Annotated[list[list[Whole]], Field(max_length=65_536)]


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


def _strictly(model: type[BaseModel]) -> Callable[[object], BaseModel]:
    """Reads a value as the model, but takes no text for a number: others read it without a model."""

    def read(value: object) -> BaseModel:
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
    per_class_recall: dict[StrictStr, Amount | None] = Field(default_factory=dict)
    confusion_matrix: Matrix = Field(default_factory=list)
    reuse: Annotated[Reuse | None, BeforeValidator(_strictly(Reuse))] = None
    pace: _Pace | None = None
    evidence: Annotated[Evidence | None, BeforeValidator(_strictly(Evidence))] = None
    test: Annotated[Scores | None, BeforeValidator(_strictly(Scores))] = None

    @model_validator(mode="after")
    def _matrices_are_square(self) -> Self:
        raise_if_any(_square_faults("confusion_matrix", self.confusion_matrix))
        if self.test is not None:
            raise_if_any(fault.below(("test",)) for fault in _score_faults(self.test))
        return self


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


def test_images(result: Mapping[str, Any]) -> tuple[int, ...] | None:
    """How many test images of each class a checked result was scored on; None when it was not."""
    return tuple(sum(row) for row in result["test"]["confusion_matrix"]) if "test" in result else None


def _square_faults(name: str, matrix: Any) -> Iterator[Fault]:
    if any(len(row) != len(matrix) for row in matrix):
        yield Fault((name,), "not_square", "a confusion matrix has as many columns as rows; correct it")


def _score_faults(scores: Scores) -> Iterator[Fault]:
    matrix = scores.confusion_matrix
    yield from _square_faults("confusion_matrix", matrix)
    if any(count < 0 for row in matrix for count in row):
        yield Fault(("confusion_matrix",), "negative", "counts are 0 or more; correct it")
        return
    images = sum(map(sum, matrix))
    for name, text in (("predicted", scores.predicted), ("losses", scores.losses)):
        if text is not None and _length(text) != 2 * images:
            yield Fault((name,), "wrong_length", f"this is base64 of two bytes for each of the {images} test images; correct it")
    if scores.predicted is not None and _length(scores.predicted) == 2 * images and _largest(scores.predicted) >= max(1, len(matrix)):
        yield Fault(("predicted",), "unknown_class", f"classes go from 0 to {len(matrix) - 1}; correct it")


def _length(text: str) -> int | None:
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return None


def _largest(text: str) -> int:
    raw = base64.b64decode(text)
    return max((raw[place] | raw[place + 1] << 8 for place in range(0, len(raw), 2)), default=0)
