"""Writes outside a unit of work: creation and deletion of studies, workers and heartbeats, idempotency keys."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, false, func, insert, literal, or_, select, tuple_, update

from service.domain.errors import IdempotencyConflict, NameTaken, StudyDeleted, StudyNotFound
from service.domain.records import Lease, StaleLease, Study, Worker
from service.domain.states import StudyState, TrialState, WorkerState
from service.store.codec import cleaned, is_storable
from service.store.dialects import insert_if_new, insert_or_replace
from service.store.engine import Transaction
from service.store.schema import (
    GIVEN_UP,
    VISIBLE,
    event,
    idempotency,
    log,
    manifest,
    metric,
    standstill,
    study,
    trial,
    unavailable,
    worker,
)

KEYS_KEPT_SECONDS = 48 * 3600
ANSWER = (idempotency.c.request_sha256, idempotency.c.answer, idempotency.c.study_id)
MOST_KEYS = 20_000
MOST_ANSWERS = 64 * 1024 * 1024  # characters of all answers together
LONG_ANSWER = 64 * 1024  # characters, from which on a new answer bounds the keys at once instead of at the next sweep
WORKERS_KEPT_SECONDS = 30 * 24 * 3600
REMOVED_ROWS = 20_000  # in one transaction, which blocks other writers
REMOVED_TRIALS = 100
REMOVED_LOGS = 200  # chunks of a trial's log, with kilobytes of text each
MAX_NAME = 128  # characters of a study's name


def insert_study(tx: Transaction, new: Study, *, published: bool = True) -> None:
    """Insert a study's row, without trials and events. An unpublished study reserves its name and is hidden. Raises NameTaken."""
    row = {
        "id": new.id, "name": new.name, "state": new.state, "spec": new.spec.model_dump_json(),
        "created": 0, "exhausted": False, "seq": 0, "created_at": new.created_at, "unpublished": None if published else 0,
    }  # fmt: skip
    if tx.execute(insert_if_new(tx, study).values(row).returning(study.c.id)).one_or_none() is None:
        raise NameTaken(new.name)


def unused_name(tx: Transaction, name: str) -> str:
    """The name with the first free number appended, such as `pets~1`."""
    for number in itertools.count(1):
        tail = f"~{number}"
        candidate = name[: MAX_NAME - len(tail)] + tail
        if tx.scalar(select(study.c.id).where(study.c.name == candidate)) is None:
            return candidate
    raise AssertionError("unreachable")


def delete_study(tx: Transaction, ref: str) -> None:
    """Delete the study of that id or name, readable or not, and all that belongs to it. Raises StudyNotFound.

    A study with many rows is hidden and its name is free at once; `remove_given_up` deletes its rows in short transactions. Its leases
    are lost, because its running trials become cancelled.
    """
    condition = select(study.c.id).where(or_(study.c.id == ref, study.c.name == ref), VISIBLE).with_for_update()
    study_id = tx.scalar(condition) if is_storable(ref) else None
    if study_id is None:
        raise StudyNotFound(ref)
    hidden = {"unpublished": GIVEN_UP, "name": f"study {study_id} deleted", "state": StudyState.STOPPED}
    tx.execute(update(study).where(study.c.id == study_id).values(hidden))
    running = (trial.c.study_id == study_id) & (trial.c.state == TrialState.RUNNING)
    tx.execute(update(trial).where(running).values(state=TrialState.CANCELLED))
    tx.execute(delete(unavailable).where(unavailable.c.study_id == study_id))
    drop_answers(tx, study_id)
    if _has_few_rows(tx, study_id):
        while not remove_given_up(tx, study_id):
            pass


def _has_few_rows(tx: Transaction, study_id: str) -> bool:
    """Whether a single transaction may remove the study."""
    owned = select(trial.c.id).where(trial.c.study_id == study_id)
    bounded = (
        (owned, REMOVED_TRIALS),
        (select(log.c.seq).where(log.c.trial.in_(owned)), REMOVED_LOGS),
        (select(metric.c.step).where(metric.c.trial.in_(owned)), REMOVED_ROWS),
        (select(event.c.seq).where(event.c.study_id == study_id), REMOVED_ROWS),
    )
    return all(tx.execute(rows.limit(1).offset(most)).one_or_none() is None for rows, most in bounded)


