"""Endpoints that check, create, list, show and change studies."""

import hashlib
import operator
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status
from fastapi.concurrency import run_in_threadpool

from search_spaces import Fault
from service import operations
from service.domain import effects
from service.domain.budgets import parse_budget_change
from service.domain.errors import InvalidInput, NameTaken, StudyNotFound, StudyUnreadable
from service.domain.fault_messages import unknown_task
from service.domain.parsing import without_replace
from service.domain.progress import StudyProgress, study_seconds_left
from service.domain.records import Study
from service.domain.spec import NOT_SEARCHED, ProgramStudy, StudySpec
from service.domain.states import StudyState, TrialState
from service.inspection import checked_study
from service.rest_models import CheckedView, FaultView, ListedStudyView, SchemaView, StudyView, Trend, TrendsPage
from service.settings import Settings
from service.store import Store, Transaction, queries
from service.web import API
from service.web.dependencies import FoundStudy, Limit, StudyRef, TheSettings, TheStore, unknown_cursor
from service.web.middleware import SlowWork
from service.web.problems import MALFORMED, MOST_FAULTS, ProblemError
from service.web.requests import ANY_STUDY_BODY, BUDGET_BODY, OBJECTIVE_BODY, STUDY_BODY, Document, Keyed, Raw, read_document
from service.web.views import Standing, listed_study_view, notices_of, study_view
from trainer.configuration import FIRST_TASK, Direction, resolve_paths
from trainer.tasks.registry import spec_of, specs

router = APIRouter(prefix=API, tags=["studies"])


@cache
def schema_of(task: str) -> SchemaView:
    """The schemas for studies of an installed task."""
    spec = spec_of(task)
    return SchemaView(
        study=StudySpec.of_task(task).model_json_schema(),
        hyperparameters=spec.Hyperparameters.model_json_schema(),
        not_searched=sorted(NOT_SEARCHED),
        metrics={name: metric.direction for name, metric in spec.metrics.items()},
    )


def read_if_possible(request: Request, raw: Raw) -> tuple[Any, list[Fault]]:
    """The document, or the faults for which it cannot be parsed. Raises ProblemError if its size or media type is not allowed."""
    try:
        return read_document(request, raw), []
    except InvalidInput as error:
        return None, list(error.faults)
    except ProblemError as error:
        if error.kind is not MALFORMED:
            raise
        return None, list(error.faults) or [Fault((), "malformed", error.detail)]


@router.post("/study-check", summary="Check a study", openapi_extra=ANY_STUDY_BODY)
async def check_study(
    request: Request, read: Annotated[tuple[Any, list[Fault]], Depends(read_if_possible)], store: TheStore, settings: TheSettings
) -> CheckedView:
    """Validate a study (JSON or YAML) with the checks of `POST /studies`, and resolve its defaults. Nothing is created.

    An invalid study is answered with 200 and `faults`, so that a form can be checked while it is being filled in.
    """
    document, faults = read
    if faults:
        return _faulty(None, faults)
    work: SlowWork = request.app.state.inspection_work
    return await work.run(lambda: _checked(document, store, settings))


def _checked(document: Any, store: Store, settings: Settings) -> CheckedView:
    try:
        description, replaces = without_replace(document)
        spec = checked_study(resolve_paths(description, Path.cwd()), settings.data_roots)
        store.read(_refuse_taken, spec.name, replaces)
        store.read(_refuse_without_permission, spec)
    except InvalidInput as error:
        return _faulty(document, error.faults)
    except NameTaken as error:
        return _faulty(document, [error.fault])
    return CheckedView(document=document, study=spec, trials=spec.search_space.distinct, faults=[], notices=notices_of(spec))


@router.get("/study-schema", summary="Show the schema of study documents")
def show_schema(task: Annotated[str, Query(max_length=128, description="the name of an installed task")] = FIRST_TASK) -> SchemaView:
    """JSON Schemas of a study document and of the trainer's hyperparameters, and the metrics, for one task."""
    if task not in specs():
        raise InvalidInput([unknown_task(("query", "task"))])
    return schema_of(task)


