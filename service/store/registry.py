"""Writes of what lies outside a study's life: its first row and its end, workers and their heartbeats, idempotency keys."""

import time
from collections.abc import Sequence

from sqlalchemy import bindparam, delete, false, literal, or_, select, tuple_, update

from service.domain.errors import IdempotencyConflict, NameTaken, StudyNotFound
from service.domain.records import Lease, Standstill, Study, Worker
from service.domain.states import TrialState, WorkerState
from service.store.codec import is_storable
from service.store.dialect import insert_if_new, insert_or_replace
from service.store.engine import Transaction
from service.store.schema import attempt, event, idempotency, log, manifest, metric, standstill, study, trial, worker

KEYS_KEPT_SECONDS = 48 * 3600


def insert_study(tx: Transaction, new: Study) -> None:
    """A study's row, without trials and events. Raises NameTaken."""
    row = {
        "id": new.id, "name": new.name, "state": new.state, "spec": new.spec.model_dump_json(),
        "created": 0, "exhausted": False, "seq": 0, "created_at": new.created_at,
    }  # fmt: skip
    if tx.execute(insert_if_new(tx, study).values(row).returning(study.c.id)).one_or_none() is None:
        raise NameTaken


def delete_study(tx: Transaction, ref: str) -> None:
    """Delete the study of that id or name, readable or not, and all that belongs to it. Raises StudyNotFound."""
    mine = select(study.c.id).where(or_(study.c.id == ref, study.c.name == ref)).with_for_update()
    study_id = tx.scalar(mine) if is_storable(ref) else None
    if study_id is None:
        raise StudyNotFound(ref)
    for table in (metric, log, attempt):
        tx.execute(delete(table).where(table.c.trial.in_(select(trial.c.id).where(trial.c.study_id == study_id))))
    for table in (event, trial, manifest):
        tx.execute(delete(table).where(table.c.study_id == study_id))
    tx.execute(delete(study).where(study.c.id == study_id))


def keep_manifest(tx: Transaction, study_id: str, digests: str) -> None:
    """Keep what tells which images a study was checked with. The first one stays."""
    tx.execute(insert_if_new(tx, manifest).values(study_id=study_id, digests=digests))


def change_nothing(tx: Transaction) -> None:
    """A statement that only a database which takes writes will run."""
    tx.execute(update(study).where(false()).values(seq=study.c.seq))


def put_worker(tx: Transaction, one: Worker) -> None:
    """Insert the worker, or overwrite it."""
    row = {name: getattr(one, name) for name in ("id", "host", "pid", "slots", "state", "started_at", "seen_at")}
    tx.execute(insert_or_replace(tx, worker).values(row | {"devices": list(one.devices), "memory": list(one.memory)}))


def see_worker(tx: Transaction, worker_id: str) -> None:
    """Note that the worker was heard of now. Its state stays: who told it to drain is not overruled by a heartbeat."""
    tx.execute(SEEN, {"its_id": worker_id, "seen_at": time.time()})


def retire_worker(tx: Transaction, worker_id: str) -> None:
    """Note that the worker has left now."""
    tx.execute(SEEN, {"its_id": worker_id, "state": WorkerState.GONE, "seen_at": time.time()})


def drain_worker(tx: Transaction, worker_id: str) -> None:
    """Tell the worker to take no more trials. Nothing changes when it was told before, or has gone."""
    alive = (worker.c.id == worker_id) & (worker.c.state == WorkerState.ALIVE)
    tx.execute(update(worker).where(alive).values(state=WorkerState.DRAINING))


LEASE = tuple_(trial.c.study_id, trial.c.id, trial.c.attempt)  # the study too: SQLite gives the keys of deleted trials again
HELD = LEASE.in_(bindparam("leases", expanding=True)) & (trial.c.state == TrialState.RUNNING)
FREE = select(trial.c.id).where(HELD).with_for_update(key_share=True, skip_locked=True)
RENEWED = update(trial).where(trial.c.id.in_(FREE)).values(heartbeat=trial.c.heartbeat + 1).returning(trial.c.id)
SEEN = update(worker).where(worker.c.id == bindparam("its_id"))


def count_heartbeats(tx: Transaction, leases: Sequence[Lease]) -> list[Lease]:
    """One heartbeat more on each lease that still holds; the lost ones come back.

    Waits for no lock: a row that another transaction is changing is left out, and judged by what is committed.
    """
    bound = {"leases": [(one.study, one.trial, one.attempt) for one in leases]}
    renewed = set(tx.scalars(RENEWED, bound))
    if len(renewed) < len(leases):
        renewed |= set(tx.scalars(select(trial.c.id).where(HELD), bound))
    return [one for one in leases if one.trial not in renewed]


def lengthen_standstill(tx: Transaction, before: Standstill, seconds: float) -> bool:
    """Add seconds to what is counted, unless another reaper did so since `before` was read, or the lease moved."""
    of_it, now = standstill.c.trial == before.trial, {"heartbeats": before.heartbeats, "seconds": before.seconds + seconds}
    if before.seconds:
        unchanged = (standstill.c.heartbeats == before.heartbeats) & (standstill.c.seconds == before.seconds)
        return tx.execute(update(standstill).where(of_it, unchanged).values(now)).rowcount == 1
    if tx.execute(update(standstill).where(of_it, standstill.c.heartbeats < before.heartbeats).values(now)).rowcount == 1:
        return True
    still = (trial.c.id == before.trial) & (trial.c.heartbeat == before.heartbeats)
    first = select(trial.c.id, literal(now["heartbeats"]), literal(now["seconds"])).where(still)
    locked = first.with_for_update(read=True, key_share=True, skip_locked=True)  # so that it is not deleted meanwhile
    inserted = insert_if_new(tx, standstill).from_select(["trial", "heartbeats", "seconds"], locked).returning(standstill.c.trial)
    return tx.execute(inserted).one_or_none() is not None


def reserve_key(tx: Transaction, key: str, request_sha256: str) -> str | None:
    """Take an idempotency key for this transaction, or give the answer that was stored under it.

    A second request with the key waits until the first has committed. Raises IdempotencyConflict when the key stands for another request.
    """
    now = time.time()
    stale = select(idempotency.c.key).where(idempotency.c.at < now - KEYS_KEPT_SECONDS).with_for_update(skip_locked=True)
    tx.execute(delete(idempotency).where(idempotency.c.key.in_(stale)))
    row = {"key": key, "request_sha256": request_sha256, "at": now}
    if tx.execute(insert_if_new(tx, idempotency).values(row).returning(idempotency.c.key)).one_or_none() is not None:
        return None
    stored = tx.execute(select(idempotency.c.request_sha256, idempotency.c.answer).where(idempotency.c.key == key)).one()
    if stored.request_sha256 != request_sha256:
        raise IdempotencyConflict
    return str(stored.answer)


def answer_key(tx: Transaction, key: str, answer: str) -> None:
    """Store the answer under a key that this transaction took."""
    tx.execute(update(idempotency).where(idempotency.c.key == key).values(answer=answer))
