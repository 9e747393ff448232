"""Results are acknowledged before they are committed."""

import threading
from collections.abc import Sequence

from service.domain.records import Lease
from service.operations import Write

SCENARIO = "tests/chaos/test_f01_kills.py -k sqlite"


def plant() -> None:
    from service.worker.store_client import StoreClient

    record = StoreClient.record

    def early(self: StoreClient, writes: Sequence[Write]) -> list[Lease]:
        if not any(write.outcome for write in writes):
            return record(self, writes)
        threading.Timer(0.3, record, (self, writes)).start()
        from tests.chaos.launch import facts_of, note

        for write in writes:
            note("acknowledged", **facts_of(write))
        return []

    StoreClient.record = early  # type: ignore[method-assign]
