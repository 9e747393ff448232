"""Writes about workers as such."""

from service.domain.records import Worker
from service.store import Store, registry


def register_worker(store: Store, worker: Worker) -> None:
    """Make a worker known; one that comes back under its id replaces itself."""
    with store.writing() as tx:
        registry.put_worker(tx, worker)


def retire_worker(store: Store, worker: str) -> None:
    """The worker has left. Trials that it still holds are found by a reaper."""
    with store.writing() as tx:
        registry.see_worker(tx, worker, state="gone")
