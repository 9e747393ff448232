"""All trials of a study in columns, their learning curves, and what changed since an event."""

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
HUNDREDTHS = 2  # decimals of a time
VALUE_DIGITS, METRIC_DIGITS, PARAM_DIGITS = 7, 5, 10  # significant ones: digits are most of what such an answer weighs
FRESH_SECONDS = 2.0  # for which the time left is told as it was

router = APIRouter(prefix=API, tags=["studies"])

After = Annotated[int, Query(ge=0, le=2**53, description="`seq` of an earlier answer or of a study; 0 for everything")]


@router.get("/studies/{study}/table", summary="Show a study's trials as a table", response_model=TableView)
def show_table(study: FoundStudy, request: Request, store: TheStore, answers: TheAnswers, after: After = 0) -> Response:
    """The study, and each trial that an event after this sequence number touched, in short: up to 5,000 trials in one answer."""
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
    """Those that are known from the start, then the others by name."""
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
    """A word stands for what is no finite number."""
    return None if isinstance(metric, str) else _rounded(metric, METRIC_DIGITS)


def _rounded(value: Any, digits: int) -> Any:
    """A fraction to so many significant digits; all else as it is."""
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


MOST_CURVES = 5_000  # of an answer
MOST_BYTES = 64 * 1024 * 1024  # of all curves that are kept
OVERHEAD_BYTES = 200  # of a curve, beside its text
READ_TOGETHER = 128  # trials, so that no transaction is long
LISTED = 20  # metrics that a fault names


@dataclass(slots=True)
class _Kept:
    """The curves of one metric of one study as they go out, by number, up to an event."""

    seq: int = 0
    texts: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # the last event that touched the trial, and its curve
    size: int = 0  # bytes
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, moved: ChangedTrial, text: bytes) -> None:
        """The trial's curve; its place is the last, so that all stand in the order of their last events."""
        if (before := self.texts.pop(moved.number, None)) is not None:
            self.size -= len(before[1]) + OVERHEAD_BYTES
        self.texts[moved.number] = (moved.changed, text)
        self.size += len(text) + OVERHEAD_BYTES

    def after(self, seq: int) -> list[tuple[int, bytes]]:
        """Those of trials that a later event touched. A curve without a point is told to those only who may know another one."""
        return [
            (changed, text or b"[%d,[],[]]" % number)
            for number, (changed, text) in self.texts.items()
            if changed > seq and (text or seq > 0)
        ]


class Curves:
    """Thinned curves of the studies that were asked for last. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of all curves that are kept."""
        return sum(one.size for one in self._kept.values())

    def answer(self, study: Study, metric: str, after: int) -> bytes:
        """The body for the curves of trials that an event after `after` touched. Raises InvalidInput for a metric that nobody reported."""
        kept = self._of(study, metric)
        with kept.lock:
            self._bring_up(kept, study, metric)
            found, seq = kept.after(after), kept.seq
        self._make_room()
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
            raise InvalidInput([Fault(("query", "metric"), "unknown_metric", f"no trial reported this; they reported {named}")])
        if not known:
            return _Kept()  # nothing to keep, and the name may be anything
        with self._lock:
            return self._kept.setdefault((study.id, metric), _Kept())

    def _bring_up(self, kept: _Kept, study: Study, metric: str) -> None:
        """Read the curves of the trials that changed since. Their last events are read first: what comes later is read again."""
        with self._store.reading() as tx:
            seq = queries.find_study(tx, study.id).seq
            moved = queries.changed_trials(tx, study.id, kept.seq) if seq > kept.seq else []
        number, texts = {one.id: one.number for one in moved}, dict[int, bytes]()
        ids = sorted(number)
        for some in (ids[first : first + READ_TOGETHER] for first in range(0, len(ids), READ_TOGETHER)):
            with self._store.reading() as tx:
                texts |= {curve.trial: _text(number[curve.trial], curve) for curve in queries.curves(tx, some, metric)}
        for one in moved:
            kept.put(one, texts.get(one.id, b""))
        kept.seq = seq

    def _make_room(self) -> None:
        """Forget the curves that nobody asked for longest; the last ones stay, however large they are."""
        with self._lock:
            while len(self._kept) > 1 and self.size > MOST_BYTES:
                self._kept.popitem(last=False)


def _text(number: int, curve: Curve) -> bytes:
    """The curve as JSON, its values to five significant digits."""
    places = thinned(curve.values)
    steps = ",".join([str(curve.steps[place]) for place in places])
    values = ",".join(["%.5g"] * len(places)) % tuple([curve.values[place] for place in places])
    return f"[{number},[{steps}],[{values}]]".encode()


def curves_of(request: Request) -> Curves:
    """The app's curves."""
    return cast(Curves, request.app.state.curves)


TheCurves = Annotated[Curves, Depends(curves_of)]


@router.get("/studies/{study}/curves", summary="Show a study's learning curves", response_model=CurvesView)
def show_curves(
    study: FoundStudy,
    request: Request,
    answers: TheAnswers,
    curves: TheCurves,
    metric: Annotated[str | None, Query(max_length=64, description="the objective's when it is left out", examples=["loss"])] = None,
    after: After = 0,
) -> Response:
    """The curve of one metric of each trial that an event after this sequence number touched: up to 5,000 curves in one answer."""
    name = metric or study.spec.objective.metric
    key = ("curves", study.id, study.seq, after, name)
    return Packed(answers.get_or_compute(key, lambda: packed(curves.answer(study, name, after))), request.headers)


@router.get("/studies/{study}/changes", summary="Show what changed in a study")
def show_changes(
    study: FoundStudy,
    store: TheStore,
    after: Annotated[int, Query(ge=0, le=2**53, description="`seq` of an earlier answer or of a study; 0 for everything")] = 0,
    limit: Limit = 500,
) -> ChangesView:
    """The study, and each trial that an event after this sequence number touched. For those who follow the events."""
    with store.reading() as tx:
        latest = queries.find_study(tx, study.id)
        found = queries.trials_changed_after(tx, study.id, after, limit + 1)
        (shown,) = study_views(tx, [latest])
    more = len(found) > limit
    trials = [trial_view(study.spec, trial) for trial in found[:limit]]
    return ChangesView(study=shown, trials=trials, seq=found[limit - 1].changed if more else latest.seq, more=more)
