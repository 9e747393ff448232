"""Whether the store takes writes at all."""

from service.store import Store, registry


def try_to_write(store: Store) -> None:
    """A writing transaction that changes nothing. Raises StoreUnavailable when the database is read-only, locked or away."""
    with store.writing() as tx:
        registry.change_nothing(tx)
