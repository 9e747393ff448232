"""A trial that ran out of memory is claimed again by the device on which it did."""

from collections.abc import Callable

from service.domain.records import Claim, Study
from service.operations import Searches
from service.store import Store

SCENARIO = "tests/chaos/test_f21_larger_device.py -k 'too_large and sqlite'"


def plant() -> None:
    from service import operations

    claim_together = operations.claim_together

    def on_any_device(
        store: Store,
        searches: Searches,
        worker: str,
        lane_bytes: int,
        accepts: Callable[[Study], bool] = lambda study: True,
        device_bytes: int = 0,
    ) -> list[Claim]:
        return claim_together(store, searches, worker, lane_bytes, accepts, max(device_bytes, 2**62))

    operations.claim_together = on_any_device
