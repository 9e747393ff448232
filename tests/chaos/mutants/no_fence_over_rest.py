"""What a claim sends is taken for whichever attempt has the trial now."""

from dataclasses import replace

from service.operations import Idempotency, Write
from service.store import Store, queries
from service.store.rows import HeldTrial

SCENARIO = "tests/chaos/test_f22_claims.py -k sqlite"


def plant() -> None:
    from service.operations import claims, recording

    record = recording.record_over_rest

    def unfenced(store: Store, write: Write, idempotency: Idempotency) -> HeldTrial:
        holders = {lease.trial: lease for lease, _ in store.read(queries.running_leases)}
        return record(store, replace(write, lease=holders.get(write.lease.trial, write.lease)), idempotency)

    claims.record_over_rest = unfenced  # type: ignore[attr-defined]
