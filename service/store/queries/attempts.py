"""The attempts at a trial, and what they logged."""

from sqlalchemy import select

from service.domain.records import Attempt, LogChunk
from service.domain.states import AttemptEnd
from service.store.engine import Transaction
from service.store.schema import attempt, log


def attempts(tx: Transaction, trial: int) -> list[Attempt]:
    """All attempts at the trial of that key, the first one first."""
    columns = [attempt.c[name] for name in ("attempt", "worker", "resumed", "started_at", "ended_at", "ending", "step", "detail")]
    rows = tx.execute(select(*columns).where(attempt.c.trial == trial).order_by(attempt.c.attempt)).mappings()
    return [Attempt(**{**row, "ending": row["ending"] and AttemptEnd(row["ending"])}) for row in rows]


def log_chunks(tx: Transaction, trial: int, of_attempt: int, after: int = 0, limit: int = 100) -> list[LogChunk]:
    """The next chunks of an attempt's log, in order."""
    mine = (log.c.trial == trial) & (log.c.attempt == of_attempt) & (log.c.seq > after)
    rows = tx.execute(select(log.c.seq, log.c.at, log.c.text).where(mine).order_by(log.c.seq).limit(limit))
    return [LogChunk(*row) for row in rows]
