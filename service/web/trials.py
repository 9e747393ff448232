"""Endpoints for trials: list, show, queue, cancel, metrics and logs of one; table, learning curves and changes of all."""

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request, Response, status
from starlette.responses import PlainTextResponse

from search_spaces import Fault
from service import operations
from service.domain.errors import InvalidInput, TrialNotFound
from service.domain.parsing import parse_params, parse_params_list
from service.domain.records import Attempt, Study, Trial
from service.domain.states import TrialState
from service.exports.configuration import thinned
from service.rest_models import (
    TABLE_COLUMNS,
    ChangesView,
    CurvesView,
    LogView,
    MetricsView,
    QueuedView,
    TableView,
    TrialsPage,
    TrialView,
    WholeTrialView,
)
from service.store import Store, Transaction, queries
from service.store.queries import ChangedTrial, Curve, TableRow
from service.web import API
from service.web.dependencies import FoundStudy, FoundTrial, Limit, TheAnswers, TheStore, unknown_cursor
from service.web.middleware import Packed, packed
from service.web.requests import TRIAL_BODY, Document, Keyed, KeyedRequest
from service.web.studies import study_views
from service.web.views import attempt_view, chunk_view, metrics_view, trial_view, whole_trial_view

router = APIRouter(prefix=f"{API}/studies/{{study}}")


@router.get("/trials", tags=["trials"], summary="List a study's trials")
def list_trials(
    study: FoundStudy,
    store: TheStore,
    state: Annotated[list[TrialState] | None, Query(description="only trials in this state; may be repeated")] = None,
    sort: Annotated[queries.TrialSort, Query(description="`-` sorts in descending order; trials without the value come last")] = "number",
    limit: Limit = 100,
    after: Annotated[int | None, Query(ge=0, le=2**31 - 1, description="`next` of the previous page")] = None,
) -> TrialsPage:
    """A page of the study's trials."""
    try:
        found = store.read(queries.trials, study.id, states=state or (), sort=sort, limit=limit + 1, after=after)
    except TrialNotFound:
        raise unknown_cursor() from None
    shown = found[:limit]
    return TrialsPage(trials=[trial_view(study.spec, trial) for trial in shown], next=str(shown[-1].number) if len(found) > limit else None)


@router.post(
    "/trials",
    tags=["trials"],
    status_code=status.HTTP_201_CREATED,
    summary="Queue trials",
    response_model=TrialView | QueuedView,
    openapi_extra=TRIAL_BODY,
)
def queue_trials(study: FoundStudy, document: Document, keyed: Keyed, store: TheStore) -> Response:
    """Queue one trial with the given `params`, or up to 1,000 `trials`, all or none of them. They count against the budget."""
    body = _trials_body(document)
    if "params" in body:
        return _queue_one(study, body["params"], keyed, store)
    return _queue_all(study, body["trials"], keyed, store)


def _queue_one(study: Study, document: object, keyed: KeyedRequest, store: Store) -> Response:
    params = parse_params(study.spec, document)
    return keyed.create(
        store,
        lambda key: operations.queue_trial(store, study.id, params, key),
        lambda _tx, trial: trial_view(study.spec, trial).model_dump_json(),
        location=f"{API}/studies/{study.id}/trials/{{number}}",
    )


def _queue_all(study: Study, document: object, keyed: KeyedRequest, store: Store) -> Response:
    trials = parse_params_list(study.spec, document)
    return keyed.create(
        store,
        lambda key: operations.enqueue_trials(store, study.id, trials, key),
        lambda _tx, queued: QueuedView(trials=[trial_view(study.spec, trial) for trial in queued]).model_dump_json(),
        location=f"{API}/studies/{study.id}/trials",
    )


def _trials_body(document: object) -> Mapping[str, object]:
    """The body, checked to be an object with either `params` or `trials`. Raises InvalidInput."""
    if not isinstance(document, dict):
        raise InvalidInput([Fault((), "not_a_mapping", "send an object with `params`, or with `trials` for several trials")])
    if unknown := sorted(document.keys() - {"params", "trials"}):
        raise InvalidInput(Fault((name,), "extra_forbidden", "unknown field; remove it or correct its name") for name in unknown)
    if not document:
        raise InvalidInput([Fault(("params",), "missing", "this field is required; add it, or `trials` for several trials")])
    if len(document) > 1:
        raise InvalidInput([Fault(("trials",), "one_or_many", "send either `params` or `trials`, not both; move `params` into `trials`")])
    return document


