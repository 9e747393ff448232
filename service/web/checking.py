"""What would come of a study document, without creating anything: for a form that tells faults while one types."""

from pathlib import Path

from fastapi import APIRouter
from pydantic import Field

from service.domain.errors import NameTaken, StudyNotFound, StudyUnreadable
from service.domain.parsing import parse_study, resolve_paths
from service.domain.spec import StudySpec
from service.inspection import inspect_study
from service.store import Transaction, queries
from service.web import API
from service.web.body import Document
from service.web.dependencies import TheStore
from service.web.examples import STUDY_BODY
from service.web.view import View

router = APIRouter(prefix=API, tags=["studies"])


class CheckedView(View):
    """A study that could be created as it stands."""

    study: StudySpec = Field(description="as it would be stored: preset expanded, open ranges closed, defaults written out")
    trials: int | None = Field(description="how many configurations its search space has; null when a range is continuous", examples=[48])


@router.post("/studies/check", summary="Check a study", openapi_extra=STUDY_BODY)
def check_study(document: Document, store: TheStore) -> CheckedView:
    """Say what is wrong with a study, from JSON or YAML, as creating it would, or what it resolves to. Nothing is created."""
    spec = parse_study(resolve_paths(document, Path.cwd()))
    inspect_study(spec)
    store.read(_refuse_taken, spec.name)
    return CheckedView(study=spec, trials=spec.search_space.size)


def _refuse_taken(tx: Transaction, name: str) -> None:
    try:
        queries.find_study(tx, name)
    except StudyNotFound:
        return
    except StudyUnreadable:
        pass
    raise NameTaken
