"""What reapers before have seen of leases that stand still."""

from collections.abc import Iterable

from sqlalchemy import bindparam, select

from service.domain.records import Standstill
from service.store.engine import Transaction
from service.store.schema import standstill

STANDSTILLS = select(standstill.c.trial, standstill.c.heartbeats, standstill.c.seconds).where(
    standstill.c.trial.in_(bindparam("trials", expanding=True))
)


def standstills(tx: Transaction, trials: Iterable[int]) -> dict[int, Standstill]:
    """What was counted for trials of those keys, where something was."""
    if not (keys := list(trials)):
        return {}
    return {row.trial: Standstill(row.trial, row.heartbeats, row.seconds) for row in tx.execute(STANDSTILLS, {"trials": keys})}
