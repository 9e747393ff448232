"""What reapers before have seen of leases that stand still."""

from collections.abc import Iterable

from sqlalchemy import select

from service.domain.records import Standstill
from service.store.engine import Transaction
from service.store.schema import standstill


def standstills(tx: Transaction, trials: Iterable[int]) -> dict[int, Standstill]:
    """What was counted for trials of those keys, where something was."""
    query = select(standstill.c.trial, standstill.c.heartbeats, standstill.c.seconds).where(standstill.c.trial.in_(list(trials)))
    return {row.trial: Standstill(row.trial, row.heartbeats, row.seconds) for row in tx.execute(query)}
