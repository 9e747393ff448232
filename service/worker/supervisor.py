"""The worker: a thread for each slot, one that renews leases, one that reaps, and a watch that asks nobody."""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence

from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.records import Worker as WorkerRecord
from service.domain.states import WorkerState
from service.reaper import Reaper
from service.settings import Settings
from service.store import Store, queries
from service.store.migrate import upgrade
from service.worker.checkpoints import Shelf
from service.worker.control_plane import ControlPlane, patiently
from service.worker.leases import Leases
from service.worker.memory import memory_of
from service.worker.place import USUAL, Patience, Workplace
from service.worker.process import KILL_SECONDS, TrainerProcess
from service.worker.runner import SlotRunner
from service.worker.slots import Slot
from service.worker.spool import Spool

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.25
LEAVE_SECONDS = 9.0  # from the word to leave until the trainers are killed
SWEEP_SECONDS = 600.0
RETRY_SECONDS = 1.0  # after a heartbeat that the store did not take
ASIDE_SECONDS = 1.0  # for the statements of renewing, reaping and tidying that are under way when the worker has left


def worker_id() -> str:
    """A name for this process that no other has had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class Worker:
    """Claims trials and has them trained, until told to leave."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        slots: Sequence[Slot],
        command: Sequence[str] | None = None,
        patience: Patience = USUAL,
        trainer: TrainerProcess | None = None,
    ) -> None:
        """`command` starts a trainer in place of the slot's own; tests give a toy. `trainer` was started already for the first one."""
        self.id = worker_id()
        self._store = store
        self._settings = settings
        self._slots = tuple(slots)
        self._leaving = threading.Event()
        self._stir = threading.Event()
        self._left = threading.Event()
        self._leases = Leases(settings.trust_seconds)
        self._command, self._patience, self._first_trainer = command, patience, trainer
        self._runners: tuple[SlotRunner, ...] = ()  # empty until the database's identity is known

    def run(self, still_wanted: Callable[[], bool] = lambda: True) -> None:
        """Work until `leave` is called, or the worker is not wanted any more, or has drained; then hand back what is unfinished. Blocks."""
        if (database := self._register()) is not None:
            self._open(database)
            busy = [self._thread(runner.work, f"slot-{number}") for number, runner in enumerate(self._runners)]
            aside = [self._thread(work, work.__name__.strip("_")) for work in (self._renew, self._reap, self._tidy, self._look_again)]
            for thread in (*busy, *aside):
                thread.start()
            self._watch(still_wanted, busy)
            self._await(busy)
            self._retire()
            self._left.set()
            self._await_aside(aside)
        self._left.set()

    def _open(self, database: str) -> None:
        """Open this database's spool and checkpoints below the home, and create the slots."""
        self._control = ControlPlane(self._store, self.id, Spool(self._settings.home / "spool", database), self._settings.lane_bytes)
        self._shelf = Shelf(self._settings.home / "checkpoints", database)
        place = Workplace(self._control, self._leases, self._shelf, self._patience, self._leaving, threading.Event(), self._stir)
        first_trainers = (self._first_trainer, *[None] * len(self._slots))
        self._runners = tuple(
            SlotRunner(place, slot, self._command or slot.command(self._settings), started)
            for slot, started in zip(self._slots, first_trainers, strict=False)
        )

    def leave(self) -> None:
        """Hand the trials back and end. May be called from a signal handler or another thread."""
        self._leaving.set()
        self._stir.set()

    def abandon(self) -> None:
        """Kill the trainers now. Their trials are found by a reaper."""
        for wait_seconds in (0, KILL_SECONDS):  # all at once, then look that they have gone
            for runner in self._runners or filter(None, [self._first_trainer]):
                runner.kill(wait_seconds)

    def _thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        return threading.Thread(target=work, name=name, daemon=True)

    def _register(self) -> str | None:
        """Register the worker, however long the store takes to answer; the database's identity, None when told to leave before."""
        now = time.time()
        record = WorkerRecord(
            id=self.id, host=socket.gethostname(), pid=os.getpid(), slots=len(self._slots),
            devices=tuple(slot.device for slot in self._slots), memory=memory_of(slot.gpu for slot in self._slots),
            state=WorkerState.ALIVE, started_at=now, seen_at=now,
        )  # fmt: skip

        def register() -> str:
            upgrade(self._settings.database_url)
            operations.register_worker(self._store, record)
            return self._store.read(queries.identity)

        return patiently(register, self._leaving)

    def _watch(self, still_wanted: Callable[[], bool], busy: Sequence[threading.Thread]) -> None:
        """Look at clocks only: a database that hangs cannot stop this."""
        while not self._leaving.wait(WATCH_SECONDS):
            self._leases.end_untrusted()
            if not still_wanted():
                log.info("the process that this worker belongs to has gone")
                self.leave()
            elif not any(thread.is_alive() for thread in busy):
                log.info("drained: the last trial has ended")
                self.leave()

    def _await(self, busy: Sequence[threading.Thread]) -> None:
        """Give the slots their time to hand back; the trust window goes on to hold."""
        log.info("leaving: handing back what is unfinished")
        self._leases.leave()
        deadline = time.monotonic() + LEAVE_SECONDS
        while any(thread.is_alive() for thread in busy) and time.monotonic() < deadline:
            self._leases.end_untrusted()
            time.sleep(0.05)
        self.abandon()

    def _await_aside(self, aside: Sequence[threading.Thread]) -> None:
        """Let statements under way end, so that the caller can close the store; not for long, because the database may hang."""
        deadline = time.monotonic() + ASIDE_SECONDS
        for thread in aside:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _retire(self) -> None:
        try:
            operations.retire_worker(self._store, self.id)
        except StoreUnavailable as error:
            log.warning("the store does not know that this worker has left (%s)", error)

    def _renew(self) -> None:
        """Renew all leases each `heartbeat_seconds` until the last one is handed back."""
        pause = 0.0
        while not self._left.wait(pause):
            asked_at, leases = time.monotonic(), self._leases.held()
            try:
                lost = self._control.heartbeat(leases)
                self._leases.renewed(leases, lost, asked_at)
                pause = self._settings.heartbeat_seconds
            except StoreUnavailable as error:
                log.warning("leases could not be renewed: %s", error)
                pause = min(RETRY_SECONDS, self._settings.heartbeat_seconds)
            except Exception:
                log.exception("leases could not be renewed")
                pause = min(RETRY_SECONDS, self._settings.heartbeat_seconds)

    def _reap(self) -> None:
        """Look for leases that stand still, those of other workers included. Idle slots take up what it finds without delay."""
        reaper = Reaper(self._store, self._settings.lease_seconds)
        while not self._leaving.wait(self._settings.look_seconds):
            try:
                if reaper.sweep():
                    self._stir.set()
            except StoreUnavailable as error:
                log.warning("the sweep for lost trials must wait: %s", error)
            except Exception:
                log.exception("the sweep for lost trials failed")

    def _look_again(self) -> None:
        """Report the studies whose data or weights this worker cannot read, and try to read them again."""
        while not self._leaving.wait(WATCH_SECONDS):
            try:
                if self._control.unavailable.tend():
                    self._stir.set()
            except StoreUnavailable as error:
                log.warning("studies that cannot be read here will be reported later: %s", error)
                self._leaving.wait(RETRY_SECONDS)
            except Exception:
                log.exception("trying to read the data of unavailable studies failed")
                self._leaving.wait(RETRY_SECONDS)

    def _tidy(self) -> None:
        """Deliver what is spooled and remove checkpoints that nobody needs, now and then.

        What was set aside is tried again once: another version of Thawline may be able to read it.
        """
        again = True
        while True:
            try:
                self._control.deliver_spooled(again=again)
                again = False
                self._shelf.sweep(self._store)
            except StoreUnavailable as error:
                log.warning("tidying up must wait: %s", error)
            except Exception:
                log.exception("tidying up failed")
            if self._leaving.wait(SWEEP_SECONDS):
                return
