"""A worker makes itself known once; only what comes later is tried again."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SCENARIO = "tests/chaos/test_f04_postgresql.py -k stopped"


def plant() -> None:
    from service.worker import supervisor

    def once(call: Callable[[], T], leaving: threading.Event) -> T | None:
        return call()

    supervisor.retry_while_unavailable = once  # type: ignore[attr-defined]
