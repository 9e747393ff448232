"""A study's events as Server-Sent Events: read from the table, one batch at a time, so that a client misses none and holds up nobody."""

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from search_spaces import Fault
from service.domain.errors import InvalidInput, StoreUnavailable, StudyNotFound, StudyUnreadable
from service.domain.records import Event, Study
from service.store import Store, queries
from service.web import API
from service.web.dependencies import FoundStudy, TheStore, TheStreams
from service.web.middleware import client_of, speaks_for_many
from service.web.problems import TOO_MANY_OWN_STREAMS, TOO_MANY_STREAMS, ProblemError, for_error
from service.web.streams import BATCH_BYTES, Batch, Streams
from service.web.views import finite

BATCH = 100  # events that are read at one time
POLL_SECONDS = 0.5  # between two looks whether the server ends, and two tries at a database that does not answer
KEEP_ALIVE_SECONDS = 15.0
RETRY = b"retry: 2000\n\n"  # milliseconds
KEEP_ALIVE = b": still here\n\n"
SEQUENCE = re.compile(r"[0-9]{1,15}\Z")
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

router = APIRouter(prefix=API, tags=["studies"])


class EventStream(StreamingResponse):
    """The stream as an answer, counted while it is open. A client that stops reading is the protocol's to cut."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes], streams: Streams) -> None:
        super().__init__(frames, headers=HEADERS)
        self.frames = frames
        self.streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = client_of(scope)
        if (refused := self._refusal(client)) is not None:
            await for_error(scope, refused)(scope, receive, send)
            return
        with self.streams.one_of(client):
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self.frames.aclose()  # so that its watch ends with it

    def _refusal(self, client: str) -> ProblemError | None:
        streams = self.streams
        if streams.open >= streams.limit:
            return ProblemError(TOO_MANY_STREAMS, f"This server holds at most {streams.limit} streams; close one or wait.")
        if streams.open_by[client] >= streams.limit_of_one and not speaks_for_many(client):
            return ProblemError(TOO_MANY_OWN_STREAMS, f"One address may hold {streams.limit_of_one} streams; close one or wait.")
        return None


def cursor_of(
    study: FoundStudy,
    after: Annotated[str | None, Query(description="send the events after this sequence number", examples=["0"])] = None,
    last_event_id: Annotated[
        str | None, Header(description="the last id that was received, as EventSource sends it; wins over ?after=")
    ] = None,
) -> int:
    """The sequence number to go on from.

    A Last-Event-ID may be the bare number. One that is not this study's starts from the beginning, for a browser cannot mend it;
    a wrong `after` is a 422.
    """
    if last_event_id is not None:
        owner, dash, text = last_event_id.rpartition("-")
        return int(text) if (owner == study.id or not dash) and SEQUENCE.match(text) and int(text) <= study.seq else 0
    if after is None:
        return 0
    if not SEQUENCE.match(after) or int(after) > study.seq:
        raise InvalidInput(
            [Fault(("query", "after"), "no_such_event", f"this is a whole number from 0 to {study.seq}, the last event so far")]
        )
    return int(after)


EVENTS_EXAMPLE = (
    'retry: 2000\n\nid: 8c5f0a1b2c3d4e5f-3\nevent: trial_started\ndata: {"seq":3,"kind":"trial_started","at":1767225600.0,"number":0}\n\n'
)


@router.get(
    "/studies/{study}/events",
    summary="Follow a study",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "content": {"text/event-stream": {"example": EVENTS_EXAMPLE}},
            "description": "Each event once, in order; `end` after the last",
        },
        204: {"description": "The study has ended and every event was sent"},
    },
)
async def follow(study: FoundStudy, cursor: Annotated[int, Depends(cursor_of)], store: TheStore, streams: TheStreams) -> Response:
    """Server-Sent Events from the study's table of events. A stream that breaks off resumes by Last-Event-ID, or by ?after=."""
    if _has_ended(study, cursor) and cursor > 0:
        return Response(status_code=204)
    return EventStream(_frames(store, study.id, cursor, streams), streams)


async def _frames(store: Store, study: str, cursor: int, streams: Streams) -> AsyncGenerator[bytes]:
    """The stream's bytes. It says something each `KEEP_ALIVE_SECONDS`, whatever the database does."""
    yield RETRY
    spoke_at = time.monotonic()
    async with aclosing(_batches(store, study, cursor, streams)) as batches:
        async for batch in batches:
            if batch is not None and batch.frames:
                yield batch.frames
            elif time.monotonic() - spoke_at > KEEP_ALIVE_SECONDS - 2 * POLL_SECONDS:
                yield KEEP_ALIVE
            else:
                continue
            spoke_at = time.monotonic()


async def _batches(store: Store, study: str, cursor: int, streams: Streams) -> AsyncGenerator[Batch | None]:
    """What comes after the cursor, until the study or this process ends; None now and then while nothing comes or a read takes its time."""
    limit = BATCH
    with streams.following.watching(study) as watch:
        while not streams.stopping.is_set():
            async with aclosing(_shared(store, (study, cursor, limit), streams)) as tries:
                async for batch in tries:
                    yield batch
            if batch is None or batch.ended:
                return
            cursor, limit = batch.cursor, batch.next_limit
            waits = not batch.frames  # there was nothing, or the database did not answer
            while waits or not (watch.has_news(cursor) or streams.stopping.is_set()):
                await watch.wait(POLL_SECONDS)
                yield None
                waits = False


async def _shared(store: Store, key: tuple[str, int, int], streams: Streams) -> AsyncGenerator[Batch | None]:
    """One batch, read by the first of the streams that are at this place; None now and then before it, and when the process ends."""
    if (kept := streams.batches.get(key)) is not None:
        yield kept
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
    except (StudyNotFound, StudyUnreadable):  # it was deleted, or damaged
        ended = True
    except StoreUnavailable:  # the stream outlives an outage
        ended = False
    return Batch(_end(study, cursor) if ended else b"", cursor, ended, next_limit=BATCH)


def _packed(study: str, events: Sequence[Event]) -> Batch:
    """The first events, up to `BATCH_BYTES`; where they are large, the next read is for twice as many as fit and not for all."""
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
    data = {**own, **event.body, **own}  # no word of a body stands in for the event's own
    return f"id: {study}-{event.seq}\nevent: {event.kind}\ndata: {_json(data)}\n\n".encode()


def _end(study: str, cursor: int) -> bytes:
    return f"id: {study}-{cursor}\nevent: end\ndata: {_json({'seq': cursor, 'kind': 'end'})}\n\n".encode()


def _json(value: object) -> str:
    return json.dumps(finite(value), separators=(",", ":"), allow_nan=False)
