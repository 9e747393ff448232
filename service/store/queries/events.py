"""Reads of events."""

from sqlalchemy import select

from service.domain.records import Event
from service.store.engine import Transaction
from service.store.rows import event_of
from service.store.schema import event


def events_after(tx: Transaction, study_id: str, seq: int, limit: int = 500) -> list[Event]:
    """The study's events with a higher sequence number, in order, at most so many."""
    query = select(event).where(event.c.study_id == study_id, event.c.seq > seq).order_by(event.c.seq).limit(limit)
    return [event_of(row) for row in tx.execute(query)]