def hidden_studies(tx: Transaction) -> dict[str, int]:
    """Hidden studies by id: the number of transactions that their import has made, or GIVEN_UP."""
    return {row.id: row.unpublished for row in tx.execute(select(study.c.id, study.c.unpublished).where(~VISIBLE))}


def give_up_import(tx: Transaction, study_id: str, writes: int | None = None) -> None:
    """Free the name of an unpublished study and mark its rows for removal. With `writes`, only if its count is still that number."""
    condition = (study.c.id == study_id) & (study.c.unpublished >= 0 if writes is None else study.c.unpublished == writes)
    tx.execute(update(study).where(condition).values(unpublished=GIVEN_UP, name=f"import {study_id} given up"))


def remove_given_up(tx: Transaction, study_id: str) -> bool:
    """Delete a bounded number of rows of a deleted study or a given-up import. Returns True when no row is left."""
    given_up = (study.c.id == study_id) & (study.c.unpublished == GIVEN_UP)
    if tx.scalar(select(study.c.id).where(given_up).with_for_update()) is None:  # another server has deleted it
        return True
    owned = select(trial.c.id).where(trial.c.study_id == study_id)
    reported = select(metric.c.trial, metric.c.step, metric.c.name).where(metric.c.trial.in_(owned)).limit(REMOVED_ROWS)
    if tx.execute(delete(metric).where(tuple_(metric.c.trial, metric.c.step, metric.c.name).in_(reported))).rowcount:
        return False
    logged = select(log.c.trial, log.c.attempt, log.c.seq).where(log.c.trial.in_(owned)).limit(REMOVED_LOGS)
    if tx.execute(delete(log).where(tuple_(log.c.trial, log.c.attempt, log.c.seq).in_(logged))).rowcount:
        return False
    emitted = select(event.c.seq).where(event.c.study_id == study_id).limit(REMOVED_ROWS)
    if tx.execute(delete(event).where(event.c.study_id == study_id, event.c.seq.in_(emitted))).rowcount:
        return False
    if tx.execute(delete(trial).where(trial.c.id.in_(owned.limit(REMOVED_TRIALS)))).rowcount:
        return False
    tx.execute(delete(study).where(given_up))
    return True


def has_old_workers(tx: Transaction) -> bool:
    """Whether `forget_workers` would delete some."""
    return tx.scalar(select(worker.c.id).where(_is_old()).limit(1)) is not None


def forget_workers(tx: Transaction) -> int:
    """Delete workers without a heartbeat for 30 days that hold no trial. Returns their number."""
    return tx.execute(delete(worker).where(_is_old())).rowcount


def _is_old() -> ColumnElement[bool]:
    holding = select(trial.c.worker).where(trial.c.state == TrialState.RUNNING)
    return (worker.c.seen_at < time.time() - WORKERS_KEPT_SECONDS) & worker.c.id.not_in(holding)


def keep_manifest(tx: Transaction, study_id: str, digests: str | None) -> None:
    """Replace the manifest of the examples that a study was checked with; None deletes it."""
    tx.execute(delete(manifest).where(manifest.c.study_id == study_id))
    if digests is not None:
        tx.execute(insert(manifest).values(study_id=study_id, digests=digests))


def change_nothing(tx: Transaction) -> None:
    """Execute an UPDATE of no row. It fails if the database is read-only."""
    tx.execute(update(study).where(false()).values(seq=study.c.seq))


def put_worker(tx: Transaction, one: Worker) -> None:
    """Insert the worker, or overwrite it."""
    row = {name: getattr(one, name) for name in ("id", "pid", "slots", "state", "started_at", "seen_at")}
    scripts = [cleaned(folder) for folder in one.scripts] or None
    tx.execute(insert_or_replace(tx, worker).values(row | {"host": cleaned(one.host), "scripts": scripts} | _device_columns(one)))


