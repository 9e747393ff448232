"""Writers of an SQLite file one after the other, nearly in the order in which they came.

SQLite lets a writer that finds the file locked look again after 1, 2, 5, … 100 ms, so that a newcomer mostly goes before those who have
waited for a second. Here who has waited longer looks more often.
"""

import random
import sqlite3
import time

FIRST_LOOK_SECONDS = 0.008
LEAST_SECONDS = 0.001
HALVED_AFTER_SECONDS = 0.05


def begin_in_turn(connection: sqlite3.Connection, patience_milliseconds: int) -> None:
    """Begin a writing transaction once no other is open. Raises sqlite3.OperationalError (SQLITE_BUSY) after so long."""
    began = time.monotonic()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while not _begins(connection, last_try=(waited := time.monotonic() - began) > patience_milliseconds / 1000):
            time.sleep(random.uniform(0.5, 1.5) * between_looks(waited))  # noqa: S311 - so that writers do not look in step
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience_milliseconds}")


def between_looks(waited: float) -> float:
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
