"""A reaper takes a trial away by its attempt alone, even when a heartbeat came after the look on which it decided."""

from collections.abc import Sequence

from service.domain.records import Lease
from service.store import Store, queries

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    from service import operations

    requeue_lost = operations.requeue_lost

    def unguarded(store: Store, suspects: Sequence[tuple[Lease, int]]) -> int:
        beats = dict(store.read(queries.running_leases))
        return requeue_lost(store, [(lease, beats.get(lease, seen)) for lease, seen in suspects])

    operations.requeue_lost = unguarded
