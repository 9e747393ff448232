"""What many ask for at one time: made once, and kept while there is room."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

MOST_ANSWER_BYTES = 16 * 1024 * 1024

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shared(Generic[K, V]):
    """Values by key, the ones used last, up to a weight of all of them. Safe to share between threads.

    What a key stands for must never change, or may be told late.
    """

    def __init__(self, most: int, weigh: Callable[[V], int]) -> None:
        self._most = most
        self._weigh = weigh
        self._lock = threading.Lock()
        self._making: dict[K, Future[V]] = {}
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._weight = 0

    @property
    def weight(self) -> int:
        """Of all that is kept."""
        return self._weight

    def kept(self, key: K) -> V | None:
        """The value, if it was made and is still here."""
        with self._lock:
            return self._found(key)

    def once(self, key: K, make: Callable[[], V], lasts: Callable[[V], bool] = lambda _: True) -> V:
        """The value, made by whoever comes first while the others wait. What `make` raises, all of them raise, and nothing is kept.

        A value that does not last is given to those who wait for it, and to nobody after them.
        """
        with self._lock:
            if (found := self._found(key)) is not None:
                return found
            if (making := self._making.get(key)) is None:
                mine = self._making[key] = Future()
        if making is not None:
            return making.result()
        try:
            value = make()
        except BaseException as error:
            self._forget(key)
            mine.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            if lasts(value):
                self._keep(key, value)
        mine.set_result(value)
        return value

    def _found(self, key: K) -> V | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def _forget(self, key: K) -> None:
        with self._lock:
            del self._making[key]

    def _keep(self, key: K, value: V) -> None:
        self._kept[key] = value
        self._weight += self._weigh(value)
        while self._weight > self._most:
            _, oldest = self._kept.popitem(last=False)
            self._weight -= self._weigh(oldest)


Answers = Shared[tuple[str | int, ...], bytes]
"""Bodies by all they follow from: what is asked, of which study, at which of its events."""


def shared_answers() -> Answers:
    """A place for some answers."""
    return Answers(MOST_ANSWER_BYTES, len)
