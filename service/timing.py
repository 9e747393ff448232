"""A wall clock that never goes back, and the delays between retries."""

import random
import time

_SLEEPLESS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # where there is one that counts while the machine is suspended


def _elapsed() -> float:
    return time.clock_gettime(_SLEEPLESS)


_STARTED_AT = time.time() - _elapsed()


def steady() -> float:
    """Seconds since 1970: the wall clock as it stood when the process started, and what has passed since then."""
    return _STARTED_AT + _elapsed()


class Backoff:
    """Delays in seconds that double from `first` up to `most`, each cut by up to half at random."""

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most = first, most
        self._next = first

    def delay(self) -> float:
        """The next delay."""
        whole, self._next = self._next, min(self._next * 2, self._most)
        return whole * random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)

    def reset(self) -> None:
        """Begin again with the first delay: the last try went well."""
        self._next = self._first