def _faulty(document: object, faults: Iterable[Fault]) -> CheckedView:
    listed = [FaultView(pointer=fault.pointer, code=fault.code, detail=fault.message) for fault in faults]
    return CheckedView(document=document, study=None, trials=None, faults=listed[:MOST_FAULTS], notices=[])


def _refuse_taken(tx: Transaction, name: str, replaces: bool) -> None:
    try:
        if queries.find_study(tx, name).state.terminal and replaces:
            return
    except StudyNotFound:
        if not queries.is_being_imported(tx, name):
            return
    except StudyUnreadable:
        pass
    raise NameTaken(name)


def _refuse_without_permission(tx: Transaction, spec: StudySpec) -> None:
    """Raises InvalidInput for a script if there are live workers, and none of them allows scripts in its folder.

    Without workers the study is accepted, as any other one, and waits. A worker refuses by itself what it does not allow.
    """
    if not isinstance(spec, ProgramStudy) or not (allowed := queries.script_folders(tx)):
        return
    # Workers name their folders without symbolic links. The server may not see the study's folder.
    paths = {Path(os.path.normpath(spec.workdir)), Path(os.path.realpath(spec.workdir))}
    if any(path.is_relative_to(folder) for path in paths for folders in allowed for folder in folders):
        return
    listed = ", ".join(sorted({folder for folders in allowed for folder in folders}))
    which = f"the workers allow scripts only in {listed}" if listed else "no worker allows scripts"
    message = f"{which}; start one with `thaw worker --allow-scripts {spec.workdir}`, or a folder above it, then create the study"
    raise InvalidInput([Fault(("workdir",), "script_not_allowed", message)])


REPLACE = "if an ended study has the same name, rename it and create this one"


@router.post("/studies", status_code=status.HTTP_201_CREATED, summary="Create a study", response_model=StudyView, openapi_extra=STUDY_BODY)
async def create_study(
    request: Request,
    document: Document,
    keyed: Keyed,
    store: TheStore,
    settings: TheSettings,
    replace: Annotated[bool, Query(description=REPLACE)] = False,
) -> Response:
    """Validate a study (JSON or YAML) and start it. Relative paths are resolved against the server's working directory.

    With `?replace=true`, or `replace: true` in the document, an ended study of the same name is renamed first.
    """

    def checked_and_created(key: operations.Idempotency) -> Study:
        description, wanted = without_replace(document)
        spec = checked_study(resolve_paths(description, Path.cwd()), settings.data_roots)
        store.read(_refuse_without_permission, spec)
        return operations.create_study(store, spec, key, settings.max_studies, replace_ended=replace or wanted)

    def answer() -> Response:
        return keyed.create(store, checked_and_created, _newborn, location=f"{API}/studies/{{id}}")

    work: SlowWork = request.app.state.inspection_work
    return await (work.run(answer) if _inspects_files(document) else run_in_threadpool(answer))


def _inspects_files(document: object) -> bool:
    """Whether the server inspects the study's files, which can take many seconds; not if they are on the workers."""
    data = document.get("data") if isinstance(document, dict) else None
    return not (isinstance(data, dict) and data.get("location") == "workers")


def _newborn(_tx: Transaction, study: Study) -> str:
    return study_view(study, Standing({TrialState.QUEUED: study.created})).model_dump_json()  # a baseline is queued at creation


@router.get("/studies/{study}", summary="Show a study")
def show_study(study: FoundStudy, store: TheStore) -> StudyView:
    """The current state of the study, with the number of its trials in each state and the best trial."""
    return store.read(_now, study)


@router.post("/studies/{study}/pause", summary="Pause a study", response_model=StudyView)
def pause_study(study: FoundStudy, keyed: Keyed, store: TheStore) -> Response:
    """Start no further trials. Running trials continue."""
    return keyed.change(store, lambda key: operations.pause_study(store, study.id, key), _body)


@router.post("/studies/{study}/resume", summary="Resume a study", response_model=StudyView)
def resume_study(study: FoundStudy, keyed: Keyed, store: TheStore) -> Response:
    """Resume a paused, failed or stopped study.

    For a failed study, data and weights are checked again, open trials continue, and the count of consecutive failures is reset.
    """
    return keyed.change(store, lambda key: operations.resume_study(store, study.id, key), _body)


