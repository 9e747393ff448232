"""How long to wait before the next try: longer each time, with jitter, so that many waiters do not come back at once."""

import random


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
