"""A heartbeat is acknowledged whether or not the lease is held."""

from typing import Any

SCENARIO = "tests/chaos/test_f22_claims.py -k sqlite"


def plant() -> None:
    from service.store import registry

    count = registry.count_heartbeats

    def acknowledged(*arguments: Any) -> list[Any]:
        count(*arguments)
        return []

    registry.count_heartbeats = acknowledged  # type: ignore[assignment]
