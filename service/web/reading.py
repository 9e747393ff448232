"""A server that only shows: the middleware that lets through what changes nothing, and logging in."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.domain.errors import ReadOnly as NothingChanges
from service.web.access import SAFE_METHODS
from service.web.problems import for_error

SESSION_PATHS = frozenset({"/login", "/logout"})  # they change a cookie


class ReadOnly:
    """Refuses every request that would change something, whatever its path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or scope["path"] in SESSION_PATHS:
            await self.app(scope, receive, send)
        else:
            await for_error(scope, NothingChanges())(scope, receive, send)