@router.post("/studies/{study}/stop", summary="Stop a study", response_model=StudyView)
def stop_study(study: FoundStudy, keyed: Keyed, store: TheStore) -> Response:
    """Cancel the study's queued and running trials. Reported metrics are kept."""
    return keyed.change(store, lambda key: operations.stop_study(store, study.id, key), _body)


@router.patch("/studies/{study}", summary="Change a study's budget", response_model=StudyView, openapi_extra=BUDGET_BODY)
def change_study(study: FoundStudy, document: Document, keyed: Keyed, store: TheStore) -> Response:
    """Set fields of the budget (`budget`), or add to them (`add`). A complete study becomes active again if its budget allows more."""
    change = parse_budget_change(document)
    return keyed.change(store, lambda key: operations.extend_study(store, study.id, change, key), _body)


@router.post("/studies/{study}/objective", summary="Rank by another metric", response_model=StudyView, openapi_extra=OBJECTIVE_BODY)
def rerank_study(study: FoundStudy, document: Document, keyed: Keyed, store: TheStore) -> Response:
    """Rank the trials of a study that has ended by another recorded metric, without training. Its event names the best trial before."""
    metric = document.get("metric") if isinstance(document, dict) and document.keys() == {"metric"} else None
    if not isinstance(metric, str):
        raise InvalidInput([Fault(("metric",), "missing", 'send an object with the name of a metric: {"metric": "f1"}')])
    return keyed.change(store, lambda key: operations.rerank_study(store, study.id, metric, key), _body)


@router.delete("/studies/{study}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a study")
def delete_study(study: StudyRef, keyed: Keyed, store: TheStore) -> Response:
    """Delete the study with its trials, metrics and events."""
    return keyed.remove(store, lambda key: operations.delete_study(store, study, key))


def _now(tx: Transaction, study: Study) -> StudyView:
    return whole_study_view(tx, queries.find_study(tx, study.id))


def _body(tx: Transaction, study: Study) -> str:
    return _now(tx, study).model_dump_json()


def whole_study_view(tx: Transaction, study: Study) -> StudyView:
    """The study with its facts and the figures derived from its trials."""
    standing = _standings(tx, [study])[0]
    if isinstance(study.spec, ProgramStudy):
        digests = queries.curve_digests(tx, study.id, effects.MOST_TRIALS)
        standing = replace(standing, without_effect=effects.sentences(digests, study.spec.objective.metric))
    return study_view(study, standing)


def study_views(tx: Transaction, studies: Iterable[Study]) -> list[ListedStudyView]:
    """The studies with the figures derived from their trials."""
    listed = list(studies)
    return [listed_study_view(study, standing) for study, standing in zip(listed, _standings(tx, listed), strict=True)]


def _standings(tx: Transaction, listed: Sequence[Study]) -> list[Standing]:
    keys = [study.id for study in listed]
    counts, best = queries.counts(tx, keys), queries.best_trials(tx, listed)
    courses, saved = queries.study_progress(tx, keys), queries.saved_seconds(tx, keys)
    unavailable, blocked, live = queries.unavailabilities(tx, keys), queries.blocked_workers(tx), queries.count_live(tx)
    device_waits = queries.device_waits(tx, keys)
    nothing = queries.SavedSeconds()
    return [
        Standing(
            counts[study.id],
            best.get(study.id),
            [one for one in unavailable if one.study == study.id],
            blocked,
            live,
            _seconds_left(study, courses),
            saved.get(study.id, nothing),
            device_waits.get(study.id),
        )
        for study in listed
    ]


def _seconds_left(study: Study, courses: Mapping[str, StudyProgress]) -> float | None:
    return study_seconds_left(study, courses[study.id], time.time()) if study.id in courses else None


MOST_POINTS = 32  # of one trend
MOST_REMEMBERED = 2_000  # studies whose trends are cached


@dataclass(frozen=True, slots=True)
class Filters:
    """Filters of the list of studies."""

    name: Annotated[str | None, Query(max_length=128, description="only studies whose name contains this text, ignoring case")] = None
    state: Annotated[tuple[StudyState, ...], Query(description="only studies in one of these states")] = ()


