"""The pages: HTML shells that fill themselves from the REST interface, and their styles and modules."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.web.dependencies import TheStore
from service.web.static_files import ALWAYS_ASK, Static

HERE = Path(__file__).parent
ROOT = '<html lang="en"'  # of every shell
READ_ONLY_ROOT = f"{ROOT} data-read-only"  # hides what is of class `changes`

router = APIRouter(include_in_schema=False)


def static_files() -> Static:
    """The app that serves styles, modules and pictures."""
    return Static(HERE / "static")


Shell = Callable[[str], Response]


def shell_of(store: TheStore) -> Shell:
    """Gives a page's shell by its name; where nothing can be changed, it says so to styles and modules."""

    def shell(name: str) -> Response:
        html = (HERE / "pages" / f"{name}.html").read_text(encoding="utf-8")
        return HTMLResponse(html.replace(ROOT, READ_ONLY_ROOT, 1) if store.read_only else html, headers=ALWAYS_ASK)

    return shell


AShell = Annotated[Shell, Depends(shell_of)]


@router.get("/")
def studies_page(shell: AShell) -> Response:
    """All studies."""
    return shell("studies")


@router.get("/new")
def new_page(shell: AShell, store: TheStore) -> Response:
    """A form that makes a study; where none can be made, all studies."""
    return RedirectResponse("/", 303) if store.read_only else shell("new")


@router.get("/workers")
def workers_page(shell: AShell) -> Response:
    """All workers."""
    return shell("workers")


@router.get("/compare")
def compare_page(shell: AShell) -> Response:
    """Trials side by side: `?trial=STUDY:NUMBER` for each."""
    return shell("compare")


@router.get("/studies/{study}")
def study_page(study: str, shell: AShell) -> Response:
    """One study. The shell is the same for each, known or not; its module asks for the study and says when there is none."""
    return shell("study")


@router.get("/studies/{study}/best")
def best_page(study: str, shell: AShell) -> Response:
    """A study's exported configuration."""
    return shell("best")


@router.get("/studies/{study}/trials/{number}")
def trial_page(study: str, number: str, shell: AShell) -> Response:
    """One trial."""
    return shell("trial")


@router.get("/login")
def login_page(shell: AShell) -> Response:
    """Where a browser shows the token."""
    return shell("login")
