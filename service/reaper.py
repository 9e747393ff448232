"""Finds stale leases by their heartbeat counters, measured with the local monotonic clock."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.records import Lease, StaleLease
from service.store import Store, Transaction, queries

log = logging.getLogger(__name__)

OWN_SHARE = 1 / 3  # of a lease that a reaper itself has to observe: by default two of six heartbeats
COMBINED_LEASES = 2  # leases that successive reapers together have to observe if none of them observed a whole one


@dataclass(frozen=True, slots=True)
class Observation:
    """A lease and the seconds for which this reaper saw its heartbeat counter unchanged."""

    attempt: int
    heartbeats: int
    still_seconds: float
    counted: StaleLease  # seconds of all reapers, as stored at the last sweep
    uncounted_seconds: float  # observed by this reaper and not stored yet


class Reaper:
    """Requeues trials whose workers stopped sending heartbeats, and fails those that wait for a device that no worker has any more.

    Any number of reapers may run.

    The seconds for which a lease was stale are also stored, so that the next reaper continues the count after a restart: see
    docs/decisions/0012-standstills.md.
    """

    # A reaper compares counters and uses only its own monotonic clock, because the clocks of several machines differ and can jump.
    # It starts without observations, so a restart expires no lease. At most half a lease counts between two sweeps: while the database
    # was unreachable or this process was suspended, no heartbeat could be observed.

    def __init__(self, store: Store, lease_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._seen: dict[int, Observation] = {}
        self._silent: dict[str, tuple[float, float]] = {}  # by worker, while trials wait: the last heartbeat, and seconds without another
        self._without: dict[queries.WaitingTrial, float] = {}  # seconds for which no worker has had a device for the trial
        self._swept_at: float | None = None

    @property
    def seconds_since_sweep(self) -> float | None:
        """Seconds since the last successful sweep; None before the first."""
        return None if self._swept_at is None else self._clock() - self._swept_at

    def sweep(self) -> int:
        """Check every lease once and return the number of requeued trials. An unavailable store is logged."""
        try:
            return self._sweep()
        except StoreUnavailable as error:
            log.warning("leases could not be checked: %s", error)
            return 0

    def _sweep(self) -> int:
        found = self._store.read(_current_leases)
        now = self._clock()
        elapsed = 0.0 if self._swept_at is None else min(now - self._swept_at, self._lease_seconds / 2)
        self._seen = {lease.trial: self._observed(lease, counted, elapsed) for lease, counted in found}
        self._swept_at = now
        suspects = [(lease, counted.heartbeats) for lease, counted in found if self._is_lost(self._seen[lease.trial])]
        requeued = operations.requeue_lost(self._store, suspects) if suspects else 0
        self._store_seconds({lease.trial for lease, _ in suspects})
        self._end_waiting(elapsed)
        return requeued

    def _end_waiting(self, elapsed: float) -> None:
        """Fail the trials that wait for a larger device once for a lease no worker has had one, or every one that has is silent."""
        waiting = self._store.read(_waiting_trials)
        known = {worker: seen_at for workers in waiting.values() for worker, seen_at in workers.items()}
        before, self._silent = self._silent, {}
        for worker, seen_at in known.items():
            last, seconds = before.get(worker, (seen_at, -elapsed))
            self._silent[worker] = seen_at, seconds + elapsed if last == seen_at else 0.0
        silent = {worker: seen_at for worker, (seen_at, seconds) in self._silent.items() if seconds >= self._lease_seconds}
        # A worker that restarts, or whose device fails for a moment, registers the device again within a lease.
        without, self._without = self._without, {trial: 0.0 for trial, workers in waiting.items() if not workers}
        for trial in self._without.keys() & without.keys():
            self._without[trial] = without[trial] + elapsed
        over = {trial for trial, seconds in self._without.items() if seconds >= self._lease_seconds}
        if hopeless := [trial for trial, workers in waiting.items() if trial in over or (workers and workers.keys() <= silent.keys())]:
            operations.fail_without_device(self._store, hopeless, silent)

    def _observed(self, lease: Lease, counted: StaleLease, elapsed: float) -> Observation:
        before = self._seen.get(lease.trial)
        if before is None or (before.attempt, before.heartbeats) != (lease.attempt, counted.heartbeats):
            return Observation(lease.attempt, counted.heartbeats, 0.0, counted, 0.0)
        own = replace(before, still_seconds=before.still_seconds + elapsed)
        if counted != before.counted:  # another reaper stored its seconds in the meantime: the same period counts once
            return replace(own, counted=counted, uncounted_seconds=0.0)
        return replace(own, uncounted_seconds=before.uncounted_seconds + elapsed)

    def _is_lost(self, seen: Observation) -> bool:
        combined = seen.counted.seconds + seen.uncounted_seconds
        return seen.still_seconds >= self._lease_seconds or (
            self._has_observed_enough(seen) and combined >= COMBINED_LEASES * self._lease_seconds
        )

    def _has_observed_enough(self, seen: Observation) -> bool:
        return seen.still_seconds >= OWN_SHARE * self._lease_seconds

    def _store_seconds(self, requeued: set[int]) -> None:
        """Store the observed seconds of leases that are probably lost. Those of other leases are not stored, to keep writes rare."""
        still = {trial: seen for trial, seen in self._seen.items() if trial not in requeued and self._has_observed_enough(seen)}
        if not still:
            return
        seconds = {seen.counted: seen.uncounted_seconds for seen in still.values() if seen.uncounted_seconds > 0}
        for longer in operations.record_stale_leases(self._store, seconds):
            self._seen[longer.trial] = replace(self._seen[longer.trial], counted=longer, uncounted_seconds=0.0)


def _waiting_trials(tx: Transaction) -> dict[queries.WaitingTrial, dict[str, float]]:
    """The trials that wait for a larger device, each with the workers that have one and the time of their last heartbeat."""
    waiting = queries.waiting_for_device(tx)
    needs = {(one.study, one.least_device_bytes) for one in waiting}  # of many trials that failed on the same kind of device, one
    having = {need: queries.workers_with_device(tx, *need) for need in needs}
    return {one: having[one.study, one.least_device_bytes] for one in waiting}


def _current_leases(tx: Transaction) -> list[tuple[Lease, StaleLease]]:
    """Every lease, with the stored seconds for which its present heartbeat counter has not changed."""
    leases = queries.running_leases(tx)
    known = queries.stale_leases(tx, [lease.trial for lease, _ in leases])
    uncounted = [(lease, StaleLease(lease.trial, heartbeats, 0.0)) for lease, heartbeats in leases]
    return [(lease, known[one.trial] if _has_same_counter(known.get(one.trial), one) else one) for lease, one in uncounted]


def _has_same_counter(known: StaleLease | None, one: StaleLease) -> bool:
    return known is not None and known.heartbeats == one.heartbeats
