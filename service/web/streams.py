"""The open event streams of this process, and the poller that notifies them."""

import asyncio
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from anyio import CapacityLimiter

from service.domain.errors import StoreUnavailable
from service.single_flight import SingleFlightCache
from service.store import Store, queries
from service.store.queries import LastEvent

log = logging.getLogger("thawline.web")

LOOK_SECONDS = 0.1
OUTAGE_SECONDS = 0.5  # until the next look at a database that did not answer
DELETED = LastEvent(0, ended=True)


class Subscription:
    """A stream that waits for news of its study, in the event loop that it was made in."""

    def __init__(self, following: "EventNotifier", study: str) -> None:
        self._following = following
        self._study = study
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    def has_news(self, cursor: int) -> bool:
        """Whether the study went on after this event, ended or was deleted, as far as the last look knows."""
        extent = self._following.extents.get(self._study)
        return extent is not None and (extent.ended or extent.seq > cursor)

    async def wait(self, seconds: float) -> None:
        """Until the study changes, has changed since the last wait, or so many seconds have passed."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()

    def wake(self) -> None:
        """End the wait, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # the loop has closed, and the stream with it
            return


class EventNotifier:
    """Looks while there are watches, in a thread of its own, which begins with the first of them and ends with the last one."""

    def __init__(self, store: Store, stopping: threading.Event) -> None:
        self.extents: dict[str, LastEvent] = {}  # of the watched studies; none until the first look at one
        self._store = store
        self._stopping = stopping
        self._lock = threading.Lock()
        self._watches: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._thread: threading.Thread | None = None

    @property
    def watches(self) -> int:
        """How many there are."""
        with self._lock:
            return sum(map(len, self._watches.values()))

    @contextmanager
    def watching(self, study: str) -> Iterator[Subscription]:
        """A watch on the study of that key. Call it where an event loop runs."""
        watch = Subscription(self, study)
        with self._lock:
            self._watches[study].add(watch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="following", daemon=True)
                self._thread.start()
        try:
            yield watch
        finally:
            with self._lock:
                self._watches[study].discard(watch)
                if not self._watches[study]:
                    del self._watches[study]
                    self.extents.pop(study, None)

    def look(self) -> None:
        """Ask once for all watched studies, and wake the watches on those that have changed. Raises StoreUnavailable."""
        with self._lock:
            studies = list(self._watches)
        found = self._store.read(queries.last_events, studies)
        with self._lock:
            for study in self._watches.keys() & studies:
                extent = found.get(study, DELETED)
                if self.extents.get(study) != extent:
                    self.extents[study] = extent
                    self._wake(study)

    def _wake(self, study: str) -> None:
        for watch in self._watches[study]:
            watch.wake()

    def _run(self) -> None:
        while not self._is_over():
            try:
                self.look()
            except StoreUnavailable:  # streams outlive an outage
                self._stopping.wait(OUTAGE_SECONDS)
            except Exception:
                log.exception("the look for new events failed")
                self._stopping.wait(OUTAGE_SECONDS)
            self._stopping.wait(LOOK_SECONDS)

    def _is_over(self) -> bool:
        """Whether nobody waits any more, or all are told to end; then the next watch begins anew."""
        with self._lock:
            if self._watches and not self._stopping.is_set():
                return False
            for study in self._watches:
                self._wake(study)
            self._thread = None
            return True


MAX_STREAMS = 128
MAX_STREAMS_OF_ONE = 64  # address on another machine: nobody alone may take them all
READERS = 4  # threads that read for all streams together, so that plain requests keep theirs
BATCH_BYTES = 32 * 1024  # a client is sent no more at one time than the first events that reach this
MOST_SHARED_BYTES = 64 * BATCH_BYTES


@dataclass(frozen=True, slots=True)
class Batch:
    """What the table held after a cursor, as it is sent: up to which event it goes, and whether none will ever follow."""

    frames: bytes
    cursor: int
    ended: bool = False
    next_limit: int = 0  # events worth reading next


Batches = SingleFlightCache[tuple[str, int, int], Batch]
"""By study, cursor and limit: what streams at the same place read is read once."""


def shared_batches() -> Batches:
    """A place for the batches that were sent last. An event never changes, so what was read after a cursor holds for good."""
    return Batches(MOST_SHARED_BYTES, lambda batch: len(batch.frames))


@dataclass(slots=True)
class Streams:
    """Streams end when `stopping` is set."""

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
