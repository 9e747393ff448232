"""Connections of the two databases: a read timeout for PostgreSQL; the write lock and reading only for SQLite."""

import os
import random
import sqlite3
import time
from collections.abc import Collection, Generator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg

READ_TIMEOUT_SECONDS = 35.0  # above the statement_timeout of the server

T = TypeVar("T")


class ReadTimeoutConnection(psycopg.Connection[Any]):
    """Closes itself and raises OperationalError when no data arrives for `read_timeout_seconds` during a statement."""

    read_timeout_seconds: float | None = None  # None: READ_TIMEOUT_SECONDS

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """psycopg's wait with the timeout. psycopg resumes `gen` at short intervals, also when no data arrived."""
        return super().wait(self._limited(gen), *args, **kwargs)

    def _limited(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """Wrap psycopg's generator, which yields the events to wait for and receives those that occurred; 0 if none did in an interval."""
        timeout = READ_TIMEOUT_SECONDS if self.read_timeout_seconds is None else self.read_timeout_seconds
        received_at = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    received_at = time.monotonic()
                elif time.monotonic() - received_at > timeout:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no data from the server for {timeout:g} seconds")
                wanted = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value


def set_read_timeout(driver: object, seconds: float) -> None:
    """Set the read timeout of a connection, if it is a ReadTimeoutConnection."""
    if isinstance(driver, ReadTimeoutConnection):
        driver.read_timeout_seconds = seconds


FIRST_RETRY_SECONDS = 0.008
MIN_RETRY_SECONDS = 0.001
HALVED_AFTER_SECONDS = 0.05


def begin_immediate(connection: sqlite3.Connection, patience_milliseconds: int) -> None:
    """Acquire SQLite's write lock. Raises sqlite3.OperationalError (SQLITE_BUSY) after `patience_milliseconds`."""
    # SQLite's own busy handler sleeps longer the longer a connection waits, so a late writer overtakes an early one and a loser can time
    # out. Here the interval shrinks with the waiting time, which approximates first in, first out.
    began = time.monotonic()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while not _try_begin(connection, last_try=(waited := time.monotonic() - began) > patience_milliseconds / 1000):
            time.sleep(random.uniform(0.5, 1.5) * retry_interval(waited))  # noqa: S311 - jitter, so that writers do not retry in step
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience_milliseconds}")


def retry_interval(waited: float) -> float:
    """Mean seconds until the next attempt of a writer that has waited for `waited` seconds."""
    return max(MIN_RETRY_SECONDS, FIRST_RETRY_SECONDS / (1 + waited / HALVED_AFTER_SECONDS))


def _try_begin(connection: sqlite3.Connection, last_try: bool) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or last_try:
            raise
        return False
    return True


MAX_VALUE_BYTES = 64 * 1024 * 1024  # four times the longest value that Thawline writes
WAL_VERSION = 2  # bytes 18 and 19 of a file in WAL mode


def connect(file: Path, busy_milliseconds: int) -> sqlite3.Connection:
    """A read-only connection. Raises sqlite3.OperationalError when the file does not exist or cannot be opened."""
    settings = "mode=ro&immutable=1" if _is_immutable(file) else "mode=ro"
    address = f"file:{quote(str(file))}?{settings}"
    return sqlite3.connect(address, uri=True, timeout=busy_milliseconds / 1000, check_same_thread=False)


def prepare(connection: sqlite3.Connection, _record: object) -> None:
    """Configure a read-only connection to a file that may be untrusted."""
    connection.isolation_level = None  # the driver begins no transaction; the "begin" event of the engine does
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")  # views of an untrusted file may call no function with side effects
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)


def computed_tables(connection: sqlite3.Connection, expected: Collection[str]) -> list[str]:
    """The expected tables that are views or virtual tables or have generated columns: reading them may never end."""
    kinds = {
        name: (kind, str(sql)) for name, kind, sql in connection.execute("SELECT name, type, sql FROM sqlite_master WHERE type <> 'index'")
    }
    hidden = "SELECT count(*) FROM pragma_table_xinfo(?) WHERE hidden <> 0"
    return [
        name
        for name in sorted(expected)
        if name in kinds
        and (
            kinds[name][0] != "table"
            or kinds[name][1].lower().startswith("create virtual")
            or connection.execute(hidden, (name,)).fetchone()[0]
        )
    ]


def _is_immutable(file: Path) -> bool:
    """Whether the file is in WAL mode on a read-only file system, where SQLite opens it only with `immutable=1`."""
    try:
        if not os.statvfs(file.parent).f_flag & os.ST_RDONLY or file.with_name(f"{file.name}-wal").exists():
            return False
        with file.open("rb") as opened:
            return opened.read(20)[18:] == bytes([WAL_VERSION, WAL_VERSION])
    except OSError:
        return False
