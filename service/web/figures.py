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
LEISURE = 10  # a figure that took a second is drawn every ten seconds at most, however often its study changes
LONGEST_LEISURE = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Subject:
    """What a figure shows: a study's key, the figure's name, its parameters."""

    study: str
    figure: str
    params: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as JSON."""

    body: bytes
    seq: int  # the study's last event that is in it
    drawn_at: float  # by the monotonic clock
    leisure: float  # seconds for which it will do, also when the study goes on

    @property
    def etag(self) -> str:
        """Of the content."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    def will_do(self, seq: int) -> bool:
        """Whether it may still be shown when the study has come to event `seq`."""
        return self.seq >= seq or time.monotonic() < self.drawn_at + self.leisure


class FigureCache:
    """The drawings of one process. One is made at a time; who asks for the same one meanwhile waits for it."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Subject, Drawing] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._easel = threading.Lock()

    def kept(self, subject: Subject, seq: int) -> Drawing | None:
        """The drawing, if one that will do is at hand."""
        return self._find(subject, seq)

    def get(self, subject: Subject, seq: int, draw: Callable[[], bytes]) -> Drawing:
        """The drawing, made now unless one that will do is at hand. What `draw` raises goes through."""
        if (known := self._find(subject, seq)) is not None:
            return known
        with self._easel:
            if (known := self._find(subject, seq)) is not None:
                return known
            start = time.monotonic()
            body = draw()
            now = time.monotonic()
            drawing = Drawing(body, seq, now, min(LEISURE * (now - start), LONGEST_LEISURE))
            self._keep(subject, drawing)
            return drawing

    def _find(self, subject: Subject, seq: int) -> Drawing | None:
        with self._lock:
            known = self._kept.get(subject)
            if known is None or not known.will_do(seq):
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
ALWAYS_ASK = {"Cache-Control": "no-cache"}  # with the ETag: what has not changed is not sent again

router = APIRouter(prefix=API, tags=["studies"])

FigureName = Annotated[str, Path(description=f"one of {', '.join(figures.FIGURES)}", examples=["param_importances"])]
Params = Annotated[
    list[str] | None,
    Query(
        max_length=MAX_PARAMETERS,
        description="parameters to show, for slice, parallel_coordinate, contour and rank; the most important ones where none are named",
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
            "description": "`data` and `layout` of a Plotly figure; `layout.meta` says in words what it shows, and up to which event",
        },
        304: {"description": "It has not changed"},
    },
)
async def show_figure(
    name: FigureName,
    study: FoundStudy,
    store: TheStore,
    request: Request,
    param: Params = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A figure of the study's trials, drawn anew as they change, though large ones not at each change."""
    asked = figures.checked(name, param or [], list(study.spec.search_space.root))
    drawings: FigureCache = request.app.state.drawings
    work: SlowWork = request.app.state.drawing_work
    subject = Subject(study.id, asked.name, asked.params)
    if (drawing := drawings.kept(subject, study.seq)) is None:
        drawing = await work.run(lambda: drawings.get(subject, study.seq, lambda: _drawn(store, study, asked)))
    headers = {**ALWAYS_ASK, "ETag": drawing.etag}
    if if_none_match is not None and drawing.etag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(drawing.body, headers=headers, media_type="application/json")


def _drawn(store: Store, study: Study, asked: figures.Request) -> bytes:
    figures.prepare(asked)
    now, exhibit = store.read(_exhibit, study.id, asked.name == figures.CURVES)
    figure: dict[str, Any] = figures.draw(asked, exhibit, time.time())
    figure["layout"]["meta"]["seq"] = now.seq
    return json.dumps(figure, separators=(",", ":"), allow_nan=False).encode()


def _exhibit(tx: Transaction, study_id: str, with_curves: bool) -> tuple[Study, figures.FigureData]:
    study = queries.find_study(tx, study_id)
    told = objective_curves(tx, study, MOST_POINTS) if with_curves else {}
    return study, figures.FigureData(study.spec, outcomes(tx, study.id), told)
