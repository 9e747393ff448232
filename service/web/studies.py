"""Studies over REST: create, look at, pause, resume, stop and delete."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from fastapi import APIRouter, Response, status

from service import operations
from service.domain.pace import Course, study_seconds_left
from service.domain.parsing import parse_study, resolve_paths
from service.domain.records import Study
from service.domain.states import TrialState
from service.inspection import inspect_study
from service.store import Transaction, queries
from service.web import API
from service.web.body import Document
from service.web.dependencies import FoundStudy, StudyRef, TheSettings, TheStore
from service.web.examples import STUDY_BODY
from service.web.idempotency import Keyed
from service.web.views import Standing, StudyView, study_view

router = APIRouter(prefix=API, tags=["studies"])


@router.post("/studies", status_code=status.HTTP_201_CREATED, summary="Create a study", response_model=StudyView, openapi_extra=STUDY_BODY)
def create_study(document: Document, keyed: Keyed, store: TheStore, settings: TheSettings) -> Response:
    """Check a study, from JSON or YAML, and queue it. Relative paths in it are taken from the server's working directory."""

    def checked_and_created(key: operations.Idempotency) -> Study:
        spec = parse_study(resolve_paths(document, Path.cwd()))
        inspect_study(spec)
        return operations.create_study(store, spec, key, settings.max_studies)

    return keyed.create(store, checked_and_created, _newborn, location=f"{API}/studies/{{id}}")


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


@router.post("/studies/{study}/resume", summary="Resume a paused study", response_model=StudyView)
def resume_study(study: FoundStudy, keyed: Keyed, store: TheStore) -> Response:
    """Start trials again."""
    return keyed.change(store, lambda key: operations.resume_study(store, study.id, key), _told)


@router.post("/studies/{study}/stop", summary="Stop a study for good", response_model=StudyView)
def stop_study(study: FoundStudy, keyed: Keyed, store: TheStore) -> Response:
    """Cancel its queued and running trials. What was measured stays."""
    return keyed.change(store, lambda key: operations.stop_study(store, study.id, key), _told)


@router.delete("/studies/{study}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a study")
def delete_study(study: StudyRef, keyed: Keyed, store: TheStore) -> Response:
    """Delete the study with its trials, metrics and events."""
    return keyed.remove(store, lambda key: operations.delete_study(store, study, key))


def _now(tx: Transaction, study: Study) -> StudyView:
    return study_views(tx, [queries.find_study(tx, study.id)])[0]


def _told(tx: Transaction, study: Study) -> str:
    return _now(tx, study).model_dump_json()


def study_views(tx: Transaction, studies: Iterable[Study]) -> list[StudyView]:
    """The studies with what their trials say of them."""
    listed = list(studies)
    keys = [study.id for study in listed]
    counts, best = queries.counts(tx, keys), queries.best_trials(tx, listed)
    courses, saved = queries.courses(tx, keys), queries.saved(tx, keys)
    nothing = queries.Saved()
    return [
        study_view(study, Standing(counts[study.id], best.get(study.id), _seconds_left(study, courses), saved.get(study.id, nothing)))
        for study in listed
    ]


def _seconds_left(study: Study, courses: Mapping[str, Course]) -> float | None:
    return study_seconds_left(study, courses[study.id], time.time()) if study.id in courses else None
