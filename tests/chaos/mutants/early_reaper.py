"""A reaper takes a lease away after half of its time."""

from typing import Any

SCENARIO = "tests/chaos/test_f17_simulation.py -k promise"


def plant() -> None:
    from service.reaper import Reaper

    init = Reaper.__init__

    def hasty(self: Reaper, store: Any, lease_seconds: float, *more: Any, **named: Any) -> None:
        init(self, store, lease_seconds / 2, *more, **named)

    Reaper.__init__ = hasty  # type: ignore[method-assign]
