"""What the slots of a worker share."""

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
    """How long a silent trainer is given, in seconds."""

    start: float = 300.0  # until its first line: importing torch on a busy machine
    prepare: float = 7_200.0  # while it decodes a data set, or downloads weights
    check: float = 7_200.0  # for the whole check of a study's data and weights, which reports nothing on its way
    stall: float = 900.0  # between two batches
    grace: float = 5.0  # to end a run when told; then it is killed


DEFAULT_TIMEOUTS = Timeouts()


class Checks:
    """The studies that slots of this worker are checking, and how often their checks crashed. Safe to share between threads.

    One slot checks a study and the others work meanwhile, so that a check that hangs or crashes again and again takes one slot at most.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = set[str]()
        self._crashes = Counter[str]()
        self.short_of_memory = set[str]()  # studies whose largest examples did not fit into memory when they were checked

    def under_way(self) -> frozenset[str]:
        """The studies' keys."""
        with self._lock:
            return frozenset(self._under_way)

    @contextmanager
    def begun(self, study: str) -> Iterator[bool]:
        """Whether the check is the caller's, until the block ends; False when another slot has it under way."""
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
        """How often the study's check has crashed in this worker, this time included."""
        with self._lock:
            self._crashes[study] += 1
            return self._crashes[study]

    def forget_crashes(self, study: str) -> None:
        """The study has its verdict; it may be resumed and checked again."""
        with self._lock:
            del self._crashes[study]


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The store, the leases, the checkpoints and the clocks of one worker."""

    control: StoreClient
    leases: Leases
    shelf: CheckpointFolder
    patience: Timeouts
    leaving: threading.Event
    draining: threading.Event  # set when slots shall end once their trials have
    wake: threading.Event  # set when idle slots should look for work at once, and when the worker leaves or drains
    checks: Checks = field(default_factory=Checks)

    def drain(self) -> None:
        """Let every slot end once its trials have."""
        self.draining.set()
        self.wake.set()

    def rest(self, seconds: float) -> None:
        """Wait for so long, or until there is a reason to look up."""
        self.wake.wait(seconds)
        if not self.leaving.is_set() and not self.draining.is_set():
            self.wake.clear()
