"""Endpoints for all trials of a study: the table, the learning curves, and the changes since an event."""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request, Response

from search_spaces import Fault
from service.domain.errors import InvalidInput
from service.domain.records import Study
from service.exports.configuration import thinned
from service.rest_models import TABLE_COLUMNS, ChangesView, CurvesView, TableView
from service.store import Store, queries
from service.store.queries import ChangedTrial, Curve, TableRow
from service.web import API
from service.web.dependencies import FoundStudy, Limit, TheAnswers, TheStore
from service.web.middleware import Packed, packed
from service.web.studies import study_views
from service.web.views import trial_view

MOST_ROWS = 5_000
TIMES = ("queued_at", "started_at", "finished_at")
HUNDREDTHS = 2  # decimals of times
VALUE_DIGITS, METRIC_DIGITS, PARAM_DIGITS = 7, 5, 10  # significant digits; digits make up most of the response's size
FRESH_SECONDS = 2.0  # for which a table of a running study is cached, since its remaining time changes without an event

router = APIRouter(prefix=API, tags=["studies"])

After = Annotated[int, Query(ge=0, le=2**53, description="`seq` of an earlier response or of a study; 0 for all trials")]


@router.get("/studies/{study}/table", summary="Show a study's trials as a table", response_model=TableView)
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


@router.get("/studies/{study}/curves", summary="Show a study's learning curves", response_model=CurvesView)
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


@router.get("/studies/{study}/changes", summary="Show what changed in a study")
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
