"""Writers of one SQLite file wait for each other, and who waits longer comes sooner."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from service.store.drivers import begin_immediate, retry_interval

Connect = Callable[[], sqlite3.Connection]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    with ExitStack() as stack:

        def connect() -> sqlite3.Connection:
            opened = sqlite3.connect(tmp_path / "file.db", timeout=10, isolation_level=None, check_same_thread=False)
            return stack.enter_context(closing(opened))

        yield connect


def test_a_writer_waits_for_the_one_before(connect: Connect) -> None:
    first, second = connect(), connect()
    begin_immediate(first, 10_000)
    waiter = threading.Thread(target=begin_immediate, args=(second, 10_000))
    waiter.start()
    time.sleep(0.1)
    assert not second.in_transaction
    first.execute("COMMIT")
    waiter.join(60)
    assert second.in_transaction
    assert second.execute("PRAGMA busy_timeout").fetchone() == (10_000,)


def test_patience_ends(connect: Connect) -> None:
    first, second = connect(), connect()
    begin_immediate(first, 10_000)
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="locked") as caught:
        begin_immediate(second, 150)
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_BUSY
    assert time.monotonic() - began >= 0.15
    assert second.execute("PRAGMA busy_timeout").fetchone() == (150,)


def test_a_fault_that_is_no_lock_is_told_at_once(connect: Connect) -> None:
    opened = connect()
    begin_immediate(opened, 10_000)
    with pytest.raises(sqlite3.OperationalError, match="within a transaction"):
        begin_immediate(opened, 10_000)


def test_who_has_waited_longer_looks_more_often() -> None:
    waits = [retry_interval(seconds) for seconds in (0, 0.05, 0.1, 0.3)]
    assert waits == sorted(waits, reverse=True) and waits[0] == 2 * waits[1]
    assert retry_interval(5) == retry_interval(9) > 0
