"""A study's events as Server-Sent Events, read from the event table in batches.

Nothing is queued for a client: each stream has a cursor and reads the events after it. So no event is lost, and a slow client delays
only its own stream. One thread polls for new events on behalf of all streams.
"""

import asyncio
import json
import logging
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, cast

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from search_spaces import Fault
from search_spaces.documents import finite
from service.domain.errors import InvalidInput, StoreUnavailable, StudyNotFound, StudyUnreadable
from service.domain.records import Event, Study
from service.single_flight import SingleFlightCache
from service.store import Store, queries
from service.store.queries import LastEvent
from service.web import API
from service.web.dependencies import FoundStudy, TheStore
from service.web.middleware import client_of, speaks_for_many
from service.web.problems import TOO_MANY_OWN_STREAMS, TOO_MANY_STREAMS, ProblemError

log = logging.getLogger("thawline.web")

LOOK_SECONDS = 0.1  # between two polls of the database
OUTAGE_SECONDS = 0.5  # additional delay after a failed poll
DELETED = LastEvent(0, ended=True)


class Subscription:
    """A stream's subscription to one study. It is bound to the event loop in which it was created."""

    def __init__(self, notifier: "EventNotifier", study: str) -> None:
        self._notifier = notifier
        self._study = study
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    def has_news(self, cursor: int) -> bool:
        """Whether the last poll found events after `cursor`, or found the study ended or deleted."""
        last = self._notifier.last_events.get(self._study)
        return last is not None and (last.ended or last.seq > cursor)

    async def wait(self, seconds: float) -> None:
        """Return when the study changes, at once if it has changed since the last call, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()

    def wake(self) -> None:
        """End `wait`. Safe to call from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # the loop has closed, and the stream with it
            return


class EventNotifier:
    """Polls the database for new events of the studies with subscriptions, in a thread that runs while there are any.

    One query serves all studies, so the load on the database does not grow with the number of streams.
    """

    def __init__(self, store: Store, stopping: threading.Event) -> None:
        self.last_events: dict[str, LastEvent] = {}  # by study with subscriptions, from the first poll on
        self._store = store
        self._stopping = stopping
        self._lock = threading.Lock()
        self._watches: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._thread: threading.Thread | None = None

    @property
    def watches(self) -> int:
        """The number of subscriptions."""
        with self._lock:
            return sum(map(len, self._watches.values()))

    @contextmanager
    def watching(self, study: str) -> Iterator[Subscription]:
        """Subscribe to a study. Must be called in a running event loop."""
        subscription = Subscription(self, study)
        with self._lock:
            self._watches[study].add(subscription)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="following", daemon=True)
                self._thread.start()
        try:
            yield subscription
        finally:
            with self._lock:
                self._watches[study].discard(subscription)
                if not self._watches[study]:
                    del self._watches[study]
                    self.last_events.pop(study, None)

    def look(self) -> None:
        """Poll once: read the last events of all studies, and wake the subscriptions of those that changed. Raises StoreUnavailable."""
        with self._lock:
            studies = list(self._watches)
        found = self._store.read(queries.last_events, studies)
        with self._lock:
            for study in self._watches.keys() & studies:
                last = found.get(study, DELETED)
                if self.last_events.get(study) != last:
                    self.last_events[study] = last
                    self._wake(study)

    def _wake(self, study: str) -> None:
        for subscription in self._watches[study]:
            subscription.wake()

    def _run(self) -> None:
        while not self._is_over():
            try:
                self.look()
            except StoreUnavailable:  # streams stay open during an outage
                self._stopping.wait(OUTAGE_SECONDS)
            except Exception:
                log.exception("polling for new events failed")
                self._stopping.wait(OUTAGE_SECONDS)
            self._stopping.wait(LOOK_SECONDS)

    def _is_over(self) -> bool:
        """Whether the thread must end: no subscription is left, or the process is stopping. The next subscription starts a new thread."""
        # Under the lock, so that `watching` cannot add a subscription between the check and `_thread = None`: no thread would serve it.
        with self._lock:
            if self._watches and not self._stopping.is_set():
                return False
            for study in self._watches:
                self._wake(study)
            self._thread = None
            return True


MAX_STREAMS = 128
MAX_STREAMS_OF_ONE = 64  # of one address on another machine, so that one client cannot use up `MAX_STREAMS`
READERS = 4  # threads that read for all streams; other requests keep their own thread pool
BATCH_BYTES = 32 * 1024  # a batch ends with the event that reaches this size
MOST_SHARED_BYTES = 64 * BATCH_BYTES


@dataclass(frozen=True, slots=True)
class Batch:
    """The encoded events after a cursor."""

    frames: bytes
    cursor: int  # sequence number of the last event in `frames`
    ended: bool = False  # whether no event can follow
    next_limit: int = 0  # number of events for the next read


