"""A worker: starts its slots, and threads that renew leases, reap stale leases, clean up, and watch trust window and devices."""

import logging
import os
import secrets
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.records import UnusableDevice, Worker
from service.domain.states import WorkerState
from service.reaper import Reaper
from service.settings import Settings
from service.store import Store, queries
from service.store.migrate import upgrade
from service.worker import packing
from service.worker.context import DEFAULT_TIMEOUTS, Leases, Timeouts, WorkerContext
from service.worker.devices import Slot, SlotLayout
from service.worker.discovery import Unanswered
from service.worker.home import CheckpointFolder, Spool
from service.worker.packing import Card
from service.worker.process import KILL_SECONDS, TrainerProcess
from service.worker.scripts import AllowedScripts
from service.worker.slot_runner import SlotRunner
from service.worker.store_client import StoreClient, retry_while_unavailable

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.25
LEAVE_SECONDS = 9.0  # from `leave` until the trainers are killed
SWEEP_SECONDS = 600.0
RETRY_SECONDS = 1.0  # after a failed heartbeat
JOIN_SECONDS = 1.0  # how long to wait for the background threads to finish their database statements


def worker_id() -> str:
    """A unique id for this process."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class Supervisor:
    """Claims trials and trains them, until it leaves or has drained."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        layout: SlotLayout,
        command: Sequence[str] | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        trainer: TrainerProcess | None = None,
    ) -> None:
        """`command` replaces the command of the slots' trainers, for tests; empty without torch, where the worker runs only scripts.

        `trainer` is an already started trainer for the first slot. Raises OSError for a folder of scripts that does not exist.
        """
        self._scripts = AllowedScripts.below(settings.allow_scripts)
        self.id = worker_id()
        self._store = store
        self._settings = settings
        self._layout = layout
        self._started_at = time.time()
        self._leaving = threading.Event()
        self._wake = threading.Event()
        self._left = threading.Event()
        self._leases = Leases(settings.trust_seconds)
        self._command, self._timeouts, self._first_trainer = command, timeouts, trainer
        # With the thread of each; empty until the database's identity is known. Replaced as a whole, because several threads read it.
        self._runners: Mapping[SlotRunner, threading.Thread] = {}
        self._fallback: Sequence[SlotRunner] = ()  # the runners on the CPU while no accelerator can be used
        self._blocked = False  # whether no accelerator can be used
        self._slots_lock = threading.Lock()  # held while runners are added, retired or forgotten
        packed = [slot.gpu for slot in layout.slots if slot.gpu is not None and layout.packed_by]
        self._cards = {device.label: Card(device, workers=layout.packed_by) for device in packed}
        self._decided = dict[str, tuple[str, int, str]]()  # by device, the study, slots and reason of the last decision that was logged
        self._unsampled = set[str]()  # devices whose utilisation could not be measured

    def run(self, still_wanted: Callable[[], bool] = lambda: True) -> None:
        """Work until `leave` is called, `still_wanted` returns False, or the worker has drained; then release its trials. Blocks."""
        if (database := self._register()) is not None:
            self._open(database)
            self._start_slots(self._layout.slots, self._first_trainer)
            works = (self._renew, self._reap, self._tidy, self._retry_unavailable, self._follow_devices)
            background = [self._thread(work, work.__name__.strip("_")) for work in (*works, *([self._pack] if self._cards else []))]
            for thread in background:
                thread.start()
            self._watch(still_wanted)
            self._await_slots()
            self._retire()
            self._left.set()
            self._join_background(background)
        self._left.set()

    def _open(self, database: str) -> None:
        """Open the spool and checkpoints of this database."""
        spool = Spool(self._settings.home / "spool", database)
        self._control = StoreClient(self._store, self.id, spool, self._settings.lane_bytes, self._scripts)
        self._checkpoints = CheckpointFolder(self._settings.home / "checkpoints", database)
        self._context = WorkerContext(
            self._control, self._leases, self._checkpoints, self._timeouts, self._leaving, threading.Event(), self._wake, cards=self._cards
        )

    def _start_slots(self, slots: Sequence[Slot], trainer: TrainerProcess | None = None) -> Sequence[SlotRunner]:
        """Start a thread for each slot. `trainer` is an already started trainer for the first one."""
        started = dict[SlotRunner, threading.Thread]()
        with self._slots_lock:
            firsts = {runner.slot.label: runner for runner in self._runners if runner.is_first and not runner.is_retired}
            for slot in slots:
                command = slot.command(self._settings) if self._command is None else self._command
                scripts = self._scripts.command(slot, self._settings)
                runner = SlotRunner(self._context, slot, command, None if started else trainer, firsts.get(slot.label), scripts)
                firsts.setdefault(slot.label, runner)
                started[runner] = self._thread(runner.work, f"slot-{slot.index}")
            self._runners = {**self._runners, **started}
        for thread in started.values():
            thread.start()
        return tuple(started)

    def _forget_retired(self) -> None:
        """Forget the retired runners whose threads have ended."""
        with self._slots_lock:
            ended = {runner for runner, thread in self._runners.items() if runner.is_retired and not thread.is_alive()}
            if ended:
                self._runners = {runner: thread for runner, thread in self._runners.items() if runner not in ended}

    def leave(self) -> None:
        """Release the trials and end. Thread-safe. A signal handler must call it in another thread, because it acquires locks."""
        self._leaving.set()
        self._wake.set()

    def abandon(self) -> None:
        """Kill the trainers. A reaper finds their trials."""
        for wait_seconds in (0, KILL_SECONDS):  # first kills all of them, then waits for each
            for runner in list(self._runners) or filter(None, [self._first_trainer]):
                runner.kill(wait_seconds)

    def _thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        return threading.Thread(target=work, name=name, daemon=True)

    def _register(self) -> str | None:
        """Register the worker, retrying while the store is unavailable. Returns the database's identity, or None if `leave` was called."""
        record = self._record(self._layout.slots)

        def register() -> str:
            upgrade(self._settings.database_url)
            operations.register_worker(self._store, record)
            return self._store.read(queries.identity)

        return retry_while_unavailable(register, self._leaving)

    def _record(self, slots: Sequence[Slot], unusable: Sequence[UnusableDevice] = ()) -> Worker:
        """The worker with the slots that it can use."""
        return Worker(
            id=self.id, host=socket.gethostname(), pid=os.getpid(), slots=len(slots), devices=tuple(slot.label for slot in slots),
            memory=tuple(slot.memory for slot in slots), device_names=tuple(slot.display for slot in slots),
            unusable=(*self._layout.faults, *unusable), scripts=tuple(map(str, self._scripts.folders)),
            state=WorkerState.ALIVE, started_at=self._started_at, seen_at=self._started_at,
        )  # fmt: skip

    def _has_slots(self) -> bool:
        """Whether the thread of a slot has not ended."""
        return any(thread.is_alive() for thread in self._runners.values())

    def _watch(self, still_wanted: Callable[[], bool]) -> None:
        """Watch the trust window until the worker leaves. Does not use the database, so a database that hangs cannot block it."""
        while not self._leaving.wait(WATCH_SECONDS):
            self._leases.end_untrusted()
            if not still_wanted():
                log.info("the parent process has exited")
                self.leave()
            elif not self._has_slots():
                log.info("drained: the last trial has ended")
                self.leave()

    def _await_slots(self) -> None:
        """Wait up to LEAVE_SECONDS for the slots to release their trials, and still watch the trust window. Then kill the trainers."""
        log.info("shutting down: releasing unfinished trials")
        self._leases.leave()
        deadline = time.monotonic() + LEAVE_SECONDS
        while self._has_slots() and time.monotonic() < deadline:
            self._leases.end_untrusted()
            time.sleep(0.05)
        self.abandon()

    def _join_background(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for the threads, so that the caller can close the store; at most JOIN_SECONDS, because the database may hang."""
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _retire(self) -> None:
        try:
            operations.retire_worker(self._store, self.id)
        except StoreUnavailable as error:
            log.warning("the end of this worker could not be recorded: %s", error)

    def _renew(self) -> None:
        """Renew all leases every `heartbeat_seconds` until the slots have ended."""
        pause = 0.0
        while not self._left.wait(pause):
            # The time before the request: the store renews the leases later, so the trust window ends before they expire.
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
        """Find stale leases of all workers, and wake idle slots for the trials that are queued again."""
        reaper = Reaper(self._store, self._settings.lease_seconds)
        while not self._leaving.wait(self._settings.look_seconds):
            try:
                if reaper.sweep():
                    self._wake.set()
            except StoreUnavailable as error:
                log.warning("the store is unavailable, and the search for stale leases is delayed: %s", error)
            except Exception:
                log.exception("the search for stale leases failed")

    def _retry_unavailable(self) -> None:
        """Report the studies whose data or weights this worker cannot read, and retry reading them."""
        while not self._leaving.wait(WATCH_SECONDS):
            try:
                if self._control.unavailable.update():
                    self._wake.set()
            except StoreUnavailable as error:
                log.warning("the store is unavailable, and reporting studies with unreadable data is delayed: %s", error)
                self._leaving.wait(RETRY_SECONDS)
            except Exception:
                log.exception("retrying to read the data of unavailable studies failed")
                self._leaving.wait(RETRY_SECONDS)

    def _follow_devices(self) -> None:
        """Report devices that can no longer be used, or can be again, and use the CPU while no accelerator can be used."""
        reported = self._record(self._layout.slots)
        while not self._leaving.wait(WATCH_SECONDS):
            try:
                self._fall_back_or_return()
                self._forget_retired()
                own = [runner for runner in self._runners if not runner.is_retired and runner not in self._fallback]
                usable = [runner.slot for runner in (*own, *self._fallback) if runner.fault is None]
                if (record := self._record(usable, _faults_of(own))) != reported:
                    operations.change_devices(self._store, record)
                    reported = record
            except StoreUnavailable as error:
                log.warning("the store is unavailable, and reporting devices is delayed: %s", error)
                self._leaving.wait(RETRY_SECONDS)
            except Exception:
                log.exception("devices could not be reported")
                self._leaving.wait(RETRY_SECONDS)

    def _fall_back_or_return(self) -> None:
        """Start slots on the CPU when no accelerator can be used, and retire them when one can be."""
        accelerated = [runner for runner in self._runners if runner.slot.gpu is not None and not runner.is_retired]
        blocked = bool(accelerated) and all(runner.is_blocked for runner in accelerated)
        if blocked == self._blocked or self._context.draining.is_set():
            return
        self._blocked = blocked
        if blocked and self._layout.fallback:
            log.error("no GPU can be used: trials train on the CPU until one can, in %d slots", len(self._layout.fallback))
            self._fallback = self._start_slots(self._layout.fallback)
        elif blocked:
            log.error("no GPU can be used: this worker claims no trials until one can")
        else:
            log.warning("a GPU can be used now" + (": the slots on the CPU end after their trials" if self._fallback else ""))
            for runner in self._fallback:
                runner.retire()
            self._fallback = ()

    def _pack(self) -> None:
        """Sample the GPUs, and open and retire slots on them by what was measured."""
        while not self._leaving.wait(packing.SAMPLE_SECONDS):
            for card in self._cards.values():
                try:
                    self._sample(card)
                    if not self._context.draining.is_set():
                        self._change_slots(card)
                except Exception:
                    log.exception("the slots of %s could not be decided", card.device.display)

    def _sample(self, card: Card) -> None:
        try:
            card.sample(packing.read_card(card.device))
            self._unsampled.discard(card.device.label)
        except Unanswered as error:
            if card.device.label not in self._unsampled:
                log.warning("%s gets no further slots, because its utilisation cannot be measured: %s", card.device.display, error)
            self._unsampled.add(card.device.label)

    def _change_slots(self, card: Card) -> None:
        if (found := card.decision()) is None:
            return
        study, decision = found
        if self._decided.get(card.device.label) != (state := (study, card.slots, decision.reason)):
            self._decided[card.device.label] = state
            figures = f" ({decision.detail})" if decision.detail else ""
            effect = {-1: "a slot is retired", 0: "no change", 1: "a slot is opened"}[decision.change]
            log.info("%s, slots %d, study %s: %s: %s%s", card.device.display, card.slots, study, effect, decision.reason, figures)
        if decision.change > 0:
            self._open_slot(card)
        elif decision.change < 0:
            self._retire_slot(card)

    def _open_slot(self, card: Card) -> None:
        first = next(slot for slot in self._layout.slots if slot.label == card.device.label)
        used = {runner.slot.index for runner in self._runners} | {slot.index for slot in (*self._layout.slots, *self._layout.fallback)}
        card.opened()
        # The first order to each trainer sets its share of the memory.
        self._start_slots([replace(first, index=max(used) + 1, threads=max(1, first.threads // card.slots))])
        self._wake.set()

    def _retire_slot(self, card: Card) -> None:
        """Retire a further slot of the GPU, one that trains nothing if there is one."""
        with self._slots_lock:
            further = [one for one in self._runners if one.slot.gpu == card.device and not one.is_first and not one.is_retired]
            if further:
                min(reversed(further), key=lambda runner: card.is_busy(runner.slot.index)).retire()
                card.retired()

    def _tidy(self) -> None:
        """Deliver spooled outcomes and remove checkpoint files that are no longer needed, every SWEEP_SECONDS.

        Results that were set aside are tried once, because they may have been set aside by another version of Thawline.
        """
        again = True
        while True:
            try:
                self._control.deliver_spooled(again=again)
                again = False
                self._checkpoints.sweep(self._store)
            except StoreUnavailable as error:
                log.warning("the store is unavailable, and the clean-up is delayed: %s", error)
            except Exception:
                log.exception("the clean-up failed")
            if self._leaving.wait(SWEEP_SECONDS):
                return


def _faults_of(runners: Sequence[SlotRunner]) -> tuple[UnusableDevice, ...]:
    """One fault for each device with slots that cannot be used. Its name states their number if other slots of the device work."""
    on_device = defaultdict[str, list[UnusableDevice | None]](list)
    for runner in runners:
        on_device[runner.slot.label].append(runner.fault)
    found = list[UnusableDevice]()
    for slots in on_device.values():
        if faults := [fault for fault in slots if fault is not None]:
            part = "" if len(faults) == len(slots) else f"{len(faults)} of {len(slots)} slots on "
            found.append(replace(faults[0], name=part + faults[0].name))
    return tuple(found)