@router.get("/trials/{number}", tags=["trials"], summary="Show a trial")
def show_trial(study: FoundStudy, trial: FoundTrial, store: TheStore) -> WholeTrialView:
    """The current state of the trial, with its attempts and the checkpoints that are kept."""
    return whole_trial_view(study.spec, trial, store.read(queries.attempts, trial.id))


@router.get("/trials/{number}/metrics", tags=["trials"], summary="Show a trial's metrics")
def show_metrics(trial: FoundTrial, store: TheStore) -> MetricsView:
    """The metrics that the trial reported, one row for each step (epoch). Numbers that are not finite are null."""
    return metrics_view(trial.number, store.read(queries.metrics, trial.id))


@router.post("/trials/{number}/cancel", tags=["trials"], summary="Cancel a trial", response_model=TrialView)
def cancel_trial(study: FoundStudy, trial: FoundTrial, keyed: Keyed, store: TheStore) -> Response:
    """End the trial without a result. Its worker stops the run at its next heartbeat."""
    return keyed.change(
        store,
        lambda key: operations.cancel_trial(store, study.id, trial.number, key),
        lambda _tx, cancelled: trial_view(study.spec, cancelled).model_dump_json(),
    )


LONGEST_TEXT = 11_000_000  # characters; more than the store keeps for one attempt
PAGE = 100  # chunks


@router.get(
    "/trials/{number}/log",
    tags=["trials"],
    summary="Show a trial's log",
    response_model=LogView,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "With `Accept: text/plain`, all lines as text"}
    },
)
def show_log(
    trial: FoundTrial,
    request: Request,
    store: TheStore,
    attempt: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="number of the attempt; by default the newest one")] = None,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="`next` of the previous part, or `seq` of its last chunk")] = 0,
    limit: Limit = PAGE,
) -> Response | LogView:
    """Output of the trainer and messages of the worker for one attempt.

    Trials that are trained together share one trainer; each has the last part of its output.
    """
    with store.reading() as tx:
        attempts = queries.attempts(tx, trial.id)
        chosen = _chosen(attempts, attempt)
        if prefers_text(request.headers.get("accept", "")):
            return PlainTextResponse("".join(_texts(tx, trial, chosen, after)), headers={"Vary": "Accept"})
        found = [] if chosen is None else queries.log_chunks(tx, trial.id, chosen, after, limit + 1)
    return LogView(
        number=trial.number,
        attempt=chosen,
        attempts=[attempt_view(one) for one in attempts],
        chunks=[chunk_view(chunk) for chunk in found[:limit]],
        next=found[limit - 1].seq if len(found) > limit else None,
    )


def _chosen(attempts: Sequence[Attempt], asked: int | None) -> int | None:
    """The requested attempt, by default the newest; None if there is no attempt yet. Raises InvalidInput for an unknown attempt."""
    if asked is None:
        return attempts[-1].attempt if attempts else None
    if asked not in [one.attempt for one in attempts]:
        raise InvalidInput(
            [Fault(("query", "attempt"), "unknown_attempt", "the trial has no such attempt; `attempts` lists those that exist")]
        )
    return asked


def _texts(tx: Transaction, trial: Trial, attempt: int | None, after: int) -> Iterator[str]:
    size = 0
    while attempt is not None and size < LONGEST_TEXT and (found := queries.log_chunks(tx, trial.id, attempt, after, PAGE)):
        yield from (chunk.text for chunk in found)
        size, after = size + sum(len(chunk.text) for chunk in found), found[-1].seq


def prefers_text(accept: str) -> bool:
    """Whether an Accept header prefers plain text to JSON."""
    wanted = dict(_range(part) for part in accept[:1_000].split(","))
    text = max(wanted.get("text/plain", 0), wanted.get("text/*", 0))
    return text > max(wanted.get(name, 0) for name in ("application/json", "application/*", "*/*"))


def _range(part: str) -> tuple[str, float]:
    """A media range and its weight; 0 for an invalid weight."""
    name, _, parameters = part.partition(";")
    weight = 1.0
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return name.strip().lower(), weight if math.isfinite(weight) else 0.0


MOST_ROWS = 5_000
TIMES = ("queued_at", "started_at", "finished_at")
HUNDREDTHS = 2  # decimals of times
VALUE_DIGITS, METRIC_DIGITS, PARAM_DIGITS = 7, 5, 10  # significant digits; digits make up most of the response's size
FRESH_SECONDS = 2.0  # for which a table of a running study is cached, since its remaining time changes without an event


