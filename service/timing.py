"""A monotonic wall clock, and delays between retries."""

import random
import time

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

    def reset(self) -> None:
        """Start again with the first delay, after a success."""
        self._next = self._first
