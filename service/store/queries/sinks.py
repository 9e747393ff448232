"""Reads of sinks, and of what their receivers have not got yet."""

from typing import NamedTuple

from sqlalchemy import Row, and_, func, select

from service.domain.records import SinkStatus
from service.store.codec import number_of
from service.store.engine import Transaction
from service.store.schema import VISIBLE, metric, sink, sink_cursor, study

CURSOR = func.coalesce(sink_cursor.c.seq, 0)


class Backlog(NamedTuple):
    """A study with events that a sink has not delivered."""

    study: str  # id
    name: str
    cursor: int  # sequence number of the last delivered event
    seq: int  # of the last event


def sink_backlog(tx: Transaction, name: str) -> list[Backlog]:
    """The studies with events that this sink has not delivered, oldest study first."""
    own = and_(sink_cursor.c.study_id == study.c.id, sink_cursor.c.sink == name)
    query = select(study.c.id, study.c.name, CURSOR, study.c.seq).outerjoin(sink_cursor, own).where(VISIBLE, study.c.seq > CURSOR)
    return [Backlog._make(row) for row in tx.execute(query.order_by(study.c.created_at, study.c.id))]


def sinks(tx: Transaction) -> list[SinkStatus]:
    """All sinks, by name, each with the number of events that it has not delivered."""
    every = select(sink, sink.c.name.label("its_name"), study.c.id.label("its_study"), study.c.seq).join(study, VISIBLE, isouter=True)
    pairs = every.subquery()
    own = and_(sink_cursor.c.study_id == pairs.c.its_study, sink_cursor.c.sink == pairs.c.its_name)
    late = func.coalesce(func.sum(pairs.c.seq - CURSOR), 0)
    counted = select(pairs.c.its_name, late.label("backlog")).outerjoin(sink_cursor, own).group_by(pairs.c.its_name).subquery()
    query = select(sink, counted.c.backlog).join(counted, counted.c.its_name == sink.c.name).order_by(sink.c.name)
    return [_status(row) for row in tx.execute(query)]


def find_sink(tx: Transaction, name: str) -> SinkStatus | None:
    """The sink of this name; its backlog is not counted."""
    row = tx.execute(select(sink).where(sink.c.name == name)).one_or_none()
    return None if row is None else _status(row)


class ReportedValue(NamedTuple):
    """A reported value, and the number of the event of its report."""

    step: int
    name: str
    value: float  # may be NaN or infinite
    seq: int


def values_between(tx: Transaction, trial: int, after: tuple[int, str], seqs: tuple[int, int], limit: int) -> list[ReportedValue]:
    """Values of a trial, by `Trial.id`, in the order of step and name, after this step and name, at most `limit`.

    Only those of events above `seqs[0]` and up to `seqs[1]`.
    """
    later = (metric.c.step > after[0]) | ((metric.c.step == after[0]) & (metric.c.name > after[1]))
    # The first condition is implied by `later`; it bounds what is read of the primary key.
    chosen = (metric.c.trial == trial) & (metric.c.step >= after[0]) & later & (metric.c.seq > seqs[0]) & (metric.c.seq <= seqs[1])
    columns = (metric.c.step, metric.c.name, metric.c.value, metric.c.kind, metric.c.seq)
    rows = tx.execute(select(*columns).where(chosen).order_by(metric.c.step, metric.c.name).limit(limit))
    return [ReportedValue(step, name, number_of(value, kind), seq) for step, name, value, kind, seq in rows]


def _status(row: Row[*tuple[object, ...]]) -> SinkStatus:
    return SinkStatus(**row._mapping)
