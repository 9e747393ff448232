"""A worker trusts a lease that it cannot renew for longer than reapers leave it alone."""

from service.settings import Settings

SCENARIO = "tests/chaos/test_f17_simulation.py -k promise"


def plant() -> None:
    Settings.trust_seconds = property(lambda self: self.lease_seconds + 2 * self.heartbeat_seconds)  # type: ignore[assignment,method-assign]
