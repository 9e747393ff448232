"""Endpoints for a study's results: exports, the confirmation, the pruning report and figures."""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, assert_never

from fastapi import APIRouter, Header, Path, Query, Request, Response

from search_spaces.parameters import MAX_PARAMETERS
from service.confirmation.recommendation import exported_of
from service.confirmation.verdict import phase_of, verdict_of
from service.domain.pruning import PruningReport
from service.domain.records import Study
from service.domain.states import Phase, TrialState
from service.exports.card import card
from service.exports.configuration import requirements, script
from service.rest_models import ConfirmationView, ExportFormat, RunsView
from service.search import figures
from service.search.pruning_report import pruning_report
from service.store import Store, Transaction, queries
from service.store.queries.trials import objective_curves, outcomes, recorded_study
from service.web import API
from service.web.dependencies import FoundStudy, TheStore
from service.web.middleware import SlowWork
from trainer.tasks.base import TaskSpec
from trainer.tasks.capabilities import ExternalRunner
from trainer.tasks.registry import spec_of

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


MEDIA_TYPES = ("application/json", "application/yaml", "text/x-python", "text/markdown", "text/plain")


@router.get(
    "/studies/{study}/best",
    summary="Export the best configuration",
    response_class=Response,
    responses={200: {"content": {media_type: {} for media_type in MEDIA_TYPES}, "description": "The exported file"}},
)
def show_best(
    study: FoundStudy,
    store: TheStore,
    format: Annotated[
        ExportFormat,
        Query(description="`json` and `yaml` are input of `thaw train`; `python` is a training script"),
    ] = "json",
) -> Response:
    """The configuration for production training: the confirmed recommendation or, before there is one, the best complete trial.

    `confirmed` and `note` state which of the two it is. 404 `no-result` before the first complete trial.
    """
    exported, report = store.read(exported_of, study)
    match format:
        case "json":
            return Response(exported.to_json(), media_type="application/json")
        case "yaml":
            return Response(exported.to_yaml(), media_type="application/yaml")
        case "python":
            return Response(script(exported), media_type="text/x-python")
        case "card":
            return Response(card(exported, report=report), media_type="text/markdown")
        case "requirements":
            return Response(requirements(exported), media_type="text/plain")
        case _:
            assert_never(format)


NOTES: Mapping[Phase, str] = {
    "none": "Not confirmed: the best of many trials looks better than it is. A study with `confirm` trains its best configurations again.",
    "search": "Not confirmed yet: the search is running. The best configurations and the baseline are then trained again with new seeds.",
    "running": "Not confirmed yet: the best configurations and the baseline are trained again with new seeds and scored on the test "
    "{examples}.",
    "done": "Confirmed on test {examples} that no trial of the search has used.",
    "stopped": "The study ended before its confirmation did; the results so far are below.",
}


OF_SCRIPTS: Mapping[Phase, str] = {
    "running": "Not confirmed yet: the best configurations and the baseline are run again with new seeds.",
    "done": "Confirmed by runs with new seeds. The script chooses the data that they are scored on.",
}
"""The notes of a task whose runs read their data themselves, where they differ from NOTES."""


def _note(phase: Phase, task: TaskSpec) -> str:
    if isinstance(task, ExternalRunner) and phase in OF_SCRIPTS:
        return OF_SCRIPTS[phase]
    return NOTES[phase].format(examples=f"{task.example}s")


@router.get("/studies/{study}/confirmation", summary="Show the confirmation")
def show_confirmation(study: FoundStudy, store: TheStore) -> ConfirmationView:
    """Results of the best configurations and the baseline with new seeds, on test examples that no trial of the search has used."""
    return store.read(_view, study)


def _view(tx: Transaction, study: Study) -> ConfirmationView:
    counts, phase = queries.count_confirmation_trials(tx, study.id), phase_of(study)
    return ConfirmationView(
        phase=phase,
        note=_note(phase, spec_of(study.spec.task)),
        runs=RunsView(
            done=sum(count for state, count in counts.items() if state.terminal),
            running=counts[TrialState.RUNNING],
            queued=counts[TrialState.QUEUED],
        ),
        verdict=verdict_of(tx, study),
    )


@router.get(
    "/studies/{study}/pruning",
    summary="Show the pruning report",
    response_class=Response,
    responses={200: {"model": PruningReport, "description": "Saved epochs, and whether another pruner would have changed the winner"}},
)
async def show_pruning(study: FoundStudy, store: TheStore, request: Request) -> Response:
    """What pruning saved, and what other pruners would have decided on the learning curves of the search's trials.

    After changes the report is computed again; a report that takes long to compute can be up to 5 seconds old.
    """
    cache: FigureCache = request.app.state.replays
    # State and phase are part of the key: the report on an ended study must not be one from before its end.
    state = (study.state, str(study.confirmation is None))
    work: SlowWork = request.app.state.replay_work
    subject = Subject(study.id, "pruning", state)
    if (report := cache.kept(subject, study.seq)) is None:
        report = await work.run(lambda: cache.get(subject, study.seq, lambda: _report(store, study)))
    return Response(report.body, media_type="application/json")


def _report(store: Store, study: Study) -> bytes:
    return pruning_report(store.read(recorded_study, study.id)).model_dump_json().encode()
