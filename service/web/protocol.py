"""HTTP/1.1 on one connection: uvicorn's, with problems for what is not HTTP, and cut off when a head never ends or no answer is taken."""

import asyncio
import socket
import struct
import time
from http import HTTPStatus

import h11
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.web.access import SECURITY_HEADERS
from service.web.problems import BUSY, MALFORMED_REQUEST, Kind, problem, request_id

MAX_CONNECTIONS = 1024  # fewer where the process may open few files: see `bounded`
HEAD_SECONDS = 20.0  # for a request line and its headers to arrive
TAKING_SECONDS = 24.0  # for a client to take `LEAST_BYTES` of what waits for it
LEAST_BYTES = 16 * 1024
LOOKS = 8  # at what waits, in `TAKING_SECONDS`
RESET = struct.pack("ii", 1, 0)  # no lingering when the socket is closed


class Protocol(H11Protocol):
    """A connection is closed when the head of its next request does not arrive in time, and cut when its answers are not taken.

    Without the cut, a connection that is to be closed would stay for as long as its client leaves the last bytes untaken.
    """

    most_connections = MAX_CONNECTIONS
    _patience: asyncio.TimerHandle | None = None
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()
        self._begin_to_look(0)
        if len(self.connections) > self.most_connections:
            self._answer_and_close(BUSY, "Too many connections are open; try again.")

    def on_response_complete(self) -> None:
        self._await_head()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._patience, self._look):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        self._stuck_at, self._stuck_since = 0, time.monotonic()  # most of what waited was taken
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._answer_and_close(MALFORMED_REQUEST, "The request does not follow HTTP/1.1.")

    def _answer_and_close(self, kind: Kind, detail: str) -> None:
        """A problem outside any request."""
        scope: Scope = {"type": "http", "path": ""}
        own = {"X-Request-ID": request_id(scope), "Cache-Control": "no-store", "Connection": "close"}
        answer = problem(scope, kind, detail, headers={**SECURITY_HEADERS, **own})
        head = h11.Response(status_code=answer.status_code, headers=answer.raw_headers, reason=HTTPStatus(kind.status).phrase.encode())
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _await_head(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(HEAD_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        answered = self.cycle is None or self.cycle.response_complete  # what still comes is half a head, or a body that nobody reads
        if answered and not self.transport.is_closing():
            self.transport.close()

    def _begin_to_look(self, waiting: int) -> None:
        """Take `waiting` bytes for what a client in time must have less of."""
        self._stuck_at, self._stuck_since = waiting, time.monotonic()
        self._look = self.loop.call_later(TAKING_SECONDS / LOOKS, self._look_at_what_waits)

    def _look_at_what_waits(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting == 0 or self._stuck_at == 0 or waiting <= self._stuck_at - LEAST_BYTES:
            self._begin_to_look(waiting)
        elif time.monotonic() - self._stuck_since >= TAKING_SECONDS:
            self._cut()
        else:
            self._look = self.loop.call_later(TAKING_SECONDS / LOOKS, self._look_at_what_waits)

    def _cut(self) -> None:
        """Forget the client and what waits for it, in the kernel too."""
        if (connection := self.transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


def bounded(most: int) -> type[Protocol]:
    """The protocol of a server that keeps at most so many connections open."""
    return type("BoundedProtocol", (Protocol,), {"most_connections": most})
