"""The open event streams of this process: how many there are, and the word that ends them."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from anyio import CapacityLimiter

MAX_STREAMS = 128
MAX_STREAMS_OF_ONE = 64  # address on another machine: nobody alone may take them all
READERS = 4  # threads that read for all streams together, so that plain requests keep theirs


@dataclass(slots=True)
class Streams:
    """Streams end when `stopping` is set."""

    limit: int = MAX_STREAMS
    limit_of_one: int = MAX_STREAMS_OF_ONE
    open: int = 0
    open_by: Counter[str] = field(default_factory=Counter)
    stopping: threading.Event = field(default_factory=threading.Event)
    readers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(READERS))

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
