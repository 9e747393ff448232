"""Reads of events."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, select

from service.domain.records import Event
from service.domain.states import StudyState
from service.store.engine import Transaction
from service.store.rows import event_of
from service.store.schema import VISIBLE, event, study


def events_after(tx: Transaction, study_id: str, seq: int, limit: int = 500) -> list[Event]:
    """The study's events after event `seq`, in order, at most `limit`."""
    query = select(event).where(event.c.study_id == study_id, event.c.seq > seq).order_by(event.c.seq).limit(limit)
    return [event_of(row) for row in tx.execute(query)]


class LastEvent(NamedTuple):
    """The sequence number of a study's last event, and whether the study has ended."""

    seq: int
    ended: bool


# Executed ten times a second while an event stream is open. Building the statement takes longer than running it.
LAST_EVENTS = select(study.c.id, study.c.seq, study.c.state).where(study.c.id.in_(bindparam("ids", expanding=True)), VISIBLE)


def last_events(tx: Transaction, ids: Sequence[str]) -> dict[str, LastEvent]:
    """The last event by study id. Studies that do not exist are missing."""
    return {key: LastEvent(seq, StudyState(state).terminal) for key, seq, state in tx.execute(LAST_EVENTS, {"ids": ids})}
