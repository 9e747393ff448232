"""Objects that all slots of a worker share."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.worker.checkpoints import CheckpointFolder
from service.worker.leases import Leases
from service.worker.store_client import StoreClient


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a trainer may go without sending a message, in seconds."""

    start: float = 300.0  # until its first message; importing torch is slow on a busy machine
    prepare: float = 7_200.0  # while it decodes a dataset or downloads weights
    check: float = 7_200.0  # for the whole check of a study's data and weights, which sends no progress
    stall: float = 900.0  # between two batches
    grace: float = 5.0  # to end a run on request, before it is killed


DEFAULT_TIMEOUTS = Timeouts()


class Checks:
    """The studies that this worker is checking, and the number of crashes per study. Thread-safe.

    A study is checked by one slot only, so that a check that hangs or crashes repeatedly blocks at most one slot.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = set[str]()
        self._crashes = Counter[str]()
        self.short_of_memory = set[str]()  # studies whose check ran out of memory with the largest examples

    def under_way(self) -> frozenset[str]:
        """The ids of the studies that are being checked."""
        with self._lock:
            return frozenset(self._under_way)

    @contextmanager
    def begin(self, study: str) -> Iterator[bool]:
        """Reserve the check until the block ends. Yields False if another slot is checking the study."""
        with self._lock:
            mine = study not in self._under_way
            self._under_way.add(study)
        try:
            yield mine
        finally:
            if mine:
                with self._lock:
                    self._under_way.discard(study)

    def count_crash(self, study: str) -> int:
        """Count a crash. Returns the number of crashes of the study's check in this worker."""
        with self._lock:
            self._crashes[study] += 1
            return self._crashes[study]

    def forget_crashes(self, study: str) -> None:
        """Reset the count after a failed check, because the study may be resumed and checked again."""
        with self._lock:
            del self._crashes[study]


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The store client, leases, checkpoints, timeouts and events of one worker."""

    control: StoreClient
    leases: Leases
    checkpoints: CheckpointFolder
    timeouts: Timeouts
    leaving: threading.Event
    draining: threading.Event  # set when each slot should end after its current trials
    wake: threading.Event  # set when idle slots should look for work at once, and when the worker leaves or drains
    checks: Checks = field(default_factory=Checks)

    def drain(self) -> None:
        """Make every slot end after its current trials."""
        self.draining.set()
        self.wake.set()

    def wait_for_work(self, seconds: float) -> None:
        """Wait for `seconds`, or until `wake` is set."""
        self.wake.wait(seconds)
        # Stays set once the worker leaves or drains, so that no slot waits again.
        if not self.leaving.is_set() and not self.draining.is_set():
            self.wake.clear()
