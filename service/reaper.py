"""Finds leases that stand still, by watching their heartbeat counters with its own monotonic clock."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.records import Lease
from service.store import Store, queries

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a lease, and for how many seconds it has not changed."""

    attempt: int
    heartbeats: int
    still_seconds: float


class Reaper:
    """Queues trials again whose workers are gone. Any number may run; none trusts a clock but its own.

    It starts without observations, so a restart expires nothing. Of the time between two sweeps at most half a lease counts:
    while the database was away, or this process was frozen, no heartbeat could be seen.
    """

    def __init__(self, store: Store, lease_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._seen: dict[int, Observation] = {}
        self._swept_at: float | None = None

    @property
    def seconds_since_sweep(self) -> float | None:
        """The age of the last sweep that went through; None before the first."""
        return None if self._swept_at is None else self._clock() - self._swept_at

    def sweep(self) -> int:
        """Look at every lease once; how many trials were taken from their workers. A store that does not answer is logged."""
        try:
            return self._sweep()
        except StoreUnavailable as error:
            log.warning("leases could not be looked at: %s", error)
            return 0

    def _sweep(self) -> int:
        leases = self._store.read(queries.running_leases)
        now = self._clock()
        passed = 0.0 if self._swept_at is None else min(now - self._swept_at, self._lease_seconds / 2)
        self._seen = {lease.trial: self._observed(lease, heartbeats, passed) for lease, heartbeats in leases}
        self._swept_at = now
        suspects = [(lease, count) for lease, count in leases if self._seen[lease.trial].still_seconds >= self._lease_seconds]
        return operations.requeue_lost(self._store, suspects) if suspects else 0

    def _observed(self, lease: Lease, heartbeats: int, passed: float) -> Observation:
        before = self._seen.get(lease.trial)
        if before is None or (before.attempt, before.heartbeats) != (lease.attempt, heartbeats):
            return Observation(lease.attempt, heartbeats, 0.0)
        return Observation(lease.attempt, heartbeats, before.still_seconds + passed)