Batches = SingleFlightCache[tuple[str, int, int], Batch]
"""Batches by study, cursor and limit, so that streams at the same place share one read."""


def shared_batches() -> Batches:
    """A cache of the latest batches. Entries never become stale: events are immutable, and none is inserted before an existing one."""
    return Batches(MOST_SHARED_BYTES, lambda batch: len(batch.frames))


@dataclass(slots=True)
class Streams:
    """The open event streams of this process, and their limits. All streams end when `stopping` is set."""

    store: Store
    limit: int = MAX_STREAMS
    limit_of_one: int = MAX_STREAMS_OF_ONE
    open: int = 0
    open_by: Counter[str] = field(default_factory=Counter)
    stopping: threading.Event = field(default_factory=threading.Event)
    readers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(READERS))
    batches: Batches = field(default_factory=shared_batches)
    following: EventNotifier = field(init=False)

    def __post_init__(self) -> None:
        self.following = EventNotifier(self.store, self.stopping)

    def require_room(self, client: str) -> None:
        """Raises ProblemError if this process, or this client, has too many open streams."""
        if self.open >= self.limit:
            raise ProblemError(TOO_MANY_STREAMS, f"This server allows at most {self.limit} open streams; close one or wait.")
        if self.open_by[client] >= self.limit_of_one and not speaks_for_many(client):
            raise ProblemError(TOO_MANY_OWN_STREAMS, f"One address may open {self.limit_of_one} streams; close one or wait.")

    @contextmanager
    def one_of(self, client: str) -> Iterator[None]:
        """Count a stream of this client while it is open."""
        self.open += 1
        self.open_by[client] += 1
        try:
            yield
        finally:
            self.open -= 1
            self.open_by[client] -= 1
            if not self.open_by[client]:
                del self.open_by[client]


def streams_of(request: Request) -> Streams:
    """The open streams of this process."""
    return cast(Streams, request.app.state.streams)


TheStreams = Annotated[Streams, Depends(streams_of)]


BATCH = 100  # events per read
POLL_SECONDS = 0.5  # between two checks whether the server is stopping, and between retries while the database is unavailable
KEEP_ALIVE_SECONDS = 15.0
RETRY = b"retry: 2000\n\n"  # milliseconds
KEEP_ALIVE = b": still here\n\n"
SEQUENCE = re.compile(r"[0-9]{1,15}\Z")
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

router = APIRouter(prefix=API, tags=["studies"])


def cursor_of(
    study: FoundStudy,
    after: Annotated[str | None, Query(description="send only events after this sequence number", examples=["0"])] = None,
    last_event_id: Annotated[
        str | None, Header(description="id of the last event received, sent by EventSource on reconnection; overrides ?after=")
    ] = None,
) -> int:
    """The sequence number after which the stream starts. Raises InvalidInput (422) for an invalid `after`.

    Last-Event-ID has the form STUDY-NUMBER or NUMBER. An id of another study starts the stream from the beginning, since a browser cannot
    correct the header that it sends.
    """
    if last_event_id is not None:
        owner, dash, text = last_event_id.rpartition("-")
        return int(text) if (owner == study.id or not dash) and SEQUENCE.match(text) and int(text) <= study.seq else 0
    if after is None:
        return 0
    if not SEQUENCE.match(after) or int(after) > study.seq:
        raise InvalidInput(
            [Fault(("query", "after"), "no_such_event", f"must be an integer from 0 to {study.seq}, the number of the last event so far")]
        )
    return int(after)


async def stream_frames(
    request: Request, study: FoundStudy, cursor: Annotated[int, Depends(cursor_of)], store: TheStore, streams: TheStreams
) -> AsyncGenerator[AsyncGenerator[bytes] | None]:
    """The bytes of a stream, which counts as open until its response has ended; None if no event can follow. Raises ProblemError.

    `serve.Protocol` closes the connections of clients that stop reading.
    """
    if _has_ended(study, cursor) and cursor > 0:
        yield None
        return
    client = client_of(request.scope)
    streams.require_room(client)
    with streams.one_of(client):
        async with aclosing(_frames(store, study.id, cursor, streams)) as frames:  # closing ends the stream's subscription
            yield frames


StreamFrames = Annotated[AsyncGenerator[bytes] | None, Depends(stream_frames)]

EVENTS_EXAMPLE = (
    'retry: 2000\n\nid: 8c5f0a1b2c3d4e5f-3\nevent: trial_started\ndata: {"seq":3,"kind":"trial_started","at":1767225600.0,"number":0}\n\n'
)


