"""SQLite files opened for reading only: nothing is made, no journal mode is set, and SQLite itself refuses to write."""

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

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


def _nobody_can_write(file: Path) -> bool:
    """Whether it is in WAL mode on a medium that is mounted read-only: SQLite reads such a file only when told that it cannot change."""
    try:
        if not os.statvfs(file.parent).f_flag & os.ST_RDONLY or file.with_name(f"{file.name}-wal").exists():
            return False
        with file.open("rb") as opened:
            return opened.read(20)[18:] == bytes([WRITE_AHEAD, WRITE_AHEAD])
    except OSError:
        return False
