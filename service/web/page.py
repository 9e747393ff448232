"""The pages: HTML shells that fill themselves from the REST interface, and their styles and modules."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.web.dependencies import TheSettings, TheStore
from service.web.static_files import ALWAYS_ASK, STATIC, Static

HERE = Path(__file__).parent
ROOT = '<html lang="en"'  # of every shell
LINK = re.compile(r'\b(?:href|src|action)="(?=/)')
READ_ONLY_ROOT = f"{ROOT} data-read-only"  # hides elements marked `changes`

router = APIRouter(include_in_schema=False)


def static_files() -> Static:
    """The app that serves styles, modules and pictures."""
    return Static(STATIC)


Shell = Callable[[str], Response]


def html_of(name: str, root_path: str) -> str:
    """The shell of that name, whose links lead below the prefix. Modules find the prefix by their own address."""
    html = (HERE / "pages" / f"{name}.html").read_text(encoding="utf-8")
    return LINK.sub(rf"\g<0>{root_path}", html) if root_path else html


def shell_of(store: TheStore, settings: TheSettings) -> Shell:
    """Gives a page's shell by its name; where nothing can be changed, it says so to styles and modules."""

    def shell(name: str) -> Response:
        html = html_of(name, settings.root_path)
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
