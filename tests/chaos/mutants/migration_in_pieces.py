"""A migration commits each of its statements."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.store.engine import Store, Transaction

SCENARIO = "tests/chaos/test_f03_migrations.py -k first_schema_is_made"


def plant() -> None:
    from service.store import migrate

    @contextmanager
    def committing(self: Store) -> Iterator[Transaction]:
        options = {"begin": "SELECT 1"} if self.embedded else {"isolation_level": "AUTOCOMMIT"}
        with self.engine.execution_options(**options).begin() as tx:
            yield tx

    upgrade = migrate.upgrade

    def in_pieces(url: str) -> None:
        writing, Store.writing = Store.writing, committing  # type: ignore[method-assign]
        try:
            upgrade(url)
        finally:
            Store.writing = writing  # type: ignore[method-assign]

    migrate.upgrade = in_pieces
