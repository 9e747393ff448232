"""The pipes of the trainer's processes: orders and requests from standard input, messages to standard output. Imports no torch."""

import ctypes
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, assert_never

from pydantic import ValidationError

from trainer.protocol import (
    LINES,
    ORDERS,
    BatchedRuns,
    BatchProgress,
    Cancel,
    Check,
    Checked,
    DeviceUnusable,
    ModelExported,
    Progress,
    PruningDecision,
    Run,
    Stopped,
    TrainerReady,
)

ADVANCED_SECONDS = 0.25  # least time between two BatchProgress lines
PR_SET_PDEATHSIG = 1
log = logging.getLogger(__name__)

HostMessage = Progress | Checked | ModelExported | Stopped | TrainerReady | DeviceUnusable


def read_request() -> dict[str, Any]:
    """The JSON request on standard input, for a process that answers one. Ends it if there is none: the command was interrupted before."""
    text = sys.stdin.read()
    if not text:
        sys.exit(1)
    return dict(json.loads(text))


class MessageWriter:
    """Writes messages as JSON lines to a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = list[bytes]()
        self._advanced_at = 0.0

    def hold(self, line: HostMessage) -> None:
        """Buffer the line until the next `send`. One write for the messages of a whole round wakes the supervisor only once."""
        self._held.append(LINES.dump_json(line) + b"\n")

    def send(self, *lines: HostMessage) -> None:
        """Write the buffered lines and these. A BatchProgress within ADVANCED_SECONDS of the last one is dropped."""
        for line in lines:
            if not isinstance(line, BatchProgress) or self._is_time():
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
    """A private descriptor of standard output. Descriptor 1 is redirected to standard error, so that no library's output breaks a line."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return private


class UnreadableOrder(Exception):
    """A line on standard input is not a valid order."""


ReceivedOrder = Check | Run | BatchedRuns | UnreadableOrder


class Orders:
    """The supervisor's orders in the order of arrival, read from standard input by a thread."""

    def __init__(self, on_arrival: Callable[[], object] = lambda: None) -> None:
        """`on_arrival` is called in the thread after an order has arrived."""
        self._on_arrival = on_arrival
        self._queue = queue.SimpleQueue[ReceivedOrder | PruningDecision | Cancel]()
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def _read(self) -> None:
        with open(0, "rb", closefd=False) as stream:
            for line in stream:
                try:
                    self._queue.put(ORDERS.validate_json(line))
                except ValidationError as error:
                    first = error.errors(include_url=False)[0]["msg"]
                    self._queue.put(UnreadableOrder(f"{error.error_count()} faults in an order: {first}"))
                self._on_arrival()
        # End of file: the supervisor has exited or closed the pipe to stop this process. `os._exit` ends it at once, also while the main
        # thread is inside a kernel of torch; checkpoints and cache entries are written atomically.
        os._exit(0)

    def next_task(self, idle_seconds: float, on_idle: Callable[[], None]) -> ReceivedOrder:
        """Wait for the next task, and call `on_idle` once if none arrives in time.

        Decisions and cancels that arrived after the end of their run are dropped.
        """
        timeout: float | None = idle_seconds
        while True:
            try:
                order = self._queue.get(timeout=timeout)
            except queue.Empty:
                on_idle()
                timeout = None
                continue
            match order:
                case Check() | Run() | BatchedRuns() | UnreadableOrder():
                    return order
                case PruningDecision() | Cancel():
                    continue
                case _:
                    assert_never(order)

    def received(self) -> list[PruningDecision | Cancel]:
        """The decisions and cancels received for the current run. Does not wait."""
        found = list[PruningDecision | Cancel]()
        while not self._queue.empty():
            if isinstance(order := self._queue.get(), PruningDecision | Cancel):
                found.append(order)
            else:
                log.warning("an order was dropped, because a run is under way: %s", type(order).__name__)
        return found

    def cancels(self) -> list[Cancel]:
        """The cancels received for the current runs. Does not wait."""
        found = list[Cancel]()
        while not self._queue.empty():
            if isinstance(order := self._queue.get(), Cancel):
                found.append(order)
            elif isinstance(order, PruningDecision):
                log.info("a pruning decision for lane %d was dropped: its run has ended", order.lane)
            else:
                log.warning("an order was dropped, because runs are under way: %s", type(order).__name__)
        return found

    def decisions(self, due: Collection[int]) -> list[PruningDecision | Cancel]:
        """Wait until each of the lanes has its decision or is cancelled.

        Returns all decisions and cancels in the order of arrival, including cancels of other lanes.
        """
        waiting, found = set(due), list[PruningDecision | Cancel]()
        while waiting:
            if isinstance(order := self._queue.get(), PruningDecision | Cancel):
                found.append(order)
                waiting -= waiting if order.lane is None else {order.lane}
        return found


def ignore_signals_and_exit_with_supervisor() -> None:
    """Ignore SIGTERM and SIGINT, and exit when the supervisor dies.

    A terminal or service manager signals the whole process group. The supervisor then stops its trainers itself, so that runs can
    write their checkpoints. On Linux the kernel kills this process when the supervisor dies, even if the process hangs.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
