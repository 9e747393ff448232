"""The open event streams of this process, and the poller that notifies them of new events."""

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
        last = self._notifier.extents.get(self._study)
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
        self.extents: dict[str, LastEvent] = {}  # last event of each study with subscriptions, from the first poll on
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
                    self.extents.pop(study, None)

    def look(self) -> None:
        """Poll once: read the last events of all studies, and wake the subscriptions of those that changed. Raises StoreUnavailable."""
        with self._lock:
            studies = list(self._watches)
        found = self._store.read(queries.last_events, studies)
        with self._lock:
            for study in self._watches.keys() & studies:
                last = found.get(study, DELETED)
                if self.extents.get(study) != last:
                    self.extents[study] = last
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
