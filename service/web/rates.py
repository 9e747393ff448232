"""Rate limits for each client address, as token buckets: changes, logins, and refused requests."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.web import SAFE_METHODS
from service.web.problems import RATE_LIMITED, problem

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


class Rates:
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
