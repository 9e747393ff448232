"""A stream begins with what happens from now on, as one that is fed from memory does."""

from collections.abc import AsyncGenerator

SCENARIO = "tests/chaos/test_f05_sse.py -k 'follower and sqlite'"


def plant() -> None:
    from service.store import Store, queries
    from service.web import events
    from service.web.events import Streams

    frames = events._frames

    def from_now(store: Store, study: str, cursor: int, streams: Streams) -> AsyncGenerator[bytes]:
        return frames(store, study, store.read(queries.find_study, study).seq, streams)

    events._frames = from_now
