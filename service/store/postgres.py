"""PostgreSQL connections with a client-side read timeout.

The server's statement_timeout ends slow statements, and TCP keepalives detect a dead peer. Neither detects a network or proxy that
accepts the request and drops the answer: without a client-side timeout the caller would wait for ever.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

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
