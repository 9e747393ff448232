"""A bound on the requests under way, so that a crowd is told to wait instead of slowing everyone down."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.web.problems import BUSY, problem

MAX_REQUESTS = 512


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