After = Annotated[int, Query(ge=0, le=2**53, description="`seq` of an earlier response or of a study; 0 for all trials")]


@router.get("/table", tags=["studies"], summary="Show a study's trials as a table", response_model=TableView)
def show_table(study: FoundStudy, request: Request, store: TheStore, answers: TheAnswers, after: After = 0) -> Response:
    """The study and its trials that changed after event `after`, in compact form, up to 5,000 trials in one response."""
    fresh = 0 if study.state.terminal else int(time.monotonic() / FRESH_SECONDS)
    key = ("table", study.id, study.seq, after, fresh)
    return Packed(answers.get_or_compute(key, lambda: packed(_table(store, study, after))), request.headers)


def _table(store: Store, study: Study, after: int) -> bytes:
    with store.reading() as tx:
        now = queries.find_study(tx, study.id)
        rows = queries.table_rows(tx, study.id, after, MOST_ROWS + 1)
        (shown,) = study_views(tx, [now])
    more = len(rows) > MOST_ROWS
    del rows[MOST_ROWS:]
    params = _names(now.spec.search_space.root, (row.params for row in rows))
    metrics = _names([now.spec.objective.metric], (row.metrics for row in rows))
    rest = {
        "seq": rows[-1].changed if more else now.seq, "more": more, "params": params, "metrics": metrics, "columns": TABLE_COLUMNS,
        "trials": [_values(row, params, metrics) for row in rows],
    }  # fmt: skip
    return f'{{"study":{shown.model_dump_json()},{json.dumps(rest, separators=(",", ":"), allow_nan=False)[1:]}'.encode()


def _names(first: Iterable[str], held: Iterable[Iterable[str]]) -> list[str]:
    """The names in `first`, then the other names in `held`, sorted."""
    known = list(first)
    return known + sorted({name for one in held for name in one}.difference(known))


def _values(row: TableRow, params: Sequence[str], metrics: Sequence[str]) -> list[Any]:
    return [
        row.number, row.state, _rounded(row.value, VALUE_DIGITS), row.step, row.attempt, row.source, row.duplicate_of, row.reason,
        row.detail, row.worker, *(None if (at := getattr(row, name)) is None else round(at, HUNDREDTHS) for name in TIMES),
        [_rounded(row.params.get(name), PARAM_DIGITS) for name in params],
        [_number(row.metrics.get(name)) for name in metrics],
        _rounded(row.spared_seconds, METRIC_DIGITS), _rounded(row.samples_per_second, METRIC_DIGITS),
    ]  # fmt: skip


def _number(metric: float | str | None) -> Any:
    """The rounded metric; None for a value that is not finite, which the store returns as a string."""
    return None if isinstance(metric, str) else _rounded(metric, METRIC_DIGITS)


def _rounded(value: Any, digits: int) -> Any:
    """A float rounded to `digits` significant digits; other values unchanged."""
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


MOST_CURVES = 5_000  # in one response
MOST_BYTES = 64 * 1024 * 1024  # of all cached curves
OVERHEAD_BYTES = 200  # memory of a cached curve in addition to its text
READ_TOGETHER = 128  # trials read in one transaction, to keep transactions short
LISTED = 20  # metrics named in a fault


@dataclass(slots=True)
class _Kept:
    """The encoded curves of one metric of one study, up to event `seq`."""

    seq: int = 0
    texts: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # by trial number: the trial's last event, and its curve
    size: int = 0  # bytes
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, trial: ChangedTrial, text: bytes) -> None:
        """Store the trial's curve at the end, so that the curves stay in the order of their trials' last events."""
        if (before := self.texts.pop(trial.number, None)) is not None:
            self.size -= len(before[1]) + OVERHEAD_BYTES
        self.texts[trial.number] = (trial.changed, text)
        self.size += len(text) + OVERHEAD_BYTES

    def after(self, seq: int) -> list[tuple[int, bytes]]:
        """Event and curve of each trial that changed after event `seq`.

        An empty curve is included only for `seq` > 0: such a client may have an older curve of the trial, which it must replace.
        """
        return [
            (changed, text or b"[%d,[],[]]" % number)
            for number, (changed, text) in self.texts.items()
            if changed > seq and (text or seq > 0)
        ]


