"""Writes about workers as such."""

from service.domain.records import Worker
from service.operations import idempotency as keys
from service.operations.idempotency import Idempotency
from service.store import Store, queries, registry


def register_worker(store: Store, worker: Worker) -> None:
    """Make a worker known; one that comes back under its id replaces itself."""
    with store.writing() as tx:
        registry.put_worker(tx, worker)


def retire_worker(store: Store, worker: str) -> None:
    """The worker has left. Trials that it still holds are found by a reaper."""
    with store.writing() as tx:
        registry.retire_worker(tx, worker)


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
