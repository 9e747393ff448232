"""Reads of workers."""

import time
from collections import defaultdict
from collections.abc import Collection, Mapping

from sqlalchemy import bindparam, func, select

from service.domain.errors import WorkerNotFound
from service.domain.records import Unavailability, Worker
from service.domain.states import TrialState, WorkerState
from service.store.codec import is_storable
from service.store.engine import Transaction
from service.store.rows import worker_of
from service.store.schema import study, trial, unavailable, worker

OF_ID = worker.c.id == bindparam("its_id")
FOUND = select(worker).where(OF_ID)
LIVE = worker.c.state == WorkerState.ALIVE
SILENT_SECONDS = 60.0  # since the last heartbeat, by our clock; it decides what is shown, and nothing else
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


def unavailabilities(tx: Transaction, ids: Collection[str] | None = None) -> list[Unavailability]:
    """What workers that are alive cannot read, of the studies with those keys or of all; by study and since when."""
    found = (
        select(unavailable, study.c.name, worker.c.host)
        .join(study, study.c.id == unavailable.c.study_id)
        .join(worker, worker.c.id == unavailable.c.worker)
        .where(LIVE, worker.c.seen_at > time.time() - SILENT_SECONDS)
        .order_by(study.c.name, unavailable.c.since, unavailable.c.worker)
    )
    rows = tx.execute(found if ids is None else found.where(unavailable.c.study_id.in_(ids)))
    return [
        Unavailability(
            study=row.study_id, name=row.name, worker=row.worker, host=row.host, what=row.what, detail=row.detail, since=row.since
        )
        for row in rows
    ]


def count_live(tx: Transaction) -> int:
    """How many workers take trials and sent a heartbeat within the last minute."""
    live = select(func.count()).select_from(worker).where(LIVE, worker.c.seen_at > time.time() - SILENT_SECONDS)
    return int(tx.execute(live).scalar_one())


def loads(tx: Transaction) -> Mapping[str, list[tuple[str, int]]]:
    """What each worker runs now: the study's name and the trial's number, in their order. Workers that run nothing are missing."""
    running = select(trial.c.worker, study.c.name, trial.c.number).join(study).where(trial.c.state == TrialState.RUNNING)
    found = defaultdict[str, list[tuple[str, int]]](list)
    for name, owner, number in tx.execute(running.order_by(study.c.name, trial.c.number)):
        found[name].append((owner, number))
    return found
