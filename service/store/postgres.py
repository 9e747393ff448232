"""Connections to PostgreSQL that give up a server which says nothing.

The server's own limits end a statement that takes long, and TCP finds a peer that is gone. Neither helps when the network, or a proxy on
the way, takes what is sent and swallows the answer: without a limit of ours the caller would wait for ever.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

READ_TIMEOUT_SECONDS = 35.0  # longer than the server lets a statement take

T = TypeVar("T")


class ReadTimeoutConnection(psycopg.Connection[Any]):
    """Closes itself and raises OperationalError when nothing comes for `silence_seconds` in the middle of a statement."""

    silence_seconds: float | None = None  # None: READ_TIMEOUT_SECONDS

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """As psycopg does, with an end."""
        return super().wait(self._limited(gen), *args, **kwargs)

    def _limited(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """The generator, which yields what it waits for and is sent what came; that is false when nothing did for a moment."""
        most = READ_TIMEOUT_SECONDS if self.silence_seconds is None else self.silence_seconds
        heard_at = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at > most:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"the server has said nothing for {most:g} seconds")
                wanted = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value


def set_read_timeout(driver: object, seconds: float) -> None:
    """Let statements on this connection take so long, if it is one of ours."""
    if isinstance(driver, ReadTimeoutConnection):
        driver.silence_seconds = seconds