class Trends:
    """A cache of trends with objective and the last event that each includes, so that only trials completed since then are read."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, int, Trend]] = {}

    def of(self, tx: Transaction, studies: Sequence[Study]) -> dict[str, Trend]:
        """The thinned trends of the studies, by study id. `studies` must have been read in `tx`, so that both show the same state."""
        metrics = {study.id: study.spec.objective.metric for study in studies}
        known = {key: found[1:] for key, metric in metrics.items() if (found := self._known.get(key)) is not None and found[0] == metric}
        first = [study for study in studies if study.id not in known]
        stale = {study.id: known[study.id][0] for study in studies if study.id in known and known[study.id][0] < study.seq}
        whole = queries.running_best(tx, first) if first else {}
        newer = queries.completed_since(tx, stale) if stale else {}
        trends = {}
        for study in studies:
            before = known[study.id][1] if study.id in known else tuple(whole.get(study.id, ()))
            trends[study.id] = merged(before, newer.get(study.id, ()), study.spec.objective.direction)
        self._remember({study.id: (metrics[study.id], study.seq, trends[study.id]) for study in studies})
        return {key: thinned(trend) for key, trend in trends.items()}

    def _remember(self, known: Mapping[str, tuple[str, int, Trend]]) -> None:
        kept = self._known if len(self._known) < MOST_REMEMBERED else {}
        self._known = {**kept, **known}


def merged(records: Trend, ended: Iterable[tuple[int, float]], direction: Direction) -> Trend:
    """The trend after the trials `ended` are added, in order of trial numbers. A record can cease to be one: trials end in any order."""
    better = operator.gt if direction == "maximize" else operator.lt
    kept = list[tuple[int, float]]()
    for number, value in sorted([*records, *ended]):
        if not kept or better(value, kept[-1][1]):
            kept.append((number, value))
    return tuple(kept)


def trends_of(request: Request) -> Trends:
    """The app's cache of trends."""
    return cast(Trends, request.app.state.trends)


TheTrends = Annotated[Trends, Depends(trends_of)]


def thinned(points: Iterable[tuple[int, float]]) -> Trend:
    """At most `MOST_POINTS` evenly spaced points, including the first and the last."""
    every = tuple(points)
    if len(every) <= MOST_POINTS:
        return every
    step = (len(every) - 1) / (MOST_POINTS - 1)
    return tuple(every[round(place * step)] for place in range(MOST_POINTS))


@router.get("/studies", summary="List studies", response_model=TrendsPage, responses={304: {"description": "Nothing changed"}})
def list_studies(
    store: TheStore,
    trends: TheTrends,
    filters: Annotated[Filters, Depends()],
    limit: Limit = 100,
    after: Annotated[str | None, Query(description="`next` of the previous page")] = None,
    if_none_match: Annotated[str | None, Header(description="`ETag` of an earlier response")] = None,
) -> Response:
    """A page of studies, newest first."""
    with store.reading() as tx:
        try:
            found = queries.studies(tx, limit + 1, after, filters.name, filters.state)
        except StudyNotFound:
            raise unknown_cursor() from None
        shown, more = found[:limit], len(found) > limit
        unavailable = queries.unavailabilities(tx, [study.id for study in shown])
        stuck = [*(f"{one.study}-{one.worker}" for one in unavailable), *(worker.id for worker in queries.blocked_workers(tx))]
        headers = {"ETag": _tag(shown, more, stuck, queries.count_live(tx)), "Cache-Control": "private, no-cache"}
        if if_none_match is not None and headers["ETag"] in if_none_match:
            return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
        page = TrendsPage(studies=study_views(tx, shown), trends=trends.of(tx, shown), next=shown[-1].id if more else None)
    return Response(page.model_dump_json(), headers=headers, media_type="application/json")


def _tag(studies: Iterable[Study], more: bool, stuck: Sequence[str], live_workers: int) -> str:
    """The ETag of a page of studies."""
    # Every change of a study and its trials is an event of the study, so its `seq` is sufficient. A worker's exit is no event of a study,
    # so the workers that cannot read a study's data or use no device are part of the tag.
    state = " ".join(f"{study.id}-{study.seq}" for study in studies)
    if stuck:
        state += " ".join(["", str(live_workers), *stuck])
    return f'W/"{hashlib.sha256(f"{more} {state}".encode()).hexdigest()[:32]}"'
