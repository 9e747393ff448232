"""Trials as rows of a table: what a page shows of each, a few numbers out of what its run told among it, and no more."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import case, select

from service.domain.records import CONFIRMATION
from service.store.engine import Transaction
from service.store.queries.savings import lanes_of, told_number
from service.store.schema import trial


class TableRow(NamedTuple):
    """A trial in short, as the database holds it. Times are seconds since 1970."""

    number: int
    state: str
    value: float | None
    step: int
    attempt: int
    source: str
    duplicate_of: int | None
    reason: str | None
    detail: str | None
    worker: str | None
    queued_at: float
    started_at: float | None
    finished_at: float | None
    params: Mapping[str, Any]
    metrics: Mapping[str, float | str]  # words for what JSON cannot say
    spared_seconds: float | None  # what reuse spared this trial: its share of a pass
    samples_per_second: float | None  # of the whole pass
    changed: int  # sequence of the last event that touched it


ORIGINAL = trial.alias("original")
SPARED = case(
    (trial.c.duplicate_of.is_(None), told_number(trial, "pace", "saved_seconds") / lanes_of(trial)),
    (trial.c.finished_at.is_not(None), told_number(ORIGINAL, "train_seconds") / lanes_of(ORIGINAL)),
)
SPEED = case((trial.c.duplicate_of.is_(None), told_number(trial, "pace", "samples_per_second")))
TOLD = {"spared_seconds": SPARED, "samples_per_second": SPEED}
ROWS = (
    select(*(TOLD[name].label(name) if name in TOLD else trial.c[name] for name in TableRow._fields))
    .outerjoin(ORIGINAL, (ORIGINAL.c.study_id == trial.c.study_id) & (ORIGINAL.c.number == trial.c.duplicate_of))
    .order_by(trial.c.changed)
)


def table_rows(tx: Transaction, study_id: str, seq: int, limit: int) -> list[TableRow]:
    """Trials of the search that an event with a higher sequence number touched, as they stand, in the order of these, at most so many."""
    query = ROWS.where(trial.c.study_id == study_id, trial.c.changed > seq, trial.c.source != CONFIRMATION).limit(limit)
    return [TableRow._make(row) for row in tx.execute(query)]
