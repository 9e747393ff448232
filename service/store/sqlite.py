"""Connections to SQLite files: taking the write lock, and opening a file for reading only."""

import os
import random
import sqlite3
import time
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

FIRST_LOOK_SECONDS = 0.008
LEAST_SECONDS = 0.001
HALVED_AFTER_SECONDS = 0.05


def begin_immediate(connection: sqlite3.Connection, patience_milliseconds: int) -> None:
    """Begin a writing transaction once no other is open. Raises sqlite3.OperationalError (SQLITE_BUSY) after so long."""
    began = time.monotonic()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while not _begins(connection, last_try=(waited := time.monotonic() - began) > patience_milliseconds / 1000):
            time.sleep(random.uniform(0.5, 1.5) * retry_interval(waited))  # noqa: S311 - so that writers do not look in step
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience_milliseconds}")


def retry_interval(waited: float) -> float:
    """Seconds until one who has waited so many seconds looks again, on average."""
    return max(LEAST_SECONDS, FIRST_LOOK_SECONDS / (1 + waited / HALVED_AFTER_SECONDS))


def _begins(connection: sqlite3.Connection, last_try: bool) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or last_try:
            raise
        return False
    return True


LONGEST_VALUE = 64 * 1024 * 1024  # bytes; the longest that we write are a quarter of it
WRITE_AHEAD = 2  # in bytes 18 and 19 of a file in WAL mode


def connect(file: Path, busy_milliseconds: int) -> sqlite3.Connection:
    """A connection that can only read. Raises sqlite3.OperationalError when the file is not there or cannot be read."""
    settings = "mode=ro&immutable=1" if _nobody_can_write(file) else "mode=ro"
    address = f"file:{quote(str(file))}?{settings}"
    return sqlite3.connect(address, uri=True, timeout=busy_milliseconds / 1000, check_same_thread=False)


def prepare(connection: sqlite3.Connection, _record: object) -> None:
    """The connection for our transactions; the second lock after the file's."""
    connection.isolation_level = None  # transactions begin where we say so
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")  # the file may be anybody's
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)


def computed_tables(connection: sqlite3.Connection, expected: Collection[str]) -> list[str]:
    """Those of the expected tables that are views or virtual, or have computed columns: reading them may take for ever."""
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


def _nobody_can_write(file: Path) -> bool:
    """Whether it is in WAL mode on a medium that is mounted read-only: SQLite reads such a file only when told that it cannot change."""
    try:
        if not os.statvfs(file.parent).f_flag & os.ST_RDONLY or file.with_name(f"{file.name}-wal").exists():
            return False
        with file.open("rb") as opened:
            return opened.read(20)[18:] == bytes([WRITE_AHEAD, WRITE_AHEAD])
    except OSError:
        return False
