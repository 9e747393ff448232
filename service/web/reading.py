"""A server that only shows: the middleware that lets through what changes nothing, and logging in."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.domain.errors import NotADatabase
from service.domain.errors import ReadOnly as NothingChanges
from service.web import SAFE_METHODS
from service.web.problems import for_error

log = logging.getLogger("thawline.web")

SESSION_PATHS = frozenset({"/login", "/logout"})  # they change a cookie


class ReadOnly:
    """Refuses every request that would change something, whatever its path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or scope["path"] in SESSION_PATHS:
            await self._show(scope, receive, send)
        else:
            await for_error(scope, NothingChanges())(scope, receive, send)

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
