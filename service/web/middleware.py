"""ASGI middleware: security headers, path prefix, HEAD, compressed bodies, limits on concurrent requests and on rates, read-only mode."""

import gzip
import ipaddress
import json
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import anyio
import anyio.to_thread
from anyio import CapacityLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.domain.errors import NotADatabase, ReadOnly
from service.web import SAFE_METHODS
from service.web.problems import BUSY, MALFORMED_REQUEST, RATE_LIMITED, ProblemError, for_error, problem, request_id

log = logging.getLogger("thawline.web")

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeadersMiddleware:
    """The outermost middleware: adds a request id and the security headers to each response, and answers crashes with a problem.

    A request with both Content-Length and Transfer-Encoding is refused and its connection closed. A proxy in front may evaluate the
    other header, and part of the body would then be parsed as a second request (request smuggling; RFC 9112, section 6.1).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _complete(MutableHeaders(scope=message), request_id(scope))
            await send(message)

        try:
            if _has_two_lengths(Headers(scope=scope)):
                detail = "The request has both Content-Length and Transfer-Encoding; send only one of them."
                await problem(scope, MALFORMED_REQUEST, detail, headers={"Connection": "close"})(scope, receive, guarded)
            else:
                await self.app(scope, receive, guarded)
        except Exception as error:
            _log_crash(scope, error)
            if started:
                raise
            await for_error(scope, error)(scope, receive, guarded)


def _has_two_lengths(headers: Headers) -> bool:
    return "transfer-encoding" in headers and "content-length" in headers


def _complete(headers: MutableHeaders, identity: str) -> None:
    headers["X-Request-ID"] = identity
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")


def _log_crash(scope: Scope, error: Exception) -> None:
    """Log the exception's type and stack frames as one line of JSON. The request's content is never logged."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    log.error(json.dumps({"event": "crash", "request_id": request_id(scope), "error": type(error).__name__, "frames": frames[-8:]}))


class PrefixMiddleware:
    """Serves the app below `root_path`, whether or not the proxy in front strips that prefix.

    The app receives paths without the prefix; the prefix is added to `Location` headers. Settings refuse a prefix that is also the
    beginning of one of the app's paths.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path
        self.decoded = unquote(root_path)  # `scope["path"]` is decoded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.root_path:
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["root_path"] = self.root_path
        path: str = scope["path"]
        if path == self.decoded or path.startswith(f"{self.decoded}/"):
            path = path[len(self.decoded) :] or "/"
        stripped = {**scope, "path": path, "raw_path": quote(path).encode()}

        async def send_with_prefix(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("location", "").startswith("/"):
                    headers["location"] = self.root_path + headers["location"]
            await send(message)

        await self.app(stripped, receive, send_with_prefix)


class HeadMiddleware:
    """Answers HEAD with the status and headers of GET. A stream is cancelled once its headers are sent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})  # shared with the copied scope
        with anyio.CancelScope() as response:

            async def send_headers_only(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await send(message)
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    response.cancel()

            await self.app({**scope, "method": "GET"}, receive, send_headers_only)


LEVEL = 6  # for cached bodies, which are compressed once
ENCODING = "gzip"


def packed(body: bytes) -> bytes:
    """Compress a body for `Packed`. The result is deterministic: `mtime` is fixed."""
    return gzip.compress(body, LEVEL, mtime=0)


class Packed(Response):
    """A response with a body from `packed`; decompressed for clients that do not accept gzip."""

    media_type = "application/json"

    def __init__(self, content: bytes, headers: Headers, **options: Any) -> None:
        accepted = ENCODING in headers.get("accept-encoding", "")
        super().__init__(content if accepted else gzip.decompress(content), **options)
        if accepted:
            self.headers["Content-Encoding"] = ENCODING
            self.headers["Vary"] = "Accept-Encoding"  # without Content-Encoding, GZipMiddleware adds it


MAX_REQUESTS = 512

T = TypeVar("T")


class ConcurrencyLimitMiddleware:
    """Refuses requests above `limit` concurrent ones with 503 and Retry-After. `/livez` is not limited."""

    def __init__(self, app: ASGIApp, limit: int = MAX_REQUESTS) -> None:
        self.app = app
        self.limit = limit
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/livez":
            await self.app(scope, receive, send)
            return
        if self.under_way >= self.limit:
            await problem(scope, BUSY, "Too many concurrent requests; try again.")(scope, receive, send)
            return
        self.under_way += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.under_way -= 1


class SlowWork:
    """Runs slow work in a separate, small thread pool, so that waiting for it does not occupy the threads of other requests."""

    def __init__(self, threads: int, most_waiting: int) -> None:
        self._limiter = CapacityLimiter(threads)
        self._most_waiting = most_waiting

    async def run(self, work: Callable[[], T]) -> T:
        """Returns the result of `work`. Raises its exception, and ProblemError (503 with Retry-After) when too many calls wait."""
        if self._limiter.statistics().tasks_waiting >= self._most_waiting:
            raise ProblemError(BUSY, "Too many requests of this kind are waiting; try again.")
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)


