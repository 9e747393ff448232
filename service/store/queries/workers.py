"""Reads of workers."""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import bindparam, select

from service.domain.errors import WorkerNotFound
from service.domain.records import Worker
from service.domain.states import TrialState, WorkerState
from service.store.codec import is_storable
from service.store.engine import Transaction
from service.store.rows import worker_of
from service.store.schema import study, trial, worker

OF_ID = worker.c.id == bindparam("its_id")
FOUND = select(worker).where(OF_ID)
STATE = select(worker.c.state).where(OF_ID)  # asked by each look for work, and built once


def workers(tx: Transaction, limit: int = 1_000) -> list[Worker]:
    """The workers that were ever registered: alive ones first, then those seen last."""
    return [
        worker_of(row) for row in tx.execute(select(worker).order_by(worker.c.state, worker.c.seen_at.desc(), worker.c.id).limit(limit))
    ]


def find_worker(tx: Transaction, worker_id: str) -> Worker:
    """The worker of that id. Raises WorkerNotFound."""
    row = tx.execute(FOUND, {"its_id": worker_id}).one_or_none() if is_storable(worker_id) else None
    if row is None:
        raise WorkerNotFound(worker_id)
    return worker_of(row)


def is_draining(tx: Transaction, worker_id: str) -> bool:
    """Whether the worker was told to take no more trials."""
    return tx.scalar(STATE, {"its_id": worker_id}) == WorkerState.DRAINING


def loads(tx: Transaction) -> Mapping[str, list[tuple[str, int]]]:
    """What each worker runs now: the study's name and the trial's number, in their order. Workers that run nothing are missing."""
    running = select(trial.c.worker, study.c.name, trial.c.number).join(study).where(trial.c.state == TrialState.RUNNING)
    found = defaultdict[str, list[tuple[str, int]]](list)
    for name, owner, number in tx.execute(running.order_by(study.c.name, trial.c.number)):
        found[name].append((owner, number))
    return found
