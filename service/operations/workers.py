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
    """Make a worker known; one that comes back under its id replaces itself."""
    with store.writing() as tx:
        registry.put_worker(tx, worker)


def count_set_aside(store: Store, worker: str, count: int) -> None:
    """Note how many results lie on the worker's disk that the database could not take. Raises StoreUnavailable."""
    with store.writing() as tx:
        registry.count_set_aside(tx, worker, count)


def report_unavailable(store: Store, worker: str, study: str, what: Literal["data", "weights"], detail: str) -> bool:
    """Note that the worker cannot read the study's data or weights; False when the study has ended, and then nothing is noted.

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
    """Note that the worker can read the study's data and weights again; False when the study has ended.

    Raises StudyNotFound, StudyUnreadable, StoreUnavailable.
    """
    with store.writing() as tx, locked(tx, study) as uow:
        if registry.remove_unavailable(tx, uow.study.id, worker) and not uow.study.state.terminal:
            uow.emit(EventKind.STUDY_AVAILABLE, state=uow.study.state, worker=worker)
    return not uow.study.state.terminal


def retire_worker(store: Store, worker: str) -> None:
    """The worker has left. Trials that it still holds are found by a reaper."""
    with store.writing() as tx:
        registry.retire_worker(tx, worker)


def bound_keys(store: Store) -> None:
    """Delete the oldest idempotency keys beyond their bound. Raises StoreUnavailable."""
    with store.writing() as tx:
        registry.bound_keys(tx)


def forget_workers(store: Store) -> int:
    """Remove workers that were seen last a month ago or before and hold no trial; how many. Raises StoreUnavailable."""
    if not store.read(registry.has_old_workers):
        return 0
    with store.writing() as tx:
        return registry.forget_workers(tx)


def drain_worker(store: Store, worker: str, idempotency: Idempotency | None = None) -> Worker:
    """Let the worker take no more trials, end those it has, and go; of one that has gone nothing changes.

    Raises WorkerNotFound, IdempotencyConflict, Replay.
    """
    with store.writing() as tx:
        keys.take(tx, idempotency)
        registry.drain_worker(tx, worker)
        drained = queries.find_worker(tx, worker)
        keys.keep(tx, idempotency, drained)
    return drained


def record_stale_leases(store: Store, counted: Mapping[StaleLease, float]) -> list[StaleLease]:
    """Add the seconds that this reaper saw since it read each; those that no other reaper has added to meanwhile come back, longer.

    Raises StoreUnavailable.
    """
    with store.writing() as tx:
        in_order = sorted(counted, key=lambda one: one.trial)
        longer = [one for one in in_order if registry.record_stale_lease(tx, one, counted[one])]
    return [StaleLease(one.trial, one.heartbeats, one.seconds + counted[one]) for one in longer]


def try_to_write(store: Store) -> None:
    """A writing transaction that changes nothing. Raises StoreUnavailable when the database is read-only, locked or away."""
    with store.writing() as tx:
        registry.change_nothing(tx)
