"""A study's trials as a table, small enough that thousands come in one answer."""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from service.domain.records import Study
from service.rest_models import TABLE_COLUMNS, TableView
from service.store import Store, queries
from service.store.queries import TableRow
from service.web import API
from service.web.compression import Packed, packed
from service.web.dependencies import FoundStudy, TheAnswers, TheStore
from service.web.studies import study_views

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
