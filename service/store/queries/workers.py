"""Reads of workers."""

from sqlalchemy import select

from service.domain.records import Worker
from service.store.engine import Transaction
from service.store.rows import worker_of
from service.store.schema import worker


def workers(tx: Transaction, limit: int = 1_000) -> list[Worker]:
    """The workers that were ever registered: alive ones first, then those seen last."""
    return [
        worker_of(row) for row in tx.execute(select(worker).order_by(worker.c.state, worker.c.seen_at.desc(), worker.c.id).limit(limit))
    ]
