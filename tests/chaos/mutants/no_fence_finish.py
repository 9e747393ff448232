"""A last word ends whichever attempt has the trial now, and not only the one that it comes from."""

from collections.abc import Sequence
from dataclasses import replace

from service.domain.records import Lease
from service.operations import Write
from service.store import Store, queries

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    from service import operations

    record = operations.record

    def unfenced(store: Store, writes: Sequence[Write]) -> list[Lease]:
        holders = {lease.trial: lease for lease, _ in store.read(queries.running_leases)}
        return record(store, [replace(one, lease=holders.get(one.lease.trial, one.lease)) if one.outcome else one for one in writes])

    operations.record = unfenced
