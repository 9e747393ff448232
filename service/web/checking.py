"""Check a study document, and describe study documents by JSON Schema. Nothing is created."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from search_spaces import Fault
from service.domain.errors import InvalidInput, NameTaken, StudyNotFound, StudyUnreadable
from service.domain.parsing import NOT_SEARCHED, resolve_paths, unknown_task, without_replace
from service.domain.spec import StudySpec
from service.inspection import checked_study
from service.rest_models import CheckedView, FaultView, SchemaView
from service.settings import Settings
from service.store import Store, Transaction, queries
from service.web import API
from service.web.body import Raw, read_document
from service.web.crowd import SlowWork
from service.web.dependencies import TheSettings, TheStore
from service.web.examples import ANY_STUDY_BODY
from service.web.notices import notices_of
from service.web.problems import MALFORMED, MOST_FAULTS, ProblemError
from trainer.configuration import FIRST_TASK
from trainer.tasks.registry import spec_of, specs

router = APIRouter(prefix=API, tags=["studies"])


@cache
def schema_of(task: str) -> SchemaView:
    """Of the studies of an installed task."""
    spec = spec_of(task)
    return SchemaView(
        study=StudySpec.of_task(task).model_json_schema(),
        hyperparameters=spec.Hyperparameters.model_json_schema(),
        not_searched=sorted(NOT_SEARCHED),
        metrics={name: metric.direction for name, metric in spec.metrics.items()},
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
async def check_study(
    request: Request, read: Annotated[tuple[Any, list[Fault]], Depends(read_if_possible)], store: TheStore, settings: TheSettings
) -> CheckedView:
    """Say what is wrong with a study, from JSON or YAML, as creating it would, or what it resolves to. Nothing is created.

    Faults are an answer here and no problem: a form asks while it is being filled in.
    """
    document, faults = read
    if faults:
        return _faulty(None, faults)
    work: SlowWork = request.app.state.inspection_work
    return await work.run(lambda: _checked(document, store, settings))


def _checked(document: Any, store: Store, settings: Settings) -> CheckedView:
    try:
        description, replaces = without_replace(document)
        spec = checked_study(resolve_paths(description, Path.cwd()), settings.data_roots)
        store.read(_refuse_taken, spec.name, replaces)
    except InvalidInput as error:
        return _faulty(document, error.faults)
    except NameTaken as error:
        return _faulty(document, [Fault(("name",), "name_taken", str(error))])
    return CheckedView(document=document, study=spec, trials=spec.search_space.distinct, faults=[], notices=notices_of(spec))


@router.get("/study-schema", summary="Describe a study document")
def show_schema(task: Annotated[str, Query(max_length=128, description="the name of an installed task")] = FIRST_TASK) -> SchemaView:
    """What a study document of the task may hold, as JSON Schema: its fields, the trainer's hyperparameters, and the metrics."""
    if task not in specs():
        raise InvalidInput([unknown_task(("query", "task"))])
    return schema_of(task)


def _faulty(document: object, faults: Iterable[Fault]) -> CheckedView:
    listed = [FaultView(pointer=fault.pointer, code=fault.code, detail=fault.message) for fault in faults]
    return CheckedView(document=document, study=None, trials=None, faults=listed[:MOST_FAULTS], notices=[])


def _refuse_taken(tx: Transaction, name: str, replaces: bool) -> None:
    try:
        if queries.find_study(tx, name).state.terminal and replaces:
            return
    except StudyNotFound:
        if not queries.is_being_imported(tx, name):
            return
    except StudyUnreadable:
        pass
    raise NameTaken
