"""State that the slots of a worker share: held leases, checks under way, and timeouts."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from service.domain.records import Lease
from service.worker.home import CheckpointFolder
from service.worker.packing import Card
from service.worker.process import TrainerProcess
from service.worker.store_client import StoreClient


class StopReason(Enum):
    """Why another thread stops a run. A greater value takes precedence."""

    # LOST is the greatest: after it nothing may be written, whatever reason was set before.

    LEAVING = auto()  # the worker shuts down; the trial is released with a checkpoint
    UNTRUSTED = auto()  # the lease was not renewed for the trust window; the trainer has been killed
    LOST = auto()  # another attempt holds the trial, or it was cancelled; nothing may be written any more


ENDING = (StopReason.UNTRUSTED, StopReason.LOST)


class HeldLease:
    """A lease and the process that trains the trial, possibly together with others. Other threads stop the run by calling `stop`."""

    def __init__(self, lease: Lease, process: TrainerProcess, renewed_at: float) -> None:
        self.lease = lease
        self.process = process
        self.renewed_at = renewed_at
        self._halt: StopReason | None = None  # only ever replaced by a reason of higher precedence
        self._lock = threading.Lock()

    @property
    def halt(self) -> StopReason | None:
        """Why the run must end; None while it may continue."""
        return self._halt

    def stop(self, reason: StopReason) -> None:
        """Ask the run to end. A reason of lower precedence than the current one is ignored."""
        with self._lock:
            if self._halt is None or reason.value > self._halt.value:
                self._halt = reason


class Leases:
    """The held leases of a worker. A lease is trusted for `trust_seconds` of the local monotonic clock after its last renewal."""

    def __init__(self, trust_seconds: float) -> None:
        self._trust_seconds = trust_seconds
        self._held: dict[tuple[int, int], HeldLease] = {}
        self._leaving = False
        self._lock = threading.Lock()

    def take(self, lease: Lease, process: TrainerProcess, claimed_at: float) -> HeldLease:
        """Hold a lease that was claimed at `claimed_at` (monotonic seconds, taken before the claim was sent).

        The store starts the lease after that time, so the trust window ends before the lease expires in the store.
        """
        held = HeldLease(lease, process, claimed_at)
        with self._lock:
            self._held[lease.trial, lease.attempt] = held
            if self._leaving:
                held.stop(StopReason.LEAVING)
            elif time.monotonic() - claimed_at > self._trust_seconds:
                # The machine stood still between the claim and its answer: another worker may train this trial by now.
                held.stop(StopReason.UNTRUSTED)
                process.kill(wait_seconds=0)
        return held

    def drop(self, held: HeldLease) -> None:
        """Stop holding the lease: the outcome is written, or the lease is lost."""
        with self._lock:
            self._held.pop((held.lease.trial, held.lease.attempt), None)

    def held(self) -> list[Lease]:
        """The leases to renew."""
        with self._lock:
            return [held.lease for held in self._held.values()]

    def only_on(self, process: TrainerProcess) -> bool:
        """Whether all held leases belong to this process."""
        with self._lock:
            return all(held.process is process for held in self._held.values())

    def renewed(self, asked: Iterable[Lease], lost: Iterable[Lease], at: float) -> None:
        """Note the result of a renewal of `asked` that was sent at `at` (monotonic seconds): all except `lost` are renewed."""
        gone = {(lease.trial, lease.attempt) for lease in lost}
        # Only leases in `asked`: one that was taken after the request keeps the time of its claim.
        with self._lock:
            for key in [(lease.trial, lease.attempt) for lease in asked]:
                if (held := self._held.get(key)) is not None:
                    if key in gone:
                        held.stop(StopReason.LOST)
                    else:
                        held.renewed_at = at

    def leave(self) -> None:
        """Stop all runs, and those that start later, with reason LEAVING."""
        with self._lock:
            self._leaving = True
            for held in self._held.values():
                held.stop(StopReason.LEAVING)

    def end_untrusted(self) -> None:
        """Kill the trainers of leases that were not renewed for the trust window and so may have expired. Does not block.

        A lost lease is no reason to kill: its own thread ends the run, and other trials may share the trainer.
        """
        now = time.monotonic()
        with self._lock:
            all_held = list(self._held.values())
            overdue = [held for held in all_held if held.halt not in ENDING and now - held.renewed_at > self._trust_seconds]
            # A process that is ready has finished training; its run only waits for the store.
            killed = {held.process for held in overdue if not held.process.ready}
            for held in all_held:
                if held.process in killed:
                    held.stop(StopReason.UNTRUSTED)
            # Killed under the lock: while a lease is held, its trainer works on that trial and not on the next one.
            for process in killed:
                process.kill(wait_seconds=0)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a trainer may go without sending a message, and the pause after a failed test of a device, in seconds."""

    start: float = 300.0  # until its first message; importing torch is slow on a busy machine
    prepare: float = 7_200.0  # while it decodes a dataset or downloads weights
    check: float = 7_200.0  # for the whole check of a study's data and weights, which sends no progress
    stall: float = 900.0  # between two batches
    grace: float = 5.0  # to end a run on request, before it is killed
    device_retry: float = 180.0  # between two tests of a device that cannot be used


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


MOST_CROWDED = 3  # times that a worker releases a trial because other processes hold the GPU's memory; then the failure counts


class CrowdedTrials:
    """How often this worker's trials ran out of a GPU's memory that other processes held. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times = Counter[tuple[str, int]]()

    def count_and_release(self, lease: Lease) -> bool:
        """Count the failure. Returns whether the trial is released, because it has not happened more than MOST_CROWDED times."""
        with self._lock:
            self._times[lease.study, lease.trial] += 1
            return self._times[lease.study, lease.trial] <= MOST_CROWDED


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
    crowded: CrowdedTrials = field(default_factory=CrowdedTrials)
    cards: Mapping[str, Card] = field(default_factory=dict)  # by label; empty unless the number of slots on a GPU is automatic

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
