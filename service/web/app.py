"""The app: the middlewares in their order, the routers, and the thread that looks for lost workers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import FastAPI

from service.disk import Disk
from service.settings import Settings
from service.store import Store
from service.web import (
    best,
    catalogues,
    changes,
    checking,
    confirmations,
    curves,
    figures,
    health,
    listing,
    logs,
    page,
    plotly,
    problems,
    pruning,
    session,
    stream,
    studies,
    table,
    travelling,
    trials,
    workers,
)
from service.web.access import Guard, Hosts, SameSite, Tokens
from service.web.addressing import HeadMiddleware, PrefixMiddleware
from service.web.body import BodyLimit
from service.web.compression import Compression
from service.web.crowd import Crowd, SlowWork
from service.web.curves import Curves
from service.web.description import describe
from service.web.drawings import Drawings
from service.web.health import Counting, Figures
from service.web.listing import Trends
from service.web.rates import Buckets, Rates
from service.web.reading import ReadOnly
from service.web.shared import shared_answers
from service.web.streams import Streams
from service.web.sweeper import Sweeper

VERSION = metadata.version("thawline")
DESCRIPTION = (
    "Thawline finds the best way to fine-tune a pretrained model on your data. "
    "Post a study, follow it, and fetch a configuration that is ready for production training. "
    "Every error is `application/problem+json` (RFC 9457) and points at the field."
)


def create_app(store: Store, settings: Settings) -> FastAPI:
    """The server on this store. The schema must be there: see `serve`. On a store that is read-only it changes nothing."""
    app = FastAPI(
        title="Thawline", version=VERSION, description=DESCRIPTION, lifespan=_lifespan,
        docs_url=None, redoc_url=None, redirect_slashes=False,
        responses={"4XX": problems.RESPONSE, "5XX": problems.RESPONSE},
    )  # fmt: skip
    app.state.store = store
    app.state.settings = settings
    app.state.streams = Streams(store)
    app.state.answers, app.state.curves = shared_answers(), Curves(store)
    app.state.drawings, app.state.replays = Drawings(), Drawings(most_bytes=2_000_000)
    app.state.drawing_work, app.state.replay_work = SlowWork(threads=1, most_waiting=32), SlowWork(threads=1, most_waiting=32)
    app.state.inspection_work = SlowWork(threads=3, most_waiting=128)
    app.state.trends = Trends()
    app.state.sessions = None if settings.token is None else session.Sessions(settings.token, store)
    app.state.imports = travelling.Imports()
    app.state.sweeper = None if store.read_only else Sweeper(store, settings)
    app.state.disk = Disk(store.file or settings.home, settings.disk_floor_bytes if store.embedded else 0)
    app.state.figures = Figures(store, app.state.streams, app.state.sweeper, app.state.disk)
    problems.install(app)
    _add_routes(app)
    _add_middlewares(app)
    describe(app, locked=settings.token is not None, root_path=settings.root_path)
    return app


def _add_routes(app: FastAPI) -> None:
    for room in (
        checking,
        listing,
        studies,
        best,
        travelling,
        confirmations,
        trials,
        logs,
        changes,
        table,
        curves,
        figures,
        pruning,
        stream,
        catalogues,
        workers,
        health,
        session,
        plotly,
        page,
    ):
        app.include_router(room.router)
    app.mount("/static", page.static_files(), name="static")


def _add_middlewares(app: FastAPI) -> None:
    """From the innermost to the outermost."""
    settings: Settings = app.state.settings
    app.add_middleware(Compression)
    app.add_middleware(BodyLimit, larger=travelling.LARGER)
    if app.state.store.read_only:
        app.add_middleware(ReadOnly)
    app.add_middleware(SameSite)
    app.add_middleware(Rates, per_second=settings.writes_per_second)
    app.add_middleware(Tokens, token=settings.token, sessions=app.state.sessions, refusals=Buckets(settings.writes_per_second))
    app.add_middleware(Hosts, allowed=settings.hosts)
    app.add_middleware(Crowd)
    app.add_middleware(Counting, figures=app.state.figures)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(PrefixMiddleware, root_path=settings.root_path)
    app.add_middleware(Guard)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    sweeper: Sweeper | None = app.state.sweeper
    if sweeper:
        sweeper.start()
    try:
        yield
    finally:
        app.state.streams.stopping.set()
        if sweeper:
            sweeper.stop()
