"""The open event streams of this process: how many there are, and the word that ends them."""

import threading
from dataclasses import dataclass, field

from anyio import CapacityLimiter

MAX_STREAMS = 128
READERS = 4  # threads that read for all streams together, so that plain requests keep theirs


@dataclass(slots=True)
class Streams:
    """Streams end when `stopping` is set."""

    limit: int = MAX_STREAMS
    open: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    readers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(READERS))