def change_devices(tx: Transaction, one: Worker) -> None:
    """Replace the slots and devices of a registered worker. Its state is unchanged."""
    tx.execute(update(worker).where(worker.c.id == one.id).values(slots=one.slots, **_device_columns(one)))


def _device_columns(one: Worker) -> dict[str, Any]:
    return {
        "devices": [cleaned(device) for device in one.devices],
        "memory": list(one.memory),
        "device_names": [cleaned(name) for name in one.device_names],
        "unusable": [{name: cleaned(text) for name, text in asdict(device).items()} for device in one.unusable],
    }


def see_worker(tx: Transaction, worker_id: str) -> None:
    """Set the time of the worker's last heartbeat. Its state is unchanged, so that a heartbeat does not cancel a drain request."""
    tx.execute(SEEN, {"its_id": worker_id, "seen_at": time.time()})


def count_set_aside(tx: Transaction, worker_id: str, count: int) -> None:
    """Store the number of results on the worker's disk that the database refused."""
    tx.execute(SEEN, {"its_id": worker_id, "set_aside": count})


def put_unavailable(tx: Transaction, study_id: str, worker_id: str, what: str, detail: str) -> bool:
    """Store that the worker cannot read the study's data or weights. Returns whether the row changed."""
    condition = (unavailable.c.study_id == study_id) & (unavailable.c.worker == worker_id)
    before = tx.execute(select(unavailable.c.what, unavailable.c.detail).where(condition)).one_or_none()
    if before is None:
        row = {"study_id": study_id, "worker": worker_id, "what": what, "detail": detail, "since": time.time()}
        tx.execute(insert(unavailable).values(row))
    elif tuple(before) != (what, detail):
        tx.execute(update(unavailable).where(condition).values(what=what, detail=detail))
    return before is None or tuple(before) != (what, detail)


def remove_unavailable(tx: Transaction, study_id: str, worker_id: str) -> bool:
    """Delete the row of a worker that can read the study's files again. Returns whether there was one."""
    condition = (unavailable.c.study_id == study_id) & (unavailable.c.worker == worker_id)
    return tx.execute(delete(unavailable).where(condition)).rowcount > 0


def retire_worker(tx: Transaction, worker_id: str) -> None:
    """Mark the worker as gone."""
    tx.execute(delete(unavailable).where(unavailable.c.worker == worker_id))
    tx.execute(SEEN, {"its_id": worker_id, "state": WorkerState.GONE, "seen_at": time.time()})


def drain_worker(tx: Transaction, worker_id: str) -> None:
    """Mark a worker that is alive as draining. Other workers do not change."""
    alive = (worker.c.id == worker_id) & (worker.c.state == WorkerState.ALIVE)
    tx.execute(update(worker).where(alive).values(state=WorkerState.DRAINING))


# The study is part of the key because SQLite reuses the keys of deleted trials. AUTOINCREMENT would prevent the reuse, but SQLite can add
# it only by rewriting the table.
LEASE = tuple_(trial.c.study_id, trial.c.id, trial.c.attempt)
HELD = LEASE.in_(bindparam("leases", expanding=True)) & (trial.c.state == TrialState.RUNNING)
FREE = select(trial.c.id).where(HELD).with_for_update(key_share=True, skip_locked=True)
RENEWED = update(trial).where(trial.c.id.in_(FREE)).values(heartbeat=trial.c.heartbeat + 1).returning(trial.c.id)
SEEN = update(worker).where(worker.c.id == bindparam("its_id"))


def count_heartbeats(tx: Transaction, leases: Sequence[Lease]) -> list[Lease]:
    """Increment the heartbeat of each lease that still holds its trial. Returns the lost leases.

    Waits for no lock: a row that another transaction has locked is not incremented, and its committed state decides whether the lease
    is lost. A heartbeat that waited behind a long transaction could arrive after the lease has expired.
    """
    bound = {"leases": [(one.study, one.trial, one.attempt) for one in leases]}
    renewed = set(tx.scalars(RENEWED, bound))
    if len(renewed) < len(leases):
        renewed |= set(tx.scalars(select(trial.c.id).where(HELD), bound))
    return [one for one in leases if one.trial not in renewed]


