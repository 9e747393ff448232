"""One look serves all open streams: what many viewers cost, and what they learn."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager

import pytest
from sqlalchemy import event
from starlette.types import Message

from service import operations
from service.domain.errors import StoreUnavailable
from service.settings import Settings
from service.store import Store, queries
from service.web import events
from service.web.app import create_app
from service.web.events import LOOK_SECONDS, EventNotifier, Streams
from tests.web.laboratory import HERE, Laboratory

PATIENCE_SECONDS = 120


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """What is asked of the store inside the block."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT"):
            asked.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


@pytest.fixture
def streams(store: Store) -> Iterator[Streams]:
    found = Streams(store)
    yield found
    found.stopping.set()


class Viewer:
    """A stream that is read as it comes."""

    def __init__(self, streams: Streams, study: str, cursor: int) -> None:
        self.reported = b""
        self.frames = events._frames(streams.store, study, cursor, streams)

    async def read(self) -> None:
        async for frame in self.frames:
            self.reported += frame


@asynccontextmanager
async def viewers(streams: Streams, study: str, cursor: int, count: int) -> AsyncIterator[list[Viewer]]:
    """So many streams that are open, each of which has read all that there is."""
    found = [Viewer(streams, study, cursor) for _ in range(count)]
    async with AsyncExitStack() as stack:
        for one in found:
            await stack.enter_async_context(aclosing(one.frames))
        reading = [asyncio.create_task(one.read()) for one in found]
        await until(lambda: streams.following.watches == count)
        asked = ["FROM event"]
        while any("FROM event" in one for one in asked):  # a stream reads the events that it missed once more after it began to watch
            with statements(streams.store) as asked:
                await looks(streams.following, 3)
        yield found
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


async def looks(one: EventNotifier, count: int) -> int:
    """Wait for at least so many looks; how many there were."""
    seen = list[None]()
    look = one.look

    def counted() -> None:
        look()
        seen.append(None)

    one.look = counted  # type: ignore[method-assign]
    await until(lambda: len(seen) >= count)
    one.look = look  # type: ignore[method-assign]
    return len(seen)


@pytest.mark.parametrize("count", [1, 50])
def test_fifty_viewers_of_an_idle_study_cost_what_one_costs(lab: Laboratory, streams: Streams, count: int) -> None:
    study = lab.study()

    async def watch() -> tuple[int, list[str]]:
        async with viewers(streams, study.id, study.seq, count):
            with statements(streams.store) as asked:
                made = await looks(streams.following, 5)
            return made, asked

    made, asked = asyncio.run(watch())
    assert made - 1 <= len(asked) <= made + 2, "one statement for each look; a look may begin before the count or end after it"
    assert len(set(asked)) == 1 and "FROM study" in asked[0]
    assert streams.following.watches == 0


def test_what_viewers_at_one_place_are_told_is_read_once(lab: Laboratory, streams: Streams) -> None:
    study = lab.study()

    async def watch() -> tuple[list[bytes], list[str]]:
        async with viewers(streams, study.id, study.seq, 20) as found:
            with statements(streams.store) as asked:
                operations.pause_study(lab.store, study.id)
                await until(lambda: all(b"event: study_paused" in one.reported for one in found))
            return [one.reported for one in found], asked

    reported, asked = asyncio.run(watch())
    assert len(set(reported)) == 1 and reported[0].count(b"event:") == 1
    assert sum("FROM event" in one for one in asked) == 1


def test_nothing_is_asked_while_no_stream_is_open(lab: Laboratory, streams: Streams) -> None:
    study = lab.study()

    async def watch() -> None:
        async with viewers(streams, study.id, study.seq, 2):
            pass

    for _ in range(2):  # it begins anew
        asyncio.run(watch())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while streams.following._thread is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert streams.following.watches == 0 and not streams.following.last_events
        with statements(streams.store) as asked:
            time.sleep(3 * LOOK_SECONDS)
        assert asked == []


