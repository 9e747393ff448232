"""A receiver of webhooks: a real HTTP server that records requests and answers as a test wants."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    answer: Answer
    port: int = 0
    closed: bool = False  # it answers 503, and records nothing
    requests: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/secret-path"

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.requests]

    def wait_for(self, count: int, seconds: float = 60) -> list[Received]:
        """The requests once there are so many different events."""
        wait_until(lambda: len(set(self.ids)) >= count, seconds)
        return self.requests

    def wait_for_requests(self, count: int) -> None:
        """Return after so many further requests."""
        last = len(self.requests) + count
        wait_until(lambda: len(self.requests) >= last)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not become true in time"
        time.sleep(0.02)


def with_status(status: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@contextmanager
def receiving(answer: Answer | None = None, context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a free port of the loopback address; `answer` is called for each request, after it was recorded."""
    receiver = Receiver(answer or with_status(204))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if receiver.closed:
                with_status(503)(self)
                return
            receiver.requests.append(Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            receiver.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
