"""Studies over REST: create, look at, pause, resume, stop and delete."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status
from fastapi.concurrency import run_in_threadpool

from service import operations
from service.domain.budgets import parse_budget_change
from service.domain.pace import Course, study_seconds_left
from service.domain.parsing import resolve_paths, without_replace
from service.domain.records import Study
from service.domain.states import TrialState
from service.inspection import checked_study
from service.rest_models import ListedStudyView, StudyView
from service.store import Transaction, queries
from service.web import API
from service.web.body import Document
from service.web.crowd import SlowWork
from service.web.dependencies import FoundStudy, StudyRef, TheSettings, TheStore
from service.web.examples import BUDGET_BODY, STUDY_BODY
from service.web.idempotency import Keyed
from service.web.views import Standing, listed_study_view, study_view

router = APIRouter(prefix=API, tags=["studies"])
REPLACE = "keep an ended study of the same name under another one, and give this one its name"


@router.post("/studies", status_code=status.HTTP_201_CREATED, summary="Create a study", response_model=StudyView, openapi_extra=STUDY_BODY)
async def create_study(
    request: Request,
    document: Document,
    keyed: Keyed,
    store: TheStore,
    settings: TheSettings,
    replace: Annotated[bool, Query(description=REPLACE)] = False,
) -> Response:
    """Check a study, from JSON or YAML, and queue it. Relative paths in it are taken from the server's working directory.

    With `?replace=true`, or `replace: true` in the document, an ended study of the same name is kept under another one.
    """

    def checked_and_created(key: operations.Idempotency) -> Study:
        description, wanted = without_replace(document)
        spec = checked_study(resolve_paths(description, Path.cwd()), settings.data_roots)
        return operations.create_study(store, spec, key, settings.max_studies, replace_ended=replace or wanted)

    def answer() -> Response:
        return keyed.create(store, checked_and_created, _newborn, location=f"{API}/studies/{{id}}")

    work: SlowWork = request.app.state.inspection_work
    return await (work.run(answer) if _looks_at_files(document) else run_in_threadpool(answer))


def _looks_at_files(document: object) -> bool:
    """Whether the server is to look at the files that the study names, which may take many seconds."""
    data = document.get("data") if isinstance(document, dict) else None
    return not (isinstance(data, dict) and data.get("location") == "workers")


def _newborn(_tx: Transaction, study: Study) -> str:
    return study_view(study, Standing({TrialState.QUEUED: study.created})).model_dump_json()  # a baseline waits already


@router.get("/studies/{study}", summary="Show a study")
def show_study(study: FoundStudy, store: TheStore) -> StudyView:
    """The study as it stands, with its trials counted and the best of them."""
    return store.read(_now, study)


@router.post("/studies/{study}/pause", summary="Pause a study", response_model=StudyView)
def pause_study(study: FoundStudy, keyed: Keyed, store: TheStore) -> Response:
    """Start no further trial; those that run go on."""
    return keyed.change(store, lambda key: operations.pause_study(store, study.id, key), _told)


@router.post("/studies/{study}/resume", summary="Resume a study", response_model=StudyView)
def resume_study(study: FoundStudy, keyed: Keyed, store: TheStore) -> Response:
    """Let a study go on that is paused, failed or was stopped.

    A failed study has its data and weights checked again, its open trials go on, and its count of failures in a row begins anew.
    """
    return keyed.change(store, lambda key: operations.resume_study(store, study.id, key), _told)


@router.post("/studies/{study}/stop", summary="Stop a study", response_model=StudyView)
def stop_study(study: FoundStudy, keyed: Keyed, store: TheStore) -> Response:
    """Cancel its queued and running trials. What was measured stays."""
    return keyed.change(store, lambda key: operations.stop_study(store, study.id, key), _told)


@router.patch("/studies/{study}", summary="Change a study's budget", response_model=StudyView, openapi_extra=BUDGET_BODY)
def change_study(study: FoundStudy, document: Document, keyed: Keyed, store: TheStore) -> Response:
    """Set fields of the budget (`budget`), or add to them (`add`). A complete study with room for more trials is active again."""
    change = parse_budget_change(document)
    return keyed.change(store, lambda key: operations.extend_study(store, study.id, change, key), _told)


@router.delete("/studies/{study}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a study")
def delete_study(study: StudyRef, keyed: Keyed, store: TheStore) -> Response:
    """Delete the study with its trials, metrics and events."""
    return keyed.remove(store, lambda key: operations.delete_study(store, study, key))


def _now(tx: Transaction, study: Study) -> StudyView:
    return whole_study_view(tx, queries.find_study(tx, study.id))


def _told(tx: Transaction, study: Study) -> str:
    return _now(tx, study).model_dump_json()


def whole_study_view(tx: Transaction, study: Study) -> StudyView:
    """The study with its facts and what its trials say of it."""
    return study_view(study, _standings(tx, [study])[0])


def study_views(tx: Transaction, studies: Iterable[Study]) -> list[ListedStudyView]:
    """The studies with what their trials say of them."""
    listed = list(studies)
    return [listed_study_view(study, standing) for study, standing in zip(listed, _standings(tx, listed), strict=True)]


def _standings(tx: Transaction, listed: Sequence[Study]) -> list[Standing]:
    keys = [study.id for study in listed]
    counts, best = queries.counts(tx, keys), queries.best_trials(tx, listed)
    courses, saved = queries.courses(tx, keys), queries.saved(tx, keys)
    unavailable, live = queries.unavailabilities(tx, keys), queries.count_live(tx)
    nothing = queries.Saved()
    return [
        Standing(
            counts[study.id],
            best.get(study.id),
            [one for one in unavailable if one.study == study.id],
            live,
            _seconds_left(study, courses),
            saved.get(study.id, nothing),
        )
        for study in listed
    ]


def _seconds_left(study: Study, courses: Mapping[str, Course]) -> float | None:
    return study_seconds_left(study, courses[study.id], time.time()) if study.id in courses else None