@router.get(
    "/studies/{study}/events",
    summary="Follow a study",
    status_code=200,
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {"example": EVENTS_EXAMPLE}},
            "description": "Each event once, in order; `end` follows the last one",
        },
        204: {"description": "The study has ended, and there are no events after the given one"},
    },
)
async def follow(frames: StreamFrames) -> Response:
    """Stream the study's events as Server-Sent Events. After a disconnection, the stream resumes with Last-Event-ID or ?after=."""
    if frames is None:
        return Response(status_code=204)
    # Not fastapi.sse: it encodes each event again for every stream, which takes about 90 µs; these batches are encoded once for all.
    return StreamingResponse(frames, media_type="text/event-stream", headers=HEADERS)


async def _frames(store: Store, study: str, cursor: int, streams: Streams) -> AsyncGenerator[bytes]:
    """The stream's bytes. A comment is sent after `KEEP_ALIVE_SECONDS` without events, also while the database is unavailable."""
    yield RETRY
    sent_at = time.monotonic()
    async with aclosing(_batches(store, study, cursor, streams)) as batches:
        async for batch in batches:
            if batch is not None and batch.frames:
                yield batch.frames
            elif time.monotonic() - sent_at > KEEP_ALIVE_SECONDS - 2 * POLL_SECONDS:
                yield KEEP_ALIVE
            else:
                continue
            sent_at = time.monotonic()


async def _batches(store: Store, study: str, cursor: int, streams: Streams) -> AsyncGenerator[Batch | None]:
    """Yield the batches after the cursor until the study or this process ends, and None every `POLL_SECONDS` while there is no batch."""
    limit = BATCH
    with streams.following.watching(study) as subscription:
        while not streams.stopping.is_set():
            async with aclosing(_shared(store, (study, cursor, limit), streams)) as tries:
                async for batch in tries:
                    yield batch
            if batch is None or batch.ended:
                return
            cursor, limit = batch.cursor, batch.next_limit
            # Without frames, there were no events or the database was unavailable: wait at least once before the next read.
            waits = not batch.frames
            while waits or not (subscription.has_news(cursor) or streams.stopping.is_set()):
                await subscription.wait(POLL_SECONDS)
                yield None
                waits = False


async def _shared(store: Store, key: tuple[str, int, int], streams: Streams) -> AsyncGenerator[Batch | None]:
    """Yield the batch at this place, read once for all streams that wait for it, and None every `POLL_SECONDS` until it is read.

    Ends without a batch when the process stops. Batches without frames are not cached: later events can follow the same cursor.
    """
    if (cached := streams.batches.get(key)) is not None:
        yield cached
        return
    read = partial(streams.batches.get_or_compute, key, lambda: _read(store, *key), lambda batch: bool(batch.frames) and not batch.ended)
    reading = asyncio.create_task(to_thread.run_sync(read, limiter=streams.readers, abandon_on_cancel=True))
    try:
        while not reading.done():
            await asyncio.wait({reading}, timeout=POLL_SECONDS)
            if streams.stopping.is_set() or not reading.done():
                yield None
            if streams.stopping.is_set():
                return
        yield reading.result()
    finally:
        reading.cancel()


def _read(store: Store, study: str, cursor: int, limit: int) -> Batch:
    try:
        with store.reading() as tx:
            if events := queries.events_after(tx, study, cursor, limit):
                return _packed(study, events)
            ended = _has_ended(queries.find_study(tx, study), cursor)
    except (StudyNotFound, StudyUnreadable):  # the study was deleted, or its row is damaged
        ended = True
    except StoreUnavailable:  # the stream stays open during an outage
        ended = False
    return Batch(_end(study, cursor) if ended else b"", cursor, ended, next_limit=BATCH)


def _packed(study: str, events: Sequence[Event]) -> Batch:
    """A batch of the first events, up to `BATCH_BYTES`. If the events are large, the next read is limited to twice the number that fit."""
    frames, size = list[bytes](), 0
    for event in events:
        if size >= BATCH_BYTES:
            break
        frames.append(_frame(study, event))
        size += len(frames[-1])
    next_limit = min(BATCH, 2 * len(frames)) if size >= BATCH_BYTES else BATCH
    return Batch(b"".join(frames), events[len(frames) - 1].seq, next_limit=next_limit)


def _has_ended(study: Study, cursor: int) -> bool:
    return study.state.terminal and cursor >= study.seq


def _frame(study: str, event: Event) -> bytes:
    own = {"seq": event.seq, "kind": event.kind, "at": event.at}
    data = {**own, **event.body, **own}  # the event's own fields come first and override fields of the body
    return f"id: {study}-{event.seq}\nevent: {event.kind}\ndata: {_json(data)}\n\n".encode()


def _end(study: str, cursor: int) -> bytes:
    return f"id: {study}-{cursor}\nevent: end\ndata: {_json({'seq': cursor, 'kind': 'end'})}\n\n".encode()


def _json(value: object) -> str:
    return json.dumps(finite(value), separators=(",", ":"), allow_nan=False)
