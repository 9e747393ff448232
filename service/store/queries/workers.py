"""Reads of workers."""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import select

from service.domain.records import Worker
from service.domain.states import TrialState
from service.store.engine import Transaction
from service.store.rows import worker_of
from service.store.schema import study, trial, worker


def workers(tx: Transaction, limit: int = 1_000) -> list[Worker]:
    """The workers that were ever registered: alive ones first, then those seen last."""
    return [
        worker_of(row) for row in tx.execute(select(worker).order_by(worker.c.state, worker.c.seen_at.desc(), worker.c.id).limit(limit))
    ]


def loads(tx: Transaction) -> Mapping[str, list[tuple[str, int]]]:
    """What each worker runs now: the study's name and the trial's number, in their order. Workers that run nothing are missing."""
    running = select(trial.c.worker, study.c.name, trial.c.number).join(study).where(trial.c.state == TrialState.RUNNING)
    found = defaultdict[str, list[tuple[str, int]]](list)
    for name, owner, number in tx.execute(running.order_by(study.c.name, trial.c.number)):
        found[name].append((owner, number))
    return found
