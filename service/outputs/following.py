"""Delivers the events of all studies to sinks, each with its own thread, cursor and retries."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.records import Event, SinkProgress, SinkStatus
from service.store import Store, queries
from service.timing import Backoff

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # between two looks for new events
BLOCK = 200  # events read at once, of one study
RETRY = (1.0, 300.0)  # shortest and longest delay after a failed delivery, in seconds
MOST_REFUSALS = 10  # of one event, after which it is skipped
BEATS_PER_LEASE = 6
TRUST = 2 / 3  # of the lease: an owner that cannot renew stops delivering before another process can take the sink


class Undelivered(Exception):
    """A delivery that failed and is repeated. The message is for the operator; it contains nothing that the receiver sent."""


class EventRefused(Undelivered):
    """The receiver refuses this event, and may accept the next one."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(why)
        self.seq = seq


class SinkTaken(Exception):
    """Another process delivers to this sink now."""


@dataclass(frozen=True, slots=True)
class EventBlock:
    """Successive events of a study."""

    study: str  # id
    name: str
    cursor: int  # sequence number of the event before the first one
    events: Sequence[Event]


class Sink(Protocol):
    """A receiver of events. One thread at a time calls it."""

    from_start: ClassVar[bool]  # whether a new sink gets the events from before it was configured

    @property
    def name(self) -> str:
        """The key of its rows in the store, at most 64 characters; another receiver has another name."""

    def deliver(self, block: EventBlock) -> Iterator[SinkProgress]:
        """Send the block's events in their order. After an interruption, those since the last progress are sent again.

        Raises Undelivered.
        """

    def close(self) -> None:
        """Close connections."""


class SinkLease:
    """The right to deliver to a sink. Like a trial's lease, it is a counter that other processes watch with their monotonic clocks."""

    def __init__(self, store: Store, name: str, lease_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.owner = secrets.token_hex(16)
        self._store = store
        self._name = name
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._renewed_at: float | None = None  # None: not owned
        self._seen: SinkStatus | None = None
        self._looked_at = 0.0
        self._still_seconds = 0.0  # for which the other owner's counter has not changed

    @property
    def is_held(self) -> bool:
        """Whether this process owns the sink, and renewed that lately enough that no other process can own it."""
        renewed_at = self._renewed_at
        return renewed_at is not None and self._clock() - renewed_at < TRUST * self._lease_seconds

    def tend(self) -> None:
        """Renew the lease, or take it if no process holds it. Called `BEATS_PER_LEASE` times in a lease. Raises StoreUnavailable."""
        now = self._clock()
        if self._renewed_at is not None:
            renewed = operations.renew_sink(self._store, self._name, self.owner)
            self._renewed_at = now if renewed else None
            self._seen = None
        elif self._may_take(now):
            assert self._seen is not None  # noqa: S101  (set by `_may_take`; narrows the type for mypy)
            if operations.take_sink(self._store, self._seen, self.owner):
                self._renewed_at = now

    def _may_take(self, now: float) -> bool:
        """Whether the sink has no owner, or one whose counter stood still for a lease. At most half a lease counts between two looks."""
        before, self._seen = self._seen, self._store.read(queries.find_sink, self._name)
        elapsed, self._looked_at = min(now - self._looked_at, self._lease_seconds / 2), now
        if self._seen is None:
            return False
        unchanged = before is not None and (before.owner, before.beats) == (self._seen.owner, self._seen.beats)
        self._still_seconds = self._still_seconds + elapsed if unchanged else 0.0
        return self._seen.owner is None or self._still_seconds >= self._lease_seconds

    def release(self) -> None:
        """Let another process take the sink at once."""
        if self._renewed_at is not None:
            self._renewed_at = None
            operations.release_sink(self._store, self._name, self.owner)


class SinkThread:
    """Delivers to one sink while its lease is held."""

    def __init__(self, store: Store, sink: Sink, lease: SinkLease, stopping: threading.Event) -> None:
        self.sink = sink
        self.lease = lease
        self._store = store
        self._stopping = stopping
        self._backoff = Backoff(*RETRY)
        self._refused: tuple[str, int] | None = None
        self._refusals = 0
        self.thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self._backoff.delay() if self.lease.is_held and not self._try() else POLL_SECONDS)
        self.sink.close()

    def _try(self) -> bool:
        """Deliver all events that there are. False after a failure."""
        try:
            self.deliver_all()
        except SinkTaken:
            return True
        except StoreUnavailable as error:
            log.warning("sink %s: events could not be read: %s", self.sink.name, error)
            return False
        except Undelivered as error:
            self._note(str(error))
            return False
        except Exception as error:
            log.exception("sink %s failed", self.sink.name)
            self._note(f"internal error ({type(error).__name__}); see the server's log")
            return False
        self._backoff.reset()
        return True

    def deliver_all(self) -> None:
        """Deliver a block of each study with new events, until there are none. Raises Undelivered, SinkTaken, StoreUnavailable."""
        found = True
        while found:
            found = False
            for one in self._store.read(queries.sink_backlog, self.sink.name):
                if events := self._store.read(queries.events_after, one.study, one.cursor, BLOCK):
                    self._deliver(EventBlock(one.study, one.name, one.cursor, events))
                    found = True

    def _deliver(self, block: EventBlock) -> None:
        self._require_lease()
        try:
            for progress in self.sink.deliver(block):
                self._advance(progress)
                self._require_lease()
        except EventRefused as error:
            if not self._skips(block.study, error):
                raise
            self._advance(SinkProgress(block.study, error.seq, skipped=1))

    def _skips(self, study: str, error: EventRefused) -> bool:
        """Whether the event was refused so often that it is skipped, so that the events behind it are delivered."""
        self._refusals = self._refusals + 1 if self._refused == (study, error.seq) else 1
        self._refused = study, error.seq
        if self._refusals < MOST_REFUSALS:
            return False
        log.error("sink %s: event %s-%d is skipped after %d tries: %s", self.sink.name, study, error.seq, self._refusals, error)
        return True

    def _advance(self, progress: SinkProgress) -> None:
        if not operations.advance_sink(self._store, self.sink.name, self.lease.owner, progress):
            raise SinkTaken
        if progress.delivered or progress.skipped:
            self._backoff.reset()

    def _require_lease(self) -> None:
        """Raises SinkTaken if another process may own the sink, or this process stops."""
        if self._stopping.is_set() or not self.lease.is_held:
            raise SinkTaken

    def _note(self, error: str) -> None:
        log.warning("sink %s: %s; it is tried again", self.sink.name, error)
        try:
            operations.fail_sink(self._store, self.sink.name, self.lease.owner, error)
        except StoreUnavailable as unavailable:
            log.warning("sink %s: the failure could not be stored: %s", self.sink.name, unavailable)


