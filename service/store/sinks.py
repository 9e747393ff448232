"""Writes of sinks: who delivers to one, and the last event that it got of each study."""

import time
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, literal, select, update

from service.domain.records import SinkProgress, SinkStatus
from service.store.codec import cleaned
from service.store.dialects import insert_if_new
from service.store.engine import Transaction
from service.store.schema import VISIBLE, sink, sink_cursor, study

SINKS_KEPT_SECONDS = 30 * 24 * 3600


def register(tx: Transaction, name: str, *, from_start: bool) -> None:
    """Insert the sink if it is new. Unless `from_start`, it gets only events from now on."""
    new = insert_if_new(tx, sink).values(name=name, seen_at=time.time()).returning(sink.c.name)
    if tx.execute(new).one_or_none() is not None and not from_start:
        present = select(literal(name), study.c.id, study.c.seq).where(VISIBLE).with_for_update(read=True, key_share=True)
        tx.execute(insert(sink_cursor).from_select(["sink", "study_id", "seq"], present))


def take(tx: Transaction, name: str, owner: str, seen: SinkStatus) -> bool:
    """Make `owner` the sink's owner, unless its owner or its beats changed since `seen` was read."""
    same = (sink.c.owner.is_(None) if seen.owner is None else sink.c.owner == seen.owner) & (sink.c.beats == seen.beats)
    return _changes(tx, (sink.c.name == name) & same, owner=owner, beats=sink.c.beats + 1, seen_at=time.time())


def renew(tx: Transaction, name: str, owner: str) -> bool:
    """Count a beat of the owner. False if another process owns the sink."""
    return _changes(tx, _owned(name, owner), beats=sink.c.beats + 1, seen_at=time.time())


def release(tx: Transaction, name: str, owner: str) -> None:
    """Leave the sink without an owner, if this one still owns it."""
    _changes(tx, _owned(name, owner), owner=None)


def fail(tx: Transaction, name: str, owner: str, error: str) -> bool:
    """Count a failure. False if another process owns the sink."""
    return _changes(tx, _owned(name, owner), failures=sink.c.failures + 1, failed_at=time.time(), error=cleaned(error))


def advance(tx: Transaction, name: str, owner: str, progress: SinkProgress) -> bool:
    """Set the last event that the sink got of the study. False, without an effect, if another process owns the sink.

    A study that was deleted meanwhile gets no row.
    """
    counts: dict[str, Any] = {"delivered": sink.c.delivered + progress.delivered, "skipped": sink.c.skipped + progress.skipped}
    if progress.delivered:
        counts |= {"failures": 0, "delivered_at": time.time()}
    if not _changes(tx, _owned(name, owner), **counts):
        return False
    place = (sink_cursor.c.sink == name) & (sink_cursor.c.study_id == progress.study)
    if tx.execute(update(sink_cursor).where(place).values(seq=progress.seq)).rowcount == 0:
        present = select(literal(name), study.c.id, literal(progress.seq)).where(study.c.id == progress.study, VISIBLE)
        locked = present.with_for_update(read=True, key_share=True)  # protects the row from a concurrent deletion
        tx.execute(insert(sink_cursor).from_select(["sink", "study_id", "seq"], locked))
    return True


def forget(tx: Transaction) -> int:
    """Delete sinks that no process has owned for 30 days, and return their number."""
    return tx.execute(delete(sink).where(sink.c.seen_at < time.time() - SINKS_KEPT_SECONDS)).rowcount


def _owned(name: str, owner: str) -> ColumnElement[bool]:
    return (sink.c.name == name) & (sink.c.owner == owner)


def _changes(tx: Transaction, condition: ColumnElement[bool], **values: Any) -> bool:
    return tx.execute(update(sink).where(condition).values(values)).rowcount == 1
