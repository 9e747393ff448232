"""HTML pages, and the static files that they load."""

import hashlib
import importlib.util
import mimetypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import Headers
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.search import figures
from service.web.dependencies import TheSettings, TheStore
from service.web.middleware import SECURITY_HEADERS, Packed, packed
from service.web.problems import ProblemError, ProblemKind

STATIC = Path(__file__).parent / "static"
mimetypes.add_type("text/javascript", ".js")  # some systems and Python 3.11 name it application/javascript
REVALIDATE = {"Cache-Control": "no-cache"}  # browsers revalidate each use, so that an upgrade takes effect at once
Signature = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Kept:
    """A compressed file. `signature` (modification time and size) detects changes."""

    signature: Signature
    zipped: bytes
    etag: str
    media_type: str


class Static(StaticFiles):
    """Serves the files of a folder with ETags. Files that exist at the start are served from memory and re-read when they change."""

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder)
        self._files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
        self._kept: dict[str, Kept] = {}

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Serve the file from memory if it existed at the start; else leave the request to Starlette."""
        if scope["method"] != "GET" or path not in self._files:
            return await super().get_response(path, scope)
        if (kept := self._current(path)) is None:
            return await super().get_response(path, scope)
        return _static_answer(kept, Headers(scope=scope))

    def file_response(self, *args: object, **kwargs: object) -> FileResponse:
        answer = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        answer.headers.update(REVALIDATE)
        return answer  # type: ignore[return-value]

    def _current(self, path: str) -> Kept | None:
        """The file's current content, read again if its signature has changed; None if the file no longer exists."""
        file, kept = self._files[path], self._kept.get(path)
        try:
            status = file.stat()
        except OSError:
            return None
        signature = status.st_mtime_ns, status.st_size
        if kept is None or kept.signature != signature:
            kept = self._kept[path] = _read(file, signature)
        return kept


def module_of(page: str) -> str:
    """URL path of the JavaScript module with the name that a task's ReportPage gives."""
    return f"/static/tasks/{page}.js"


def _read(file: Path, signature: Signature = (0, 0)) -> Kept:
    body = file.read_bytes()
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return Kept(signature, packed(body), f'"{hashlib.sha256(body).hexdigest()[:32]}"', kind)


def _static_answer(kept: Kept, headers: Headers) -> Response:
    """The file, or 304 if the client's copy is current."""
    caching = {"ETag": kept.etag, **REVALIDATE}
    if headers.get("if-none-match") == kept.etag:
        return Response(status_code=304, headers=caching)
    answer = Packed(kept.zipped, headers, media_type=kept.media_type)
    answer.headers.update(caching)
    return answer


HERE = Path(__file__).parent
ROOT = '<html lang="en"'  # the root element of every shell
LINK = re.compile(r'\b(?:href|src|action)="(?=/)')
READ_ONLY_ROOT = f"{ROOT} data-read-only"  # hides elements marked `changes`

router = APIRouter(include_in_schema=False)


def static_files() -> Static:
    """The ASGI app for stylesheets, JavaScript modules and pictures."""
    return Static(STATIC)


Shell = Callable[[str], Response]


def html_of(name: str, root_path: str) -> str:
    """The HTML shell `name`, with `root_path` added to its links. Modules derive the prefix from their own URL."""
    html = (HERE / "pages" / f"{name}.html").read_text(encoding="utf-8")
    return LINK.sub(rf"\g<0>{root_path}", html) if root_path else html


def shell_of(store: TheStore, settings: TheSettings) -> Shell:
    """Returns a function that renders a shell by name. On a read-only store it sets `data-read-only`, which styles and modules evaluate."""

    def shell(name: str) -> Response:
        html = html_of(name, settings.root_path)
        return HTMLResponse(html.replace(ROOT, READ_ONLY_ROOT, 1) if store.read_only else html, headers=REVALIDATE)

    return shell


AShell = Annotated[Shell, Depends(shell_of)]


@router.get("/")
def studies_page(shell: AShell) -> Response:
    """The page with all studies."""
    return shell("studies")


