"""SQLite that refuses writes while a file says so, with its own error, and waits for a lock for half a second only."""

import os
from pathlib import Path

from sqlalchemy import Connection, Engine, event

from service.store import engine

BUSY_MILLISECONDS = 500
FLAG = "THAW_CHAOS_READ_ONLY"  # the file


def install() -> None:
    engine.BUSY_MILLISECONDS = BUSY_MILLISECONDS
    flag = Path(os.environ[FLAG])
    event.listen(Engine, "begin", lambda connection: _bar(connection, flag.exists()), insert=True)


def _bar(connection: Connection, barred: bool) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA query_only = {int(barred)}")
