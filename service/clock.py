"""The time of day as it goes on steadily, for decisions: no correction of the wall clock moves it while the process lives."""

import time

_SLEEPLESS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # where there is one that counts while the machine is suspended


def _elapsed() -> float:
    return time.clock_gettime(_SLEEPLESS)


_STARTED_AT = time.time() - _elapsed()


def steady() -> float:
    """Seconds since 1970: the wall clock as it stood when the process started, and what has passed since then."""
    return _STARTED_AT + _elapsed()