@router.get("/new")
def new_page(shell: AShell, store: TheStore) -> Response:
    """The form for a new study; on a read-only store, a redirect to all studies."""
    return RedirectResponse("/", 303) if store.read_only else shell("new")


@router.get("/workers")
def workers_page(shell: AShell) -> Response:
    """The page with all workers."""
    return shell("workers")


@router.get("/compare")
def compare_page(shell: AShell) -> Response:
    """Trials side by side: `?trial=STUDY:NUMBER` for each."""
    return shell("compare")


@router.get("/studies/{study}")
def study_page(study: str, shell: AShell) -> Response:
    """The page of one study. The shell does not depend on the study; its module reads the study and reports a missing one."""
    return shell("study")


@router.get("/studies/{study}/best")
def best_page(study: str, shell: AShell) -> Response:
    """The page of a study's exported configuration."""
    return shell("best")


TRIAL_POLICY = f"{SECURITY_HEADERS['Content-Security-Policy']}; img-src 'self' data:"


@router.get("/studies/{study}/trials/{number}")
def trial_page(study: str, number: str, shell: AShell) -> Response:
    """The page of one trial, which has small pictures in its report."""
    page = shell("trial")
    page.headers["Content-Security-Policy"] = TRIAL_POLICY
    return page


@router.get("/login")
def login_page(shell: AShell) -> Response:
    """The form that exchanges the token for a session cookie."""
    return shell("login")


FRAME_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "connect-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Frame-Options": "SAMEORIGIN",
    "Cache-Control": "no-cache",
}
FOR_GOOD = "private, max-age=31536000, immutable"


@lru_cache(maxsize=1)
def script() -> Kept:
    """The script of the installed Plotly package, cached after the first call. Raises PlotlyMissing."""
    return _read(figures.script_file())


@router.get("/plotly.js")
def plotly_script(request: Request, v: str = "") -> Response:
    """Plotly's script. A URL with the installed version is cached by browsers permanently."""
    answer = _static_answer(script(), request.headers)
    if v == figures.script_version():
        answer.headers["Cache-Control"] = FOR_GOOD
    return answer


@router.get("/figure")
def figure_page(settings: TheSettings) -> Response:
    """The frame that draws figures sent by its parent page. Raises PlotlyMissing."""
    page = html_of("figure", settings.root_path).replace("{version}", figures.script_version())
    return Response(page, headers=FRAME_HEADERS, media_type="text/html; charset=utf-8")


SWAGGER_PACKAGE = "fastapi_offline"
SWAGGER_MISSING = ProblemKind(503, "swagger-ui-missing", "Swagger UI is not installed")
DOCS_POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Swagger UI needs two exceptions to the default policy: `data:` pictures, for its styles, and no trusted types, for markup."""


@cache
def swagger_file(name: str) -> Kept:
    """A file of Swagger UI from the installed package, located without importing it. Raises ProblemError if it is missing."""
    found = importlib.util.find_spec(SWAGGER_PACKAGE)
    for folder in (found and found.submodule_search_locations) or ():
        if (file := Path(folder) / "static" / name).is_file():
            return _read(file)
    detail = "The package fastapi-offline is missing or incomplete; run `pip install --force-reinstall fastapi-offline`."
    raise ProblemError(SWAGGER_MISSING, detail)


@router.get("/docs")
def docs_page(shell: AShell) -> Response:
    """The page with Swagger UI for `/openapi.json`."""
    page = shell("docs")
    page.headers["Content-Security-Policy"] = DOCS_POLICY
    return page


@router.get("/docs/swagger-ui.js")
def swagger_script(request: Request) -> Response:
    """Swagger UI's script."""
    return _static_answer(swagger_file("swagger-ui-bundle.js"), request.headers)


@router.get("/docs/swagger-ui.css")
def swagger_styles(request: Request) -> Response:
    """Swagger UI's styles."""
    return _static_answer(swagger_file("swagger-ui.css"), request.headers)
