"""Bounds on the requests under way, so that a crowd is told to wait instead of slowing everyone down."""

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from service.web.problems import BUSY, ProblemError, problem

MAX_REQUESTS = 512

T = TypeVar("T")


class Crowd:
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
