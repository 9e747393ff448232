"""Sinks: receivers of events outside. One process at a time delivers to each."""

from service.domain.records import SinkProgress, SinkStatus
from service.store import Store, sinks
from service.store.codec import storable


def register_sink(store: Store, name: str, *, from_start: bool) -> None:
    """Insert the sink if it is new. Unless `from_start`, it gets only events from now on. Raises StoreUnavailable."""
    with store.writing() as tx:
        sinks.register(tx, name, from_start=from_start)


def take_sink(store: Store, seen: SinkStatus, owner: str) -> bool:
    """Make `owner` the owner of the sink, if nothing has changed since `seen` was read. Raises StoreUnavailable."""
    with store.writing() as tx:
        return sinks.take(tx, seen.name, owner, seen)


def renew_sink(store: Store, name: str, owner: str) -> bool:
    """Count a beat of the sink's owner. False if another process owns it. Raises StoreUnavailable."""
    with store.writing() as tx:
        return sinks.renew(tx, name, owner)


def release_sink(store: Store, name: str, owner: str) -> None:
    """Let another process take the sink at once. Raises StoreUnavailable."""
    with store.writing() as tx:
        sinks.release(tx, name, owner)


def fail_sink(store: Store, name: str, owner: str, error: str) -> bool:
    """Count a failed delivery. False if another process owns the sink. Raises StoreUnavailable."""
    with store.writing() as tx:
        return sinks.fail(tx, name, owner, storable(error))


def advance_sink(store: Store, name: str, owner: str, progress: SinkProgress) -> bool:
    """Store what the sink got of a study.

    False, without an effect, if another process owns the sink. Raises StoreUnavailable.
    """
    with store.writing() as tx:
        return sinks.advance(tx, name, owner, progress)


def forget_sinks(store: Store) -> None:
    """Delete the sinks that no process has owned for 30 days. Raises StoreUnavailable."""
    with store.writing() as tx:
        sinks.forget(tx)
