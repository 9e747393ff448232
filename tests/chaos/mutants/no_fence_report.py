"""Reports and checkpoints are taken for whichever attempt has the trial now, and not for the one that they come from."""

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
        return record(store, [one if one.outcome else replace(one, lease=holders.get(one.lease.trial, one.lease)) for one in writes])

    operations.record = unfenced