class Curves:
    """An LRU cache of thinned, encoded learning curves. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of all cached curves."""
        return sum(one.size for one in self._kept.values())

    def answer(self, study: Study, metric: str, after: int) -> bytes:
        """The response body with the curves of trials that changed after event `after`. Raises InvalidInput for an unknown metric."""
        kept = self._of(study, metric)
        with kept.lock:
            self._update(kept, study, metric)
            found, seq = kept.after(after), kept.seq
        self._evict()
        more = len(found) > MOST_CURVES
        head = CurvesView(metric=metric, seq=found[MOST_CURVES - 1][0] if more else seq, more=more, curves=())
        return head.model_dump_json().encode().removesuffix(b"[]}") + b"[" + b",".join(text for _, text in found[:MOST_CURVES]) + b"]}"

    def _of(self, study: Study, metric: str) -> _Kept:
        with self._lock:
            if (found := self._kept.get((study.id, metric))) is not None:
                self._kept.move_to_end((study.id, metric))
                return found
        known = self._store.read(queries.metric_names, study.id)
        if known and metric not in known | {study.spec.objective.metric}:
            named = ", ".join(sorted(known)[:LISTED])
            raise InvalidInput([Fault(("query", "metric"), "unknown_metric", f"no trial reported this metric; reported metrics: {named}")])
        if not known:
            return _Kept()  # not cached: before the first report any name is accepted, so the cache would grow with each request
        with self._lock:
            return self._kept.setdefault((study.id, metric), _Kept())

    def _update(self, kept: _Kept, study: Study, metric: str) -> None:
        """Read the curves of the trials that changed since event `kept.seq`."""
        # `seq` is read before the curves. A report between the two reads is already in its curve and is read once more the next time; in
        # the other order it would be missed.
        with self._store.reading() as tx:
            seq = queries.find_study(tx, study.id).seq
            changed = queries.changed_trials(tx, study.id, kept.seq) if seq > kept.seq else []
        number, texts = {one.id: one.number for one in changed}, dict[int, bytes]()
        ids = sorted(number)
        for group in (ids[first : first + READ_TOGETHER] for first in range(0, len(ids), READ_TOGETHER)):
            with self._store.reading() as tx:
                texts |= {curve.trial: _text(number[curve.trial], curve) for curve in queries.curves(tx, group, metric)}
        for one in changed:
            kept.put(one, texts.get(one.id, b""))
        kept.seq = seq

    def _evict(self) -> None:
        """Remove the least recently used entries above `MOST_BYTES`. The most recent entry stays, whatever its size."""
        with self._lock:
            while len(self._kept) > 1 and self.size > MOST_BYTES:
                self._kept.popitem(last=False)


def _text(number: int, curve: Curve) -> bytes:
    """The thinned curve as JSON, with values rounded to five significant digits."""
    places = thinned(curve.values)
    steps = ",".join([str(curve.steps[place]) for place in places])
    values = ",".join(["%.5g"] * len(places)) % tuple([curve.values[place] for place in places])
    return f"[{number},[{steps}],[{values}]]".encode()


def curves_of(request: Request) -> Curves:
    """The app's cache of learning curves."""
    return cast(Curves, request.app.state.curves)


TheCurves = Annotated[Curves, Depends(curves_of)]


@router.get("/curves", tags=["studies"], summary="Show a study's learning curves", response_model=CurvesView)
def show_curves(
    study: FoundStudy,
    request: Request,
    answers: TheAnswers,
    curves: TheCurves,
    metric: Annotated[
        str | None, Query(max_length=64, description="name of the metric; by default the objective's", examples=["loss"])
    ] = None,
    after: After = 0,
) -> Response:
    """Learning curves of one metric, for the trials that changed after event `after`, up to 5,000 curves in one response."""
    name = metric or study.spec.objective.metric
    key = ("curves", study.id, study.seq, after, name)
    return Packed(answers.get_or_compute(key, lambda: packed(curves.answer(study, name, after))), request.headers)


@router.get("/changes", tags=["studies"], summary="Show what changed in a study")
def show_changes(
    study: FoundStudy,
    store: TheStore,
    after: After = 0,
    limit: Limit = 500,
) -> ChangesView:
    """The study and its trials that changed after event `after`, for clients that follow the event stream."""
    with store.reading() as tx:
        latest = queries.find_study(tx, study.id)
        found = queries.trials_changed_after(tx, study.id, after, limit + 1)
        (shown,) = study_views(tx, [latest])
    more = len(found) > limit
    trials = [trial_view(study.spec, trial) for trial in found[:limit]]
    return ChangesView(study=shown, trials=trials, seq=found[limit - 1].changed if more else latest.seq, more=more)
