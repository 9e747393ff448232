"""The open event streams of this process: how many there are, what they share, and the word that ends them."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from anyio import CapacityLimiter

from service.single_flight import SingleFlightCache
from service.store import Store
from service.web.following import Following

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
    following: Following = field(init=False)

    def __post_init__(self) -> None:
        self.following = Following(self.store, self.stopping)

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
