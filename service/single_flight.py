"""A cache whose concurrent callers share one computation."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlightCache(Generic[K, V]):
    """Least-recently-used cache, bounded by the total weight of its values. Thread-safe.

    Entries are never invalidated: the key must contain everything that the value depends on.
    """

    def __init__(self, max_weight: int, weigh: Callable[[V], int]) -> None:
        self._max_weight = max_weight
        self._weigh = weigh
        self._lock = threading.Lock()
        self._running: dict[K, Future[V]] = {}
        self._cached: OrderedDict[K, V] = OrderedDict()
        self._weight = 0

    def get(self, key: K) -> V | None:
        """The cached value, or None."""
        with self._lock:
            return self._cached_value(key)

    def get_or_compute(self, key: K, compute: Callable[[], V], is_cacheable: Callable[[V], bool] = lambda _: True) -> V:
        """The cached value, or the result of `compute`, which one caller runs while concurrent callers wait for it.

        If `compute` raises, all of these callers get the exception and nothing is cached. Values for which `is_cacheable` is false are
        not cached either.
        """
        with self._lock:
            if (found := self._cached_value(key)) is not None:
                return found
            if (running := self._running.get(key)) is None:
                own = self._running[key] = Future()
        if running is not None:
            return running.result()
        try:
            value = compute()
        except BaseException as error:
            self._forget(key)
            own.set_exception(error)
            raise
        with self._lock:
            del self._running[key]
            if is_cacheable(value):
                self._store(key, value)
        own.set_result(value)
        return value

    def _cached_value(self, key: K) -> V | None:
        if key not in self._cached:
            return None
        self._cached.move_to_end(key)
        return self._cached[key]

    def _forget(self, key: K) -> None:
        with self._lock:
            del self._running[key]

    def _store(self, key: K, value: V) -> None:
        self._cached[key] = value
        self._weight += self._weigh(value)
        while self._weight > self._max_weight:
            _, oldest = self._cached.popitem(last=False)
            self._weight -= self._weigh(oldest)
