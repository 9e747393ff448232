"""Finds leases that stand still, by watching their heartbeat counters with its own monotonic clock."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.records import Lease, StaleLease
from service.store import Store, Transaction, queries

log = logging.getLogger(__name__)

LOOKS = 1 / 3  # of a lease that a reaper must have seen it still itself: two heartbeats of the usual six
TOGETHER = 2  # leases' lengths for which reapers, none of which saw a whole one, must have seen it still one after the other


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a lease: its attempt, and for how many seconds it has not changed."""

    attempt: int
    heartbeats: int
    still_seconds: float
    counted: StaleLease  # by all reapers, as the store had it at the last look
    uncounted_seconds: float  # seen since then, and not in the store yet


class Reaper:
    """Queues trials again whose workers are gone. Any number may run; none trusts a clock but its own.

    It starts without observations, so a restart expires nothing. Of the time between two sweeps at most half a lease counts:
    while the database was away, or this process was frozen, no heartbeat could be seen. What it has seen of a lease that stands
    still is counted in the store, where the next reaper goes on: see docs/decisions/0012-standstills.md.
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
        found = self._store.read(_standing)
        now = self._clock()
        passed = 0.0 if self._swept_at is None else min(now - self._swept_at, self._lease_seconds / 2)
        self._seen = {lease.trial: self._observed(lease, counted, passed) for lease, counted in found}
        self._swept_at = now
        suspects = [(lease, counted.heartbeats) for lease, counted in found if self._is_over(self._seen[lease.trial])]
        requeued = operations.requeue_lost(self._store, suspects) if suspects else 0
        self._count({lease.trial for lease, _ in suspects})
        return requeued

    def _observed(self, lease: Lease, counted: StaleLease, passed: float) -> Observation:
        before = self._seen.get(lease.trial)
        if before is None or (before.attempt, before.heartbeats) != (lease.attempt, counted.heartbeats):
            return Observation(lease.attempt, counted.heartbeats, 0.0, counted, 0.0)
        own = replace(before, still_seconds=before.still_seconds + passed)
        if counted != before.counted:  # another reaper was at it meanwhile; what both saw counts once
            return replace(own, counted=counted, uncounted_seconds=0.0)
        return replace(own, uncounted_seconds=before.uncounted_seconds + passed)

    def _is_over(self, seen: Observation) -> bool:
        together = seen.counted.seconds + seen.uncounted_seconds
        return seen.still_seconds >= self._lease_seconds or (self._has_looked(seen) and together >= TOGETHER * self._lease_seconds)

    def _has_looked(self, seen: Observation) -> bool:
        return seen.still_seconds >= LOOKS * self._lease_seconds

    def _count(self, taken: set[int]) -> None:
        """Put what was seen into the store: of leases alone that are probably lost, so that this is seldom written."""
        still = {trial: seen for trial, seen in self._seen.items() if trial not in taken and self._has_looked(seen)}
        if not still:
            return
        seconds = {seen.counted: seen.uncounted_seconds for seen in still.values() if seen.uncounted_seconds > 0}
        for longer in operations.record_stale_leases(self._store, seconds):
            self._seen[longer.trial] = replace(self._seen[longer.trial], counted=longer, uncounted_seconds=0.0)


def _standing(tx: Transaction) -> list[tuple[Lease, StaleLease]]:
    """Every lease, and how long it is known to stand still at its present heartbeat."""
    leases = queries.running_leases(tx)
    known = queries.stale_leases(tx, [lease.trial for lease, _ in leases])
    unknown = [(lease, StaleLease(lease.trial, heartbeats, 0.0)) for lease, heartbeats in leases]
    return [(lease, known[one.trial] if _same(known.get(one.trial), one) else one) for lease, one in unknown]


def _same(known: StaleLease | None, one: StaleLease) -> bool:
    return known is not None and known.heartbeats == one.heartbeats
