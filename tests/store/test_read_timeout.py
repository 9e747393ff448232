"""A PostgreSQL that takes what is sent and never answers."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import text

from service.domain.errors import StoreUnavailable
from service.store import Store, drivers, open_store
from service.store.drivers import set_read_timeout
from tests.chaos.proxy import Proxy, through


@pytest.fixture
def cable(migrated_postgresql: str) -> Iterator[Proxy]:
    with closing(Proxy.to(migrated_postgresql)) as proxy:
        yield proxy


@pytest.fixture
def store(cable: Proxy, migrated_postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(drivers, "READ_TIMEOUT_SECONDS", 0.5)
    with closing(open_store(through(cable, migrated_postgresql))) as opened:
        yield opened


def ask(store: Store, seconds: float = 0) -> object:
    with store.reading() as tx:
        return tx.scalar(text("SELECT 1 FROM pg_sleep(:seconds)"), {"seconds": seconds})


def test_a_connection_that_went_dead_is_given_up_and_replaced(store: Store, cable: Proxy) -> None:
    assert ask(store) == 1
    assert cable.hang() == 1
    begun = time.monotonic()
    assert ask(store) == 1, "the connection was looked at before it was used"
    assert time.monotonic() - begun >= 0.5


def test_a_server_that_falls_silent_in_a_transaction_is_an_outage(store: Store, cable: Proxy) -> None:
    with pytest.raises(StoreUnavailable), store.writing() as tx:
        cable.hang()
        tx.execute(text("SELECT 1"))
    assert ask(store) == 1


def test_a_statement_may_take_longer_where_that_is_expected(store: Store) -> None:
    with store.writing() as tx:
        set_read_timeout(tx.connection.dbapi_connection, 60)
        assert tx.scalar(text("SELECT 1 FROM pg_sleep(1)")) == 1
