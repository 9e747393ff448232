"""Our ends of the pipes to the supervisor: lines out, orders in."""

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Collection
from typing import assert_never

from pydantic import ValidationError

from trainer.protocol import LINES, ORDERS, Advanced, Answer, Cancel, Check, Checked, Exported, Lanes, Progress, Ready, Run, Stopped

ADVANCED_SECONDS = 0.25  # at most one Advanced line in so many
log = logging.getLogger(__name__)

Line = Progress | Checked | Exported | Stopped | Ready


class Lines:
    """What this process tells."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = list[bytes]()
        self._advanced_at = 0.0

    def hold(self, line: Line) -> None:
        """Tell the line together with the next one that is told: lanes speak in chorus, and one write wakes the supervisor once."""
        self._held.append(LINES.dump_json(line) + b"\n")

    def tell(self, *lines: Line) -> None:
        """Write what is held, and the lines, whole; some of the many Advanced are left out."""
        for line in lines:
            if not isinstance(line, Advanced) or self._is_time():
                self.hold(line)
        rest = memoryview(b"".join(self._held))
        self._held.clear()
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._advanced_at < ADVANCED_SECONDS:
            return False
        self._advanced_at = now
        return True


def private_output() -> int:
    """Keep standard output for our lines alone: whatever else prints, prints to standard error."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return private


class Unreadable(Exception):
    """What came in is no order."""


Task = Check | Run | Lanes | Unreadable


class Orders:
    """What the supervisor says, in the order in which it said it, read by a thread of its own."""

    def __init__(self) -> None:
        self._queue = queue.SimpleQueue[Task | Answer | Cancel]()
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def _read(self) -> None:
        with open(0, "rb", closefd=False) as stream:
            for line in stream:
                try:
                    self._queue.put(ORDERS.validate_json(line))
                except ValidationError as error:
                    self._queue.put(Unreadable(f"{error.error_count()} faults in an order: {error.errors(include_url=False)[0]['msg']}"))
        os._exit(0)  # the supervisor is gone, or wants this process gone

    def next_task(self) -> Task:
        """Wait for something to do. An answer or cancel that came too late for its run is passed over."""
        while True:
            match order := self._queue.get():
                case Check() | Run() | Lanes() | Unreadable():
                    return order
                case Answer() | Cancel():
                    continue
                case _:
                    assert_never(order)

    def cancels(self) -> list[Cancel]:
        """The cancels that have come for the present runs. Does not wait."""
        found = list[Cancel]()
        while not self._queue.empty():
            if isinstance(order := self._queue.get(), Cancel):
                found.append(order)
            elif isinstance(order, Answer):
                log.info("an answer to lane %d came after its end", order.lane)
            else:
                log.warning("an order that does not belong here was passed over: %s", type(order).__name__)
        return found

    def words(self, due: Collection[int]) -> list[Answer | Cancel]:
        """Wait until each of the lanes has its answer or is cancelled; what came, in that order, cancels of other lanes too."""
        waiting, found = set(due), list[Answer | Cancel]()
        while waiting:
            if isinstance(order := self._queue.get(), Answer | Cancel):
                found.append(order)
                waiting -= waiting if order.lane is None else {order.lane}
        return found
