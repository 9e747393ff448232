"""The streams of events lie outside the guard that asks for the token."""

from starlette.types import Receive, Scope, Send

SCENARIO = "tests/chaos/test_f16_access.py::test_no_route_knows_a_stranger[sqlite]"


def plant() -> None:
    from service.web.auth import TokenMiddleware

    guarded = TokenMiddleware.__call__

    async def open_stream(self: TokenMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/events"):
            await self.app(scope, receive, send)
        else:
            await guarded(self, scope, receive, send)

    TokenMiddleware.__call__ = open_stream  # type: ignore[method-assign]
