"""ASGI middleware: limits of requests in flight and of request rates, compression, read-only mode."""

import gzip
import ipaddress
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.domain.errors import NotADatabase, ReadOnly
from service.web import SAFE_METHODS
from service.web.problems import BUSY, RATE_LIMITED, ProblemError, for_error, problem

LEAST_BYTES = 1024  # below that it is not worth it
LEVEL = 5
LEVEL_ONCE = 6  # for what is kept
ENCODING = "gzip"


class CompressionMiddleware(GZipMiddleware):
    """Compresses what is large enough. Streams of events go out as they are, and so does what is compressed already."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, minimum_size=LEAST_BYTES, compresslevel=LEVEL)


def packed(body: bytes) -> bytes:
    """The body as `Packed` takes it; equal for equal bodies."""
    return gzip.compress(body, LEVEL_ONCE, mtime=0)


class Packed(Response):
    """An answer from a body that `packed` made, for clients that take it compressed and for those that do not."""

    media_type = "application/json"

    def __init__(self, content: bytes, headers: Headers, **options: Any) -> None:
        taken = ENCODING in headers.get("accept-encoding", "")
        super().__init__(content if taken else gzip.decompress(content), **options)
        if taken:
            self.headers["Content-Encoding"] = ENCODING
            self.headers["Vary"] = "Accept-Encoding"  # otherwise the middleware says so


MAX_REQUESTS = 512

T = TypeVar("T")


class ConcurrencyLimitMiddleware:
    """Refuses what exceeds the bound with 503 and Retry-After. Asking whether the process lives is always answered."""

    def __init__(self, app: ASGIApp, limit: int = MAX_REQUESTS) -> None:
        self.app = app
        self.limit = limit
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/livez":
            await self.app(scope, receive, send)
            return
        if self.under_way >= self.limit:
            await problem(scope, BUSY, "Too many requests are under way; try again.")(scope, receive, send)
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
            raise ProblemError(BUSY, "Too many requests wait for the same kind of slow work; try again.")
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)


LOGIN = "/login"
BURST_SECONDS = 2.0  # so many seconds' worth may come at once
THIS_MACHINE = ("local", "::/64")  # a socket without addresses; the network of ::1
MOST_ADDRESSES = 10_000  # are remembered; who was forgotten begins with a full bucket


def client_of(scope: Scope) -> str:
    """Who asks, as far as the connection tells: its address, of IPv6 the network that a home or a machine has to itself."""
    host = (scope.get("client") or ("local", 0))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return str(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def speaks_for_many(client: str) -> bool:
    """Whether others may stand behind the client: a proxy on this machine, through which all come."""
    return client in THIS_MACHINE or client.startswith("127.")


@dataclass(slots=True)
class _Bucket:
    level: float
    filled_at: float


class Buckets:
    """A token bucket for each client address."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self.clock = clock
        self.buckets = OrderedDict[str, _Bucket]()

    def wait(self, client: str) -> float:
        """Take one request from the client's bucket: 0; or the seconds until it holds one."""
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

    It runs behind `access.Tokens`, so that only authenticated requests count. Logins, which need no authentication, have a separate
    limit, and `Tokens` limits the requests that it refuses.
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
            detail = f"One address may change {self.per_second:g} things a second; many trials can be queued in one request."
            await too_fast(scope, detail, seconds)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def too_fast(scope: Scope, detail: str, seconds: float) -> Response:
    """The response 429, with the seconds after which the request can be repeated."""
    return problem(scope, RATE_LIMITED, detail, headers={"Retry-After": str(math.ceil(seconds))})


log = logging.getLogger("thawline.web")

SESSION_PATHS = frozenset({"/login", "/logout"})  # they change a cookie


class ReadOnlyMiddleware:
    """Refuses every request that would change something, whatever its path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or scope["path"] in SESSION_PATHS:
            await self._show(scope, receive, send)
        else:
            await for_error(scope, ReadOnly())(scope, receive, send)

    async def _show(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The file may be anybody's: what fails over a value in it, which we would not have written, is the file's fault and not ours."""
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except Exception:
            log.exception("the database holds what Thawline does not write")
            if begun:
                raise
            foreign = NotADatabase("The database holds values that Thawline does not write; what they belong to cannot be shown.")
            await for_error(scope, foreign)(scope, receive, send)
