"""The trials that this worker holds, and until when it may believe so."""

import threading
import time
from collections.abc import Iterable
from enum import Enum, auto

from service.domain.records import Lease
from service.worker.process import TrainerProcess


class StopReason(Enum):
    """Why a run must end that has not ended by itself."""

    LEAVING = auto()  # the worker goes; the trial is handed back with a checkpoint
    UNTRUSTED = auto()  # the lease could not be renewed for too long; the trainer has been killed
    LOST = auto()  # another attempt has the trial, or it was cancelled; nothing may be written any more


ENDING = (StopReason.UNTRUSTED, StopReason.LOST)


class HeldLease:
    """A lease with the process that works on it, perhaps on others too. Its `halt` is set by other threads and only ever becomes graver."""

    def __init__(self, lease: Lease, process: TrainerProcess, renewed_at: float) -> None:
        self.lease = lease
        self.process = process
        self.renewed_at = renewed_at
        self._halt: StopReason | None = None
        self._lock = threading.Lock()

    @property
    def halt(self) -> StopReason | None:
        """Why the run must end; None while it may go on."""
        return self._halt

    def stop(self, why: StopReason) -> None:
        """Ask the run to end."""
        with self._lock:
            if self._halt is None or why.value > self._halt.value:
                self._halt = why


class Leases:
    """All holdings of a worker. A lease is trusted for `trust_seconds` of our own monotonic clock after its last renewal."""

    def __init__(self, trust_seconds: float) -> None:
        self._trust_seconds = trust_seconds
        self._held: dict[tuple[int, int], HeldLease] = {}
        self._leaving = False
        self._lock = threading.Lock()

    def take(self, lease: Lease, process: TrainerProcess, claimed_at: float) -> HeldLease:
        """Hold a lease that was claimed at `claimed_at` (monotonic seconds, taken before the claim was sent)."""
        holding = HeldLease(lease, process, claimed_at)
        with self._lock:
            self._held[lease.trial, lease.attempt] = holding
            if self._leaving:
                holding.stop(StopReason.LEAVING)
        return holding

    def drop(self, holding: HeldLease) -> None:
        """Hold it no more: its last word is written, or it is lost."""
        with self._lock:
            self._held.pop((holding.lease.trial, holding.lease.attempt), None)

    def held(self) -> list[Lease]:
        """The leases that are to be renewed."""
        with self._lock:
            return [holding.lease for holding in self._held.values()]

    def only_on(self, process: TrainerProcess) -> bool:
        """Whether no other process works on any of them."""
        with self._lock:
            return all(holding.process is process for holding in self._held.values())

    def renewed(self, asked: Iterable[Lease], lost: Iterable[Lease], at: float) -> None:
        """The store answered: of the leases `asked` for at `at` (monotonic seconds, before asking), these are lost."""
        gone = {(lease.trial, lease.attempt) for lease in lost}
        with self._lock:
            for key in [(lease.trial, lease.attempt) for lease in asked]:
                if (holding := self._held.get(key)) is not None:
                    if key in gone:
                        holding.stop(StopReason.LOST)
                    else:
                        holding.renewed_at = at

    def leave(self) -> None:
        """All runs end now, with a checkpoint, and so does each that begins."""
        with self._lock:
            self._leaving = True
            for holding in self._held.values():
                holding.stop(StopReason.LEAVING)

    def end_untrusted(self) -> None:
        """Kill the trainers whose leases may have run out: the store has not renewed them for too long. Asks nobody, waits for nothing.

        A lease that the store called lost is no reason: its run is ended by its own thread, and others may share the trainer.
        Killed under the lock: a lease that is held has its trainer at work on it, not on the next trial.
        """
        now = time.monotonic()
        with self._lock:
            held = list(self._held.values())
            overdue = [one for one in held if one.halt not in ENDING and now - one.renewed_at > self._trust_seconds]
            doomed = {one.process for one in overdue if not one.process.ready}  # ready: the training is over, it waits for the store
            for holding in held:
                if holding.process in doomed:
                    holding.stop(StopReason.UNTRUSTED)
            for process in doomed:
                process.kill(wait_seconds=0)
