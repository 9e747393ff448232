"""A study's figures over REST, as Plotly has them."""

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from search_spaces.parameters import MAX_PARAMETERS
from service.domain.records import Study
from service.search import figures
from service.store import Store, Transaction, queries
from service.store.queries.trials import objective_curves, outcomes
from service.web import API
from service.web.crowd import SlowWork
from service.web.dependencies import FoundStudy, TheStore
from service.web.drawings import Drawings, Subject

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
    drawings: Drawings = request.app.state.drawings
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


def _exhibit(tx: Transaction, study_id: str, with_curves: bool) -> tuple[Study, figures.Exhibit]:
    study = queries.find_study(tx, study_id)
    told = objective_curves(tx, study, MOST_POINTS) if with_curves else {}
    return study, figures.Exhibit(study.spec, outcomes(tx, study.id), told)
