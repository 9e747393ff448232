"""The server process: uvicorn with limits on connections and slow clients, and its startup and shutdown."""

import asyncio
import contextlib
import ipaddress
import logging
import resource
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from types import FrameType
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.domain.errors import StoreUnavailable, ThawlineError
from service.settings import Settings
from service.store import Store, open_store
from service.store.migrate import require, upgrade
from service.timing import Backoff
from service.web.middleware import SECURITY_HEADERS
from service.web.problems import BUSY, MALFORMED_REQUEST, ProblemKind, problem, request_id

if TYPE_CHECKING:
    from service.web.events import Streams

MAX_CONNECTIONS = 1024  # fewer if the process may open only few files: see `most_connections`
HEAD_SECONDS = 20.0  # for a request line and its headers to arrive
TAKING_SECONDS = 24.0  # for a client to read `LEAST_BYTES` of the write buffer
LEAST_BYTES = 16 * 1024
LOOKS = 8  # checks of the write buffer in `TAKING_SECONDS`
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with a timeout of 0: closing the socket sends RST and discards unsent data


class Protocol(H11Protocol):
    """Closes connections whose next request head does not arrive in time, and aborts those whose client does not read its responses.

    uvicorn has no timeout for either. Without the abort, a closing connection stays open until its client has read the last bytes.
    """

    most_connections = MAX_CONNECTIONS
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()
        self._watch_writes(0)
        if len(self.connections) > self.most_connections:
            self._answer_and_close(BUSY, "Too many connections are open; try again.")

    def on_response_complete(self) -> None:
        self._await_head()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        self._stuck_at, self._stuck_since = 0, time.monotonic()  # the client has read most of the buffer
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._answer_and_close(MALFORMED_REQUEST, "The request does not follow HTTP/1.1.")

    def _answer_and_close(self, kind: ProblemKind, detail: str) -> None:
        """Send a problem without a request, so that no middleware runs, and close the connection."""
        scope: Scope = {"type": "http", "path": ""}
        own = {"X-Request-ID": request_id(scope), "Cache-Control": "no-store", "Connection": "close"}
        answer = problem(scope, kind, detail, headers={**SECURITY_HEADERS, **own})
        head = h11.Response(status_code=answer.status_code, headers=answer.raw_headers, reason=HTTPStatus(kind.status).phrase.encode())
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _await_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._on_head_timeout)

    def _on_head_timeout(self) -> None:
        # With no response in progress, bytes that still arrive belong to an incomplete head, or to a body that no endpoint reads.
        answered = self.cycle is None or self.cycle.response_complete
        if answered and not self.transport.is_closing():
            self.transport.close()

    def _watch_writes(self, buffered: int) -> None:
        """Restart the write timeout: the buffer must shrink by `LEAST_BYTES` from `buffered`, or become empty, in `TAKING_SECONDS`."""
        self._stuck_at, self._stuck_since = buffered, time.monotonic()
        self._write_timer = self.loop.call_later(TAKING_SECONDS / LOOKS, self._check_writes)

    def _check_writes(self) -> None:
        buffered = self.transport.get_write_buffer_size()
        if buffered == 0 or self._stuck_at == 0 or buffered <= self._stuck_at - LEAST_BYTES:
            self._watch_writes(buffered)
        elif time.monotonic() - self._stuck_since >= TAKING_SECONDS:
            self._cut()
        else:
            self._write_timer = self.loop.call_later(TAKING_SECONDS / LOOKS, self._check_writes)

    def _cut(self) -> None:
        """Abort the connection and discard its unsent data, in the kernel's buffer as well."""
        if (connection := self.transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


def bounded(most: int) -> type[Protocol]:
    """A protocol type that allows at most `most` open connections."""
    return type("BoundedProtocol", (Protocol,), {"most_connections": most})


log = logging.getLogger("thawline.web")

GRACE_SECONDS = 5  # for requests in progress at shutdown
KEEP_ALIVE_SECONDS = 15
MAX_HEAD_BYTES = 32 * 1024
BACKLOG = 256
# File descriptors that are not available to connections: one batch of accepted connections, the database, logs, temporary files.
OTHER_FILES = BACKLOG + 100
LEAST_CONNECTIONS = 16
DEAD_PEER_MILLISECONDS = 30_000  # TCP_USER_TIMEOUT: limit for unacknowledged data, after which the kernel closes the connection
RETRY = (0.5, 10.0)  # minimum and maximum seconds between attempts to reach the database at startup
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TokenRequired(ThawlineError):
    """The server would accept connections from other machines without authentication."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} can be reached from other machines; set THAW_TOKEN (16 characters or more), or bind to 127.0.0.1.")


class AddressUnavailable(ThawlineError):
    """The address cannot be bound."""

    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(f"Cannot listen on {host}, port {port}: {why}. Choose another port, or end the program that uses it.")


def announce(address: str) -> None:
    """Print the server's URL to standard error."""
    sys.stderr.write(f"Thawline is at {address}\n")


def serve(
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    stop: threading.Event | None = None,
    bound: Callable[[], None] = lambda: None,
    ready: Callable[[str], None] = announce,
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`. Port 0 selects a free port.

    `bound` is called once the address is bound and the schema is up to date; `ready` is called with the server's URL once requests are
    answered. An unavailable database is waited for, since services of a machine start in any order.
    Raises TokenRequired before anything is changed, AddressUnavailable, SchemaTooNew, InvalidInput.
    """
    require_token(host, settings.token)
    stop = stop or threading.Event()
    with _listening(host, port) as listener, closing(open_store(settings.database_url)) as store:
        if not _upgraded(settings.database_url, stop):
            return
        bound()
        _run(store, _answering_to(host, settings), listener, stop, lambda: ready(_address(host, listener, settings.root_path)))


def show(settings: Settings, host: str = "127.0.0.1", port: int = 8000, *, ready: Callable[[str], None] = announce) -> None:
    """Serve the pages on a database that is opened read-only, until SIGTERM or SIGINT. Another server can write to it at the same time.

    Raises TokenRequired, AddressUnavailable, NotADatabase, SchemaTooOld, SchemaTooNew, StoreUnavailable, InvalidInput.
    """
    require_token(host, settings.token)
    with _listening(host, port) as listener, closing(open_store(settings.database_url, read_only=True)) as store:
        require(store)
        _run(store, _answering_to(host, settings), listener, threading.Event(), lambda: ready(_address(host, listener, settings.root_path)))


def _run(store: Store, settings: Settings, listener: socket.socket, stop: threading.Event, ready: Callable[[], None]) -> None:
    from service.web.app import create_app  # takes about a second; imported here to run in parallel with workers started by `bound`

    app = create_app(store, settings)
    config = uvicorn.Config(
        app, http=bounded(most_connections()),
        ws="none", lifespan="on", log_config=None, access_log=False, proxy_headers=False, server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES, backlog=BACKLOG,
    )  # fmt: skip
    _Server(config, app.state.streams, stop, ready).run(sockets=[listener])


def most_connections() -> int:
    """Raise the limit on open files to the hard limit; return the number of connections that it allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # if the system refuses, the soft limit stays unchanged
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(LEAST_CONNECTIONS, soft - OTHER_FILES))


def _log_accept_errors_once(loop: asyncio.AbstractEventLoop) -> None:
    """Log only the first failed accept: without free file descriptors, asyncio reports hundreds of failures a second."""
    logged = False

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal logged
        if not str(context.get("message", "")).startswith("socket.accept()"):
            loop.default_exception_handler(context)
        elif not logged:
            logged = True
            log.error("connections cannot be accepted (%s); this is logged once", context.get("exception"))

    loop.set_exception_handler(handle)


def require_token(host: str, token: str | None) -> None:
    """Raises TokenRequired if the address is not a loopback address and no token is set."""
    if token is None and not _is_loopback(host):
        raise TokenRequired(host)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a host name can resolve to any address


def _answering_to(host: str, settings: Settings) -> Settings:
    """Settings that allow `host` as host name. An IP address need not be added: HostMiddleware accepts the connection's address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return settings.model_copy(update={"hosts": (*settings.hosts, host)})
    return settings


class _Server(uvicorn.Server):
    """A uvicorn server that ends event streams at shutdown, and does not raise the captured signals again afterwards."""

    def __init__(self, config: uvicorn.Config, streams: "Streams", stop: threading.Event, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._streams = streams
        self._stop = stop
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        _log_accept_errors_once(asyncio.get_running_loop())
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        if self._stop.is_set():
            self._shut_down()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self._shut_down()

    def _shut_down(self) -> None:
        self.should_exit = True
        self._streams.stopping.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _upgraded(database_url: str, stop: threading.Event) -> bool:
    """Upgrade the schema, with retries while the database is unavailable. False if `stop` is set first.

    Raises SchemaTooNew, InvalidInput.
    """
    for number in Backoff(*RETRY).tries(stop):
        try:
            upgrade(database_url)
            return True
        except StoreUnavailable:
            if number == 1:
                sys.stderr.write("The database does not answer; waiting for it.\n")
    return False


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressUnavailable(host, port, error.strerror or "no such address") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MILLISECONDS)
        try:
            listener.bind(address)
        except OSError as error:
            raise AddressUnavailable(host, port, error.strerror or "it cannot be bound") from None
        yield listener


def _address(host: str, listener: socket.socket, root_path: str) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}{root_path}"