class EventFollower:
    """Delivers to all sinks between `start` and `stop`. A sink that is slow or fails delays only itself."""

    def __init__(self, store: Store, sinks: Sequence[Sink], lease_seconds: float) -> None:
        self._store = store
        self._stopping = threading.Event()
        self._pause_seconds = lease_seconds / BEATS_PER_LEASE
        self._threads = [SinkThread(store, one, SinkLease(store, one.name, lease_seconds), self._stopping) for one in sinks]
        self._registered = set[str]()
        self._tending = threading.Thread(target=self._tend, name="sink leases", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        if self._threads:
            self._tending.start()

    def stop(self) -> None:
        """Stop the threads. A delivery in progress has five seconds; the others start no further one."""
        self._stopping.set()
        if not self._threads:
            return
        self._tending.join(timeout=5)
        end = time.monotonic() + 5
        for one in self._threads:
            if one.thread.is_alive():
                one.thread.join(timeout=max(0.0, end - time.monotonic()))
            if not one.thread.is_alive():
                self._release(one.lease)

    def _tend(self) -> None:
        """Renew the leases in a thread of its own, so that a slow delivery does not lose its lease."""
        while not self._stopping.is_set():
            for one in self._threads:
                try:
                    self._tend_one(one)
                except StoreUnavailable as error:
                    log.warning("the lease of sink %s could not be renewed: %s", one.sink.name, error)
                except Exception:
                    log.exception("the lease of sink %s could not be renewed", one.sink.name)
            self._stopping.wait(self._pause_seconds)

    def _tend_one(self, one: SinkThread) -> None:
        if one.sink.name not in self._registered:
            operations.register_sink(self._store, one.sink.name, from_start=one.sink.from_start)
            self._registered.add(one.sink.name)
        one.lease.tend()
        if not one.thread.is_alive():
            one.thread.start()

    def _release(self, lease: SinkLease) -> None:
        try:
            lease.release()
        except StoreUnavailable as error:
            log.warning("a lease of a sink could not be released: %s", error)
