"""The ASGI application: routes, middleware and the OpenAPI document."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from service.operations import Searches
from service.outputs.configured import sinks_of
from service.outputs.following import EventFollower
from service.settings import Settings
from service.store import Store
from service.web import auth, catalogue, claims, events, health, pages, problems, results, studies, study_io, trials, workers
from service.web.auth import COOKIE, HostMiddleware, SameSiteMiddleware, TokenMiddleware
from service.web.dependencies import Disk, shared_answers
from service.web.events import Streams
from service.web.health import MetricsMiddleware, PrometheusMetrics, Sweeper
from service.web.middleware import (
    Buckets,
    ConcurrencyLimitMiddleware,
    HeadMiddleware,
    PrefixMiddleware,
    RateLimitMiddleware,
    ReadOnlyMiddleware,
    SecurityHeadersMiddleware,
    SlowWork,
)
from service.web.requests import BodyLimitMiddleware
from service.web.results import FigureCache
from service.web.studies import Trends
from service.web.trials import Curves

SECURITY_SCHEMES: dict[str, Any] = {
    "token": {"type": "http", "scheme": "bearer", "description": "The server's THAW_TOKEN"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Session cookie, set by the login page /login"},
}
REFERENCE = re.compile(r'"#/components/schemas/([^"]+)"')
PUBLIC = frozenset({"/livez"})


def describe(app: FastAPI, *, locked: bool, root_path: str = "") -> None:
    """Replace `app.openapi`: removes superfluous schemas, and adds the path prefix and, if `locked`, the security schemes."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            _drop_unused_schemas(document)
            if root_path:
                document["servers"] = [{"url": root_path}]
            if locked:
                _require_token(document)
        assert app.openapi_schema is not None  # noqa: S101  (set by FastAPI's `openapi`; narrows the type for mypy)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_unused_schemas(document: dict[str, Any]) -> None:
    """Remove unreferenced schemas: FastAPI also lists base models that a task's own models replace."""
    schemas = document["components"]["schemas"]
    while unused := schemas.keys() - set(REFERENCE.findall(json.dumps(document))):
        for name in unused:
            del schemas[name]


def _require_token(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    document["security"] = [{name: []} for name in SECURITY_SCHEMES]
    for path in PUBLIC & document["paths"].keys():
        for operation in document["paths"][path].values():
            operation["security"] = []


VERSION = metadata.version("thawline")
DESCRIPTION = (
    "Thawline searches for the hyperparameters with which a pretrained model is best fine-tuned on your data. "
    "Create a study, follow its events, and export a configuration for production training. "
    "Errors are `application/problem+json` (RFC 9457); validation errors contain a JSON pointer to each invalid field."
)


def create_app(store: Store, settings: Settings) -> FastAPI:
    """Create the application. The store's schema must be up to date (see `serve`). With a read-only store, the app refuses changes."""
    app = FastAPI(
        title="Thawline", version=VERSION, description=DESCRIPTION, lifespan=_lifespan,
        docs_url=None, redoc_url=None, redirect_slashes=False,
        responses={"4XX": problems.RESPONSE, "5XX": problems.RESPONSE},
    )  # fmt: skip
    app.state.store = store
    app.state.settings = settings
    app.state.streams = Streams(store)
    app.state.answers, app.state.curves = shared_answers(), Curves(store)
    app.state.drawings, app.state.replays = FigureCache(), FigureCache(most_bytes=2_000_000)
    app.state.drawing_work, app.state.replay_work = SlowWork(threads=1, most_waiting=32), SlowWork(threads=1, most_waiting=32)
    app.state.inspection_work = SlowWork(threads=3, most_waiting=128)
    app.state.claim_work, app.state.report_work = SlowWork(threads=4, most_waiting=1_000), SlowWork(threads=8, most_waiting=1_000)
    app.state.trends = Trends()
    app.state.searches = Searches()
    app.state.sessions = None if settings.token is None else auth.Sessions(settings.token, store)
    app.state.imports = study_io.Imports()
    app.state.sweeper = None if store.read_only else Sweeper(store, settings)
    app.state.follower = None if store.read_only else EventFollower(store, sinks_of(store, settings), settings.lease_seconds)
    app.state.disk = Disk(store.file or settings.home, settings.disk_floor_bytes if store.embedded else 0)
    app.state.figures = PrometheusMetrics(store, app.state.streams, app.state.sweeper, app.state.disk)
    problems.install(app)
    _add_routes(app)
    _add_middlewares(app)
    describe(app, locked=settings.token is not None, root_path=settings.root_path)
    return app


def _add_routes(app: FastAPI) -> None:
    for module in (studies, results, study_io, trials, claims, events, catalogue, workers, health, auth, pages):
        app.include_router(module.router)
    app.mount("/static", pages.static_files(), name="static")


def _add_middlewares(app: FastAPI) -> None:
    """Add the middlewares, innermost first."""
    settings: Settings = app.state.settings
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)  # not of event streams, nor of `Packed` bodies
    app.add_middleware(BodyLimitMiddleware, larger=study_io.LARGER)
    if app.state.store.read_only:
        app.add_middleware(ReadOnlyMiddleware)
    app.add_middleware(SameSiteMiddleware)
    app.add_middleware(RateLimitMiddleware, per_second=settings.writes_per_second)
    app.add_middleware(TokenMiddleware, token=settings.token, sessions=app.state.sessions, refusals=Buckets(settings.writes_per_second))
    app.add_middleware(HostMiddleware, allowed=settings.hosts)
    app.add_middleware(ConcurrencyLimitMiddleware)
    app.add_middleware(MetricsMiddleware, figures=app.state.figures)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(PrefixMiddleware, root_path=settings.root_path)
    app.add_middleware(SecurityHeadersMiddleware)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    sweeper: Sweeper | None = app.state.sweeper
    follower: EventFollower | None = app.state.follower
    if sweeper:
        sweeper.start()
    if follower:
        follower.start()
    try:
        yield
    finally:
        app.state.streams.stopping.set()
        if follower:
            follower.stop()
        if sweeper:
            sweeper.stop()
