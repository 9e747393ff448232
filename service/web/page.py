"""The pages: HTML shells that fill themselves from the REST interface, and their styles and modules."""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).parent
ALWAYS_ASK = {"Cache-Control": "no-cache"}  # so that an upgrade is seen at once

router = APIRouter(include_in_schema=False)


class Static(StaticFiles):
    """The files under static/, asked for anew each time and sent only when they changed."""

    def file_response(self, *args: object, **kwargs: object) -> FileResponse:
        answer = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        answer.headers.update(ALWAYS_ASK)
        return answer  # type: ignore[return-value]


def static_files() -> Static:
    """The app that serves them."""
    return Static(directory=HERE / "static")


@router.get("/")
def studies_page() -> FileResponse:
    """All studies."""
    return _page("studies")


@router.get("/new")
def new_page() -> FileResponse:
    """A form that makes a study."""
    return _page("new")


@router.get("/workers")
def workers_page() -> FileResponse:
    """All workers."""
    return _page("workers")


@router.get("/compare")
def compare_page() -> FileResponse:
    """Trials side by side: `?trial=STUDY:NUMBER` for each."""
    return _page("compare")


@router.get("/studies/{study}")
def study_page(study: str) -> FileResponse:
    """One study. The shell is the same for each, known or not; its module asks for the study and says when there is none."""
    return _page("study")


@router.get("/studies/{study}/best")
def best_page(study: str) -> FileResponse:
    """A study's exported configuration."""
    return _page("best")


@router.get("/studies/{study}/trials/{number}")
def trial_page(study: str, number: str) -> FileResponse:
    """One trial."""
    return _page("trial")


@router.get("/login")
def login_page() -> FileResponse:
    """Where a browser shows the token."""
    return _page("login")


def _page(name: str) -> FileResponse:
    return FileResponse(HERE / "pages" / f"{name}.html", headers=ALWAYS_ASK, media_type="text/html; charset=utf-8")