def record_stale_lease(tx: Transaction, before: StaleLease, seconds: float) -> bool:
    """Add seconds to the stored duration of a stale lease.

    Returns False if another reaper changed the row since `before` was read, or if the lease was renewed.
    """
    same_trial, now = standstill.c.trial == before.trial, {"heartbeats": before.heartbeats, "seconds": before.seconds + seconds}
    if before.seconds:
        unchanged = (standstill.c.heartbeats == before.heartbeats) & (standstill.c.seconds == before.seconds)
        return tx.execute(update(standstill).where(same_trial, unchanged).values(now)).rowcount == 1
    if tx.execute(update(standstill).where(same_trial, standstill.c.heartbeats < before.heartbeats).values(now)).rowcount == 1:
        return True
    still = (trial.c.id == before.trial) & (trial.c.heartbeat == before.heartbeats)
    first = select(trial.c.id, literal(now["heartbeats"]), literal(now["seconds"])).where(still)
    locked = first.with_for_update(read=True, key_share=True, skip_locked=True)  # protects the row from a concurrent deletion
    inserted = insert_if_new(tx, standstill).from_select(["trial", "heartbeats", "seconds"], locked).returning(standstill.c.trial)
    return tx.execute(inserted).one_or_none() is not None


def reserve_key(tx: Transaction, key: str, request_sha256: str) -> str | None:
    """Reserve an idempotency key in this transaction and return None, or return the stored answer.

    A second request with the key waits until the first has committed. Raises IdempotencyConflict, StudyDeleted.
    """
    now = time.time()
    stale = select(idempotency.c.key).where(idempotency.c.at < now - KEYS_KEPT_SECONDS).with_for_update(skip_locked=True)
    tx.execute(delete(idempotency).where(idempotency.c.key.in_(stale)))
    row = {"key": key, "request_sha256": request_sha256, "at": now}
    if tx.execute(insert_if_new(tx, idempotency).values(row).returning(idempotency.c.key)).one_or_none() is not None:
        return None
    stored = tx.execute(select(*ANSWER).where(idempotency.c.key == key)).one()
    return stored_answer(*stored, request_sha256)


def stored_answer(stored_sha256: str, answer: str | None, study_id: str | None, request_sha256: str) -> str:
    """The answer to the first request with a key, given the row of that key.

    Raises IdempotencyConflict when another request used the key, StudyDeleted when the study of the answer was deleted.
    """
    if stored_sha256 != request_sha256:
        raise IdempotencyConflict
    if answer is None and study_id is not None:
        raise StudyDeleted(study_id)
    return str(answer)


def answer_key(tx: Transaction, key: str, answer: str, study_id: str | None) -> None:
    """Store the answer under a key that this transaction reserved, with the id of its study."""
    tx.execute(update(idempotency).where(idempotency.c.key == key).values(answer=answer, study_id=study_id))
    if len(answer) > LONG_ANSWER:
        bound_keys(tx)


def release_key(tx: Transaction, key: str) -> None:
    """Free a key that this transaction reserved."""
    tx.execute(delete(idempotency).where(idempotency.c.key == key))


def drop_answers(tx: Transaction, study_id: str) -> None:
    """Delete the answers about the study. Their keys stay, so that a repeated request has no second effect."""
    tx.execute(update(idempotency).where(idempotency.c.study_id == study_id).values(answer=None))


def bound_keys(tx: Transaction) -> None:
    """Delete the oldest keys, so that at most MOST_KEYS keys and MOST_ANSWERS characters of answers are left."""
    newest = idempotency.c.at.desc(), idempotency.c.key
    rank = func.row_number().over(order_by=newest)
    before = func.sum(func.length(func.coalesce(idempotency.c.answer, ""))).over(order_by=newest, rows=(None, 0))
    ranked = select(idempotency.c.key, rank.label("rank"), before.label("characters")).subquery()
    # the newest key stays even if its answer alone exceeds the bound
    too_many = (ranked.c.rank > MOST_KEYS) | ((ranked.c.rank > 1) & (ranked.c.characters > MOST_ANSWERS))
    tx.execute(delete(idempotency).where(idempotency.c.key.in_(select(ranked.c.key).where(too_many))))
