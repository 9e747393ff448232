"""How fast one address may change things: a bucket of requests that is refilled at a steady rate."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from service.web.access import SAFE_METHODS
from service.web.problems import RATE_LIMITED, problem

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


class Rates:
    """Refuses what is too fast with 429 and Retry-After. Looking costs nothing; wrong tokens and logins count as changes do."""

    def __init__(self, app: ASGIApp, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self.per_second = per_second
        self.clock = clock
        self.buckets = OrderedDict[str, _Bucket]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or (seconds := self._wait(client_of(scope))) <= 0:
            await self.app(scope, receive, send)
        else:
            detail = f"One address may change {self.per_second:g} things a second; many trials can be queued in one request."
            await problem(scope, RATE_LIMITED, detail, headers={"Retry-After": str(math.ceil(seconds))})(scope, receive, send)

    def _wait(self, client: str) -> float:
        """Take one from the client's bucket: 0; or how long until there is one."""
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
