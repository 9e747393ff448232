"""A reaper that starts takes every lease that it finds for one that has stood still all the while."""

from service.domain.records import Lease, StaleLease

SCENARIO = "tests/chaos/test_f03_restarts.py -k living"


def plant() -> None:
    from service.reaper import Observation, Reaper

    observed = Reaper._observed

    def expired(self: Reaper, lease: Lease, counted: StaleLease, elapsed: float) -> Observation:
        if self._swept_at is None:
            return Observation(lease.attempt, counted.heartbeats, self._lease_seconds, counted, 0.0)
        return observed(self, lease, counted, elapsed)

    Reaper._observed = expired  # type: ignore[method-assign]
