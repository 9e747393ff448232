"""Registers, drains and removes workers, and counts stale leases."""

from collections.abc import Mapping
from typing import Literal

from service.domain.records import StaleLease, Worker
from service.domain.states import EventKind
from service.operations import idempotency as keys
from service.operations.idempotency import Idempotency
from service.store import Store, queries, registry
from service.store.codec import storable
from service.store.unit_of_work import locked


def register_worker(store: Store, worker: Worker) -> None:
    """Insert a worker, or overwrite the one with the same id."""
    with store.writing() as tx:
        registry.put_worker(tx, worker)


def change_devices(store: Store, worker: Worker) -> None:
    """Store the slots and devices of a registered worker, after a device became usable or unusable. Raises StoreUnavailable."""
    with store.writing() as tx:
        registry.change_devices(tx, worker)


def count_set_aside(store: Store, worker: str, count: int) -> None:
    """Store the number of results on the worker's disk that the database refused. Raises StoreUnavailable."""
    with store.writing() as tx:
        registry.count_set_aside(tx, worker, count)


def report_unavailable(store: Store, worker: str, study: str, what: Literal["data", "weights", "script"], detail: str) -> bool:
    """Store that the worker cannot read the study's data or weights, or may not run its script.

    Returns False, without an effect, when the study has ended.
    Raises StudyNotFound, StudyUnreadable, StoreUnavailable.
    """
    with store.writing() as tx, locked(tx, study) as uow:
        if uow.study.state.terminal:
            registry.remove_unavailable(tx, uow.study.id, worker)
            return False
        if registry.put_unavailable(tx, uow.study.id, worker, what, storable(detail)):
            uow.emit(EventKind.STUDY_UNAVAILABLE, state=uow.study.state, worker=worker, what=what, detail=storable(detail))
    return True


def report_available(store: Store, worker: str, study: str) -> bool:
    """Store that the worker can read the study's data and weights again. Returns False when the study has ended.

    Raises StudyNotFound, StudyUnreadable, StoreUnavailable.
    """
    with store.writing() as tx, locked(tx, study) as uow:
        if registry.remove_unavailable(tx, uow.study.id, worker) and not uow.study.state.terminal:
            uow.emit(EventKind.STUDY_AVAILABLE, state=uow.study.state, worker=worker)
    return not uow.study.state.terminal


def retire_worker(store: Store, worker: str) -> None:
    """Mark a worker as gone. A reaper requeues the trials that it still holds."""
    with store.writing() as tx:
        registry.retire_worker(tx, worker)


def bound_keys(store: Store) -> None:
    """Delete the oldest idempotency keys beyond their bound. Raises StoreUnavailable."""
    with store.writing() as tx:
        registry.bound_keys(tx)


def forget_workers(store: Store) -> int:
    """Delete workers without a heartbeat for 30 days that hold no trial. Returns their number. Raises StoreUnavailable."""
    if not store.read(registry.has_old_workers):
        return 0
    with store.writing() as tx:
        return registry.forget_workers(tx)


def drain_worker(store: Store, worker: str, idempotency: Idempotency | None = None) -> Worker:
    """Drain the worker: it claims no more trials and exits after its current ones. A worker that is gone does not change.

    Raises WorkerNotFound, IdempotencyConflict, Replay.
    """
    with store.writing() as tx:
        keys.take(tx, idempotency)
        registry.drain_worker(tx, worker)
        drained = queries.find_worker(tx, worker)
        keys.keep(tx, idempotency, drained)
    return drained


def record_stale_leases(store: Store, counted: Mapping[StaleLease, float]) -> list[StaleLease]:
    """Add the seconds that this reaper observed to each stored duration.

    Returns the increased ones; those that another reaper changed since they were read are left out. Raises StoreUnavailable.
    """
    with store.writing() as tx:
        in_order = sorted(counted, key=lambda one: one.trial)  # one lock order for all reapers
        longer = [one for one in in_order if registry.record_stale_lease(tx, one, counted[one])]
    return [StaleLease(one.trial, one.heartbeats, one.seconds + counted[one]) for one in longer]


def try_to_write(store: Store) -> None:
    """Run a writing transaction without an effect. Raises StoreUnavailable when the database is read-only, locked or unreachable."""
    with store.writing() as tx:
        registry.change_nothing(tx)
