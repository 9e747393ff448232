"""A lease is dead when its worker was not seen for so long by the wall clock: each worker writes when it was, each reaper compares."""

import time

SCENARIO = "tests/chaos/test_f08_clocks.py::test_wrong_clocks_expire_no_lease_and_keep_no_dead_one[sqlite]"


def plant() -> None:
    from service import operations
    from service.reaper import Reaper
    from service.store import queries

    def sweep(self: Reaper) -> int:
        seen = {worker.id: worker.seen_at for worker in self._store.read(queries.workers)}
        leases = self._store.read(queries.running_leases)
        late = [(lease, beats) for lease, beats in leases if time.time() - seen.get(lease.worker, 0) > self._lease_seconds]
        self._swept_at = self._clock()
        return operations.requeue_lost(self._store, late) if late else 0

    Reaper._sweep = sweep  # type: ignore[method-assign]
