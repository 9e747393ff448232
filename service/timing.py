"""A monotonic wall clock, and delays between retries."""

import itertools
import random
import threading
import time
from collections.abc import Iterator

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # CLOCK_BOOTTIME also advances while the machine is suspended


def _elapsed() -> float:
    return time.clock_gettime(_CLOCK)


_STARTED_AT = time.time() - _elapsed()


def steady() -> float:
    """Seconds since 1970: the wall clock at the start of the process plus the elapsed time, so clock corrections have no effect."""
    return _STARTED_AT + _elapsed()


class Backoff:
    """Delays in seconds that double from `first` up to `most`, each reduced by up to half at random."""

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most = first, most
        self._next = first

    def delay(self) -> float:
        """The next delay in seconds."""
        whole, self._next = self._next, min(self._next * 2, self._most)
        return whole * random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)

    def tries(self, stop: threading.Event | None = None) -> Iterator[int]:
        """Yield the number of each try, from 1 on, with a delay between two tries. Ends when `stop` is set."""
        # Not tenacity: it makes one more try after its event is set, and the store may take long to refuse that one.
        stop = stop or threading.Event()
        for number in itertools.count(1):
            yield number
            if stop.wait(self.delay()):
                return

    def reset(self) -> None:
        """Start again with the first delay, after a success."""
        self._next = self._first
