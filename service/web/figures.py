"""Figures of a study, drawn by Plotly and cached."""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from search_spaces.parameters import MAX_PARAMETERS
from service.domain.records import Study
from service.search import figures
from service.store import Store, Transaction, queries
from service.store.queries.trials import objective_curves, outcomes
from service.web import API
from service.web.dependencies import FoundStudy, TheStore
from service.web.middleware import SlowWork

MOST_BYTES = 16_000_000
# A figure is reused for a multiple of its drawing time although its study has changed, so that drawing takes at most a tenth of the time.
REUSE_FACTOR = 10
MOST_REUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Subject:
    """The cache key of a figure: the study's id, the figure's name and its parameters."""

    study: str
    figure: str
    params: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as JSON."""

    body: bytes
    seq: int  # the study's last event that the figure includes
    drawn_at: float  # by the monotonic clock
    reuse_seconds: float  # for which the figure is served although the study has newer events

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    def is_fresh(self, seq: int) -> bool:
        """Whether the figure can be served when `seq` is the study's last event."""
        return self.seq >= seq or time.monotonic() < self.drawn_at + self.reuse_seconds


class FigureCache:
    """An LRU cache of figures. One figure is drawn at a time; concurrent requests for the same figure share one drawing."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Subject, Drawing] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._drawing = threading.Lock()  # held while a figure is drawn

    def kept(self, subject: Subject, seq: int) -> Drawing | None:
        """The cached figure if it is fresh; else None."""
        return self._find(subject, seq)

    def get(self, subject: Subject, seq: int, draw: Callable[[], bytes]) -> Drawing:
        """The cached figure if it is fresh; else the result of `draw`, whose exceptions propagate."""
        if (known := self._find(subject, seq)) is not None:
            return known
        with self._drawing:
            # Look again: another thread may have drawn the figure while this one waited for the lock.
            if (known := self._find(subject, seq)) is not None:
                return known
            start = time.monotonic()
            body = draw()
            now = time.monotonic()
            drawing = Drawing(body, seq, now, min(REUSE_FACTOR * (now - start), MOST_REUSE_SECONDS))
            self._keep(subject, drawing)
            return drawing

    def _find(self, subject: Subject, seq: int) -> Drawing | None:
        with self._lock:
            known = self._kept.get(subject)
            if known is None or not known.is_fresh(seq):
                return None
            self._kept.move_to_end(subject)
            return known

    def _keep(self, subject: Subject, drawing: Drawing) -> None:
        with self._lock:
            if (old := self._kept.pop(subject, None)) is not None:
                self._size -= len(old.body)
            self._kept[subject] = drawing
            self._size += len(drawing.body)
            while self._size > self._most and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1].body)


MOST_POINTS = 40_000  # of learning curves
REVALIDATE = {"Cache-Control": "no-cache"}  # clients revalidate with the ETag and get 304 if the figure has not changed

router = APIRouter(prefix=API, tags=["studies"])

FigureName = Annotated[str, Path(description=f"one of {', '.join(figures.FIGURES)}", examples=["param_importances"])]
ParamNames = Annotated[
    list[str] | None,
    Query(
        max_length=MAX_PARAMETERS,
        description="parameters for slice, parallel_coordinate, contour and rank; by default the most important ones",
        examples=[["lr", "momentum"]],
    ),
]


@router.get(
    "/studies/{study}/figures/{name}",
    summary="Draw a figure",
    response_class=Response,
    responses={
        200: {
            "content": {"application/json": {"schema": {"type": "object", "required": ["data", "layout"]}}},
            "description": "`data` and `layout` of a Plotly figure; `layout.meta` has a text for display and the last event included",
        },
        304: {"description": "The figure has not changed"},
    },
)
async def show_figure(
    name: FigureName,
    study: FoundStudy,
    store: TheStore,
    request: Request,
    param: ParamNames = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A figure of the study's trials. It is drawn again after changes; a figure that takes long to draw can be up to 5 seconds old."""
    chosen = figures.checked(name, param or [], list(study.spec.search_space.root))
    drawings: FigureCache = request.app.state.drawings
    work: SlowWork = request.app.state.drawing_work
    subject = Subject(study.id, chosen.name, chosen.params)
    if (drawing := drawings.kept(subject, study.seq)) is None:
        drawing = await work.run(lambda: drawings.get(subject, study.seq, lambda: _drawn(store, study, chosen)))
    headers = {**REVALIDATE, "ETag": drawing.etag}
    if if_none_match is not None and drawing.etag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(drawing.body, headers=headers, media_type="application/json")


def _drawn(store: Store, study: Study, request: figures.Request) -> bytes:
    figures.prepare(request)
    latest, data = store.read(_figure_data, study.id, request.name == figures.CURVES)
    figure: dict[str, Any] = figures.draw(request, data, time.time())
    figure["layout"]["meta"]["seq"] = latest.seq
    return json.dumps(figure, separators=(",", ":"), allow_nan=False).encode()


def _figure_data(tx: Transaction, study_id: str, with_curves: bool) -> tuple[Study, figures.FigureData]:
    study = queries.find_study(tx, study_id)
    curves = objective_curves(tx, study, MOST_POINTS) if with_curves else {}
    return study, figures.FigureData(study.spec, outcomes(tx, study.id), curves)
