"""HTTP/1.1 on one connection: uvicorn's, with problems for what is not HTTP, and no patience for heads that never end."""

import asyncio

import h11
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.web.access import SECURITY_HEADERS
from service.web.problems import MALFORMED_REQUEST, problem

HEAD_SECONDS = 20.0  # for a request line and its headers to arrive


class Protocol(H11Protocol):
    """A connection is closed when the head of its next request does not arrive in time."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def on_response_complete(self) -> None:
        self._await_head()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        scope: Scope = {"type": "http", "path": ""}
        answer = problem(
            scope, MALFORMED_REQUEST, "The request does not follow HTTP/1.1.", headers={**SECURITY_HEADERS, "Connection": "close"}
        )
        head = h11.Response(status_code=answer.status_code, headers=answer.raw_headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _await_head(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(HEAD_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
