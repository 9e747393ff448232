"""Bodies of any size are read."""

from starlette.types import Receive, Scope, Send

SCENARIO = "tests/chaos/test_f16_api.py::test_hostile_bodies_change_nothing_wherever_they_are_posted[sqlite]"


def plant() -> None:
    from service.web.requests import BodyLimitMiddleware

    async def unbounded(self: BodyLimitMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    BodyLimitMiddleware.__call__ = unbounded  # type: ignore[method-assign]