LOGIN = "/login"
BURST_SECONDS = 2.0  # the capacity of a bucket, as seconds of its refill rate
THIS_MACHINE = ("local", "::/64")  # a socket without addresses; the network of ::1
MOST_ADDRESSES = 10_000  # kept, least recently used evicted first; an evicted address starts again with a full bucket


def client_of(scope: Scope) -> str:
    """The client's address, as the key for limits. For IPv6 the /64 network, since one client usually has a whole /64."""
    host = (scope.get("client") or ("local", 0))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return str(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def speaks_for_many(client: str) -> bool:
    """Whether the address can stand for many clients: a loopback address may be a reverse proxy on this machine."""
    return client in THIS_MACHINE or client.startswith("127.")


@dataclass(slots=True)
class _Bucket:
    level: float
    filled_at: float


class Buckets:
    """Token buckets, one for each client address, refilled at `per_second`."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self.clock = clock
        self.buckets = OrderedDict[str, _Bucket]()

    def wait(self, client: str) -> float:
        """Take one token and return 0; if the bucket is empty, return the seconds until it has a token."""
        now, full = self.clock(), self.per_second * BURST_SECONDS
        bucket = self.buckets.setdefault(client, _Bucket(full, now))
        self.buckets.move_to_end(client)
        if len(self.buckets) > MOST_ADDRESSES:
            self.buckets.popitem(last=False)
        bucket.level = min(full, bucket.level + (now - bucket.filled_at) * self.per_second)
        bucket.filled_at = now
        if bucket.level < 1:
            return (1 - bucket.level) / self.per_second
        bucket.level -= 1
        return 0.0


class RateLimitMiddleware:
    """Refuses changes above the rate with 429 and Retry-After. Safe methods are not limited.

    It runs behind `TokenMiddleware`, so that only authenticated requests count. Logins, which need no authentication, have a separate
    limit, and `TokenMiddleware` limits the requests that it refuses.
    """

    def __init__(self, app: ASGIApp, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self.per_second = per_second
        self.changes = Buckets(per_second, clock)
        self.logins = Buckets(per_second, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        buckets = self.logins if scope["path"] == LOGIN else self.changes
        if (seconds := buckets.wait(client_of(scope))) > 0:
            detail = f"One address may send {self.per_second:g} changes a second; one request can queue many trials."
            await too_fast(scope, detail, seconds)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def too_fast(scope: Scope, detail: str, seconds: float) -> Response:
    """A 429 response with Retry-After."""
    return problem(scope, RATE_LIMITED, detail, headers={"Retry-After": str(math.ceil(seconds))})


SESSION_PATHS = frozenset({"/login", "/logout"})  # they change only a cookie


class ReadOnlyMiddleware:
    """Refuses requests with unsafe methods, except login and logout, and handles databases with foreign content."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or scope["path"] in SESSION_PATHS:
            await self._read(scope, receive, send)
        else:
            await for_error(scope, ReadOnly())(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an unexpected exception with `not-a-database`: a read-only database can be any file, with values that cannot be parsed."""
        started = False

        async def track_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, track_start)
        except Exception:
            log.exception("the database contains values that Thawline does not write")
            if started:
                raise
            foreign = NotADatabase("The database contains values that Thawline does not write; this part of it cannot be shown.")
            await for_error(scope, foreign)(scope, receive, send)