def test_each_viewer_is_told_of_its_own_study_and_of_its_end(lab: Laboratory, streams: Streams) -> None:
    one, other = lab.study("one"), lab.study("other")

    async def watch() -> tuple[bytes, bytes]:
        async with viewers(streams, one.id, one.seq, 1) as (first,), viewers_of_another(streams, other.id, other.seq) as second:
            operations.pause_study(lab.store, one.id)
            await until(lambda: b"study_paused" in first.reported)
            operations.delete_study(lab.store, other.id)
            await until(lambda: b"event: end" in second.reported)
            return first.reported, second.reported

    first, second = asyncio.run(watch())
    assert b"event: end" not in first and b"study_paused" not in second


@asynccontextmanager
async def viewers_of_another(streams: Streams, study: str, cursor: int) -> AsyncIterator[Viewer]:
    viewer = Viewer(streams, study, cursor)
    async with aclosing(viewer.frames):
        reading = asyncio.create_task(viewer.read())
        await until(lambda: study in streams.following.last_events)
        yield viewer
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def test_streams_outlive_an_outage_and_miss_nothing(lab: Laboratory, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    study = lab.study()
    down = threading.Event()
    for name in ("last_events", "events_after"):
        query = getattr(queries, name)

        def asked(*args: object, query: Callable[..., object] = query) -> object:
            if down.is_set():
                raise StoreUnavailable("no answer")
            return query(*args)

        monkeypatch.setattr(queries, name, asked)

    async def watch() -> bytes:
        async with viewers(streams, study.id, study.seq, 1) as (viewer,):
            down.set()
            operations.pause_study(lab.store, study.id)
            await asyncio.sleep(3 * LOOK_SECONDS)
            down.clear()
            operations.stop_study(lab.store, study.id)
            await until(lambda: b"event: end" in viewer.reported)
            return viewer.reported

    reported = asyncio.run(watch())
    assert [line for line in reported.decode().splitlines() if line.startswith("event:")] == [
        "event: study_paused",
        "event: study_stopped",
        "event: end",
    ]


def test_a_look_that_fails_is_told_and_tried_again(
    lab: Laboratory, streams: Streams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study, last_events, failures = lab.study(), queries.last_events, [ZeroDivisionError()]

    def asked(*args: object) -> object:
        if failures:
            raise failures.pop()
        return last_events(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(queries, "last_events", asked)

    async def watch() -> None:
        async with viewers(streams, study.id, study.seq, 1) as (viewer,):
            operations.pause_study(lab.store, study.id)
            await until(lambda: b"study_paused" in viewer.reported)

    asyncio.run(watch())
    assert "polling for new events failed" in caplog.text


def test_a_read_that_hangs_keeps_no_stream_silent(lab: Laboratory, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    study, read, goes_on = lab.study(), events._read, threading.Event()

    def hanging(*args: object) -> object:
        goes_on.wait(PATIENCE_SECONDS)
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 2.2 * events.POLL_SECONDS)

    async def watch() -> bytes:
        async with viewers(streams, study.id, study.seq, 1) as (viewer,):
            monkeypatch.setattr(events, "_read", hanging)
            viewer.reported = b""
            operations.pause_study(lab.store, study.id)
            await until(lambda: viewer.reported.count(events.KEEP_ALIVE) >= 3)
            goes_on.set()
            await until(lambda: b"study_paused" in viewer.reported)
            return viewer.reported

    assert asyncio.run(watch()).endswith(b"\n\n")


def test_a_client_that_goes_takes_its_watch_with_it(lab: Laboratory, store: Store, settings: Settings) -> None:
    app, reported = create_app(store, settings), list[bytes]()
    streams: Streams = app.state.streams
    path, host = f"/api/v1/studies/{lab.study().id}/events", HERE.removeprefix("http://")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": "GET", "path": path, "root_path": "",
        "query_string": b"", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "headers": [(b"host", host.encode())],
    }  # fmt: skip
    most = 0

    async def visit() -> None:
        body = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Message:
            if (message := next(body, None)) is not None:
                return message
            await until(lambda: b"study_checked" in b"".join(reported))
            nonlocal most
            most = streams.following.watches
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            reported.append(message.get("body", b""))

        await app(scope, receive, send)

    asyncio.run(visit())
    assert most == 1 and streams.following.watches == 0 and streams.open == 0
