"""Each client of a stream has a queue of its own, which takes a copy of all that there is to tell."""

import asyncio
from collections.abc import AsyncGenerator

SCENARIO = "tests/chaos/test_f13_slow.py -k 'slow_clients and sqlite'"


def plant() -> None:
    from service.store import Store
    from service.web import events
    from service.web.events import Streams

    frames = events._frames

    async def hoarding(store: Store, study: str, cursor: int, streams: Streams) -> AsyncGenerator[bytes]:
        queue = asyncio.Queue[bytes]()

        async def fill() -> None:
            async for frame in frames(store, study, cursor, streams):
                queue.put_nowait(bytes(bytearray(frame)))

        filling = asyncio.create_task(fill())
        try:
            while not (filling.done() and queue.empty()):
                yield await queue.get()
        finally:
            filling.cancel()

    events._frames = hoarding
