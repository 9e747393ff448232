"""A server whose connections break: of each request that may change something, the first try is lost before it is read, and the answer
to the second one after everything was committed. The third goes through.
"""

from collections import Counter
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from tests.chaos.history import note

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def install() -> None:
    tries = Counter[tuple[Any, ...]]()
    run = RequestResponseCycle.run_asgi

    async def losing(self: RequestResponseCycle, app: ASGI3Application) -> None:
        scope = self.scope
        key = dict(scope["headers"]).get(b"idempotency-key", b"")
        request = (scope["method"], scope["path"], key)
        tries[request] += 1
        if scope["method"] in SAFE or tries[request] > 2:
            await run(self, app)
            return
        if tries[request] == 2:
            await app(scope, self.receive, _swallow)
        note("request lost" if tries[request] == 1 else "answer lost", method=scope["method"], path=scope["path"])
        self.transport.abort()

    RequestResponseCycle.run_asgi = losing  # type: ignore[method-assign]


async def _swallow(_message: object) -> None:
    """The answer, on its way to nobody."""
