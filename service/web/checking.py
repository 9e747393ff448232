"""Study documents without creating anything: what one may hold, what is in one, and what would come of it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from search_spaces import Fault
from service.domain.errors import InvalidInput, NameTaken, StudyNotFound, StudyUnreadable
from service.domain.parsing import NOT_SEARCHED, parse_study, resolve_paths
from service.domain.spec import StudySpec
from service.inspection import inspect_study
from service.store import Transaction, queries
from service.web import API
from service.web.body import Raw, read_document
from service.web.dependencies import TheStore
from service.web.examples import ANY_STUDY_BODY
from service.web.problems import MALFORMED, MOST_FAULTS, ProblemError
from service.web.view import View
from trainer.contract import METRICS, Direction, Hyperparameters

router = APIRouter(prefix=API, tags=["studies"])


class FaultView(View):
    """One thing that is wrong with a document."""

    pointer: str = Field(examples=["#/search_space/lr/low"])
    code: str = Field(examples=["low_above_high"])
    detail: str = Field(examples=["low is above high; exchange them"])


class CheckedView(View):
    """What came of a check: a study that could be created as it stands, or what is wrong."""

    document: Any = Field(description="what was sent, as plain JSON; null when it cannot be read")
    study: StudySpec | None = Field(description="as it would be stored: preset expanded, open ranges closed, defaults written out")
    trials: int | None = Field(description="how many configurations its search space has; null when a range is continuous", examples=[48])
    faults: list[FaultView] = Field(description="none of a sound study")


class SchemaView(View):
    """What a study document may hold. Each schema has its own `$defs`."""

    study: dict[str, Any] = Field(description="JSON Schema of the document")
    hyperparameters: dict[str, Any] = Field(description="JSON Schema of what `search_space` and `fixed` may name")
    not_searched: list[str] = Field(description="hyperparameters that a search space may not name", examples=[["seed"]])
    metrics: Mapping[str, Direction] = Field(description="what an objective may name, with the direction that is better")


SCHEMA = SchemaView(
    study=StudySpec.model_json_schema(),
    hyperparameters=Hyperparameters.model_json_schema(),
    not_searched=sorted(NOT_SEARCHED),
    metrics=METRICS,
)


def read_if_possible(request: Request, raw: Raw) -> tuple[Any, list[Fault]]:
    """The document, or why it is none. Raises ProblemError for a body that is too large or of another type."""
    try:
        return read_document(request, raw), []
    except InvalidInput as error:
        return None, list(error.faults)
    except ProblemError as error:
        if error.kind is not MALFORMED:
            raise
        return None, list(error.faults) or [Fault((), "malformed", error.detail)]


@router.post("/study-check", summary="Check a study", openapi_extra=ANY_STUDY_BODY)
def check_study(read: Annotated[tuple[Any, list[Fault]], Depends(read_if_possible)], store: TheStore) -> CheckedView:
    """Say what is wrong with a study, from JSON or YAML, as creating it would, or what it resolves to. Nothing is created.

    Faults are an answer here and no problem: a form asks while it is being filled in.
    """
    document, faults = read
    if faults:
        return _faulty(None, faults)
    try:
        spec = parse_study(resolve_paths(document, Path.cwd()))
        inspect_study(spec)
        store.read(_refuse_taken, spec.name)
    except InvalidInput as error:
        return _faulty(document, error.faults)
    except NameTaken as error:
        return _faulty(document, [Fault(("name",), "name_taken", str(error))])
    return CheckedView(document=document, study=spec, trials=spec.search_space.size, faults=[])


@router.get("/study-schema", summary="Describe a study document")
def show_schema() -> SchemaView:
    """What a study document may hold, as JSON Schema: its fields, the trainer's hyperparameters, and the metrics."""
    return SCHEMA


def _faulty(document: object, faults: Iterable[Fault]) -> CheckedView:
    listed = [FaultView(pointer=fault.pointer, code=fault.code, detail=fault.message) for fault in faults]
    return CheckedView(document=document, study=None, trials=None, faults=listed[:MOST_FAULTS])


def _refuse_taken(tx: Transaction, name: str) -> None:
    try:
        queries.find_study(tx, name)
    except StudyNotFound:
        return
    except StudyUnreadable:
        pass
    raise NameTaken
