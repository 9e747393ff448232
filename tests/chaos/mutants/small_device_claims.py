"""A trial that ran out of memory is claimed again by the device on which it did."""

from typing import Any

SCENARIO = "tests/operations/test_larger_device.py -k 'waits_for_the_larger and sqlite'"


def plant() -> None:
    from service import operations

    claim_together = operations.claim_together

    def any_device(*given: Any, **named: Any) -> Any:
        return claim_together(*given, **{**named, "device_bytes": 2**62})

    operations.claim_together = any_device
