"""A worker: its slots, and threads that renew leases, reap stale leases, clean up, and watch the trust window."""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence

from service import operations
from service.domain.errors import StoreUnavailable, ThawlineError
from service.domain.records import Claim, Study, Worker
from service.domain.states import WorkerState
from service.reaper import Reaper
from service.settings import Settings
from service.store import Store, queries
from service.store.migrate import upgrade
from service.timing import Backoff
from service.worker.context import DEFAULT_TIMEOUTS, Leases, Timeouts, WorkerContext
from service.worker.devices import Layout, Slot
from service.worker.home import CheckpointFolder, Spool
from service.worker.process import KILL_SECONDS, Death, TrainerDied, TrainerProcess
from service.worker.run import READ_SECONDS, TrainerRun
from service.worker.store_client import StoreClient, hung, retry_while_unavailable
from trainer.protocol import Check, Checked, Failed, Unavailable

log = logging.getLogger(__name__)

IDLE = (0.2, 1.0)  # first and longest delay between two attempts to find work, in seconds
RETRY = (1.0, 30.0)  # first and longest delay after an unexpected error, in seconds
MOST_CRASHED_CHECKS = 2  # of a study in one worker, until the study fails
WANTED_SECONDS = 2.0  # interval at which a running check verifies that its study still exists and is not stopped
LATE_CHECK = (
    "the check of data and weights did not end within {seconds:g} seconds on this worker: reading {study.data.path} or the weights is "
    "too slow or hangs; check that storage"
)


class SlotRunner:
    """Runs checks and trials on one slot. `work` runs in the slot's thread, which owns the trainer process."""

    def __init__(self, context: WorkerContext, slot: Slot, command: Sequence[str], process: TrainerProcess | None = None) -> None:
        """`command` starts the slot's trainer; `process` is a trainer that was already started with it."""
        self._context = context
        self._slot = slot
        self._command = tuple(command)
        self._process = process
        self._idle, self._retry = Backoff(*IDLE), Backoff(*RETRY)

    def work(self) -> None:
        """Check studies and run trials until the worker leaves or drains. Errors are logged and do not end the thread."""
        leaving, draining = self._context.leaving, self._context.draining
        while not leaving.is_set() and not draining.is_set():
            try:
                delay = None if self._one_task() else self._idle.delay()
                self._retry.reset()
            except TrainerDied as died:
                log.error("slot %d: %s", self._slot.index, died)
                delay = self._retry.delay()
            except StoreUnavailable as error:
                log.warning("slot %d: the store is unavailable: %s", self._slot.index, error)
                delay = self._retry.delay()
            except Exception:
                log.exception("slot %d: unexpected error; the trainer is restarted", self._slot.index)
                self.kill()
                delay = self._retry.delay()
            if delay is None:
                self._idle.reset()
            else:
                self._context.wait_for_work(delay)
        self._close_process()

    def kill(self, wait_seconds: float = KILL_SECONDS) -> None:
        """Kill the trainer. Thread-safe."""
        if (process := self._process) is not None:
            process.kill(wait_seconds)

    def _ready_process(self) -> TrainerProcess:
        """The trainer process, started if necessary. Raises TrainerDied if it does not become ready."""
        if self._process is None or not self._process.alive:
            self._close_process()
            self._process = TrainerProcess(self._command, self._slot.environment(os.environ))
        process, started_at = self._process, time.monotonic()
        while not process.ready and not self._context.leaving.is_set():
            process.read(READ_SECONDS)
            if time.monotonic() - started_at > self._context.timeouts.start:
                process.kill()
                raise TrainerDied(Death("crashed", f"the trainer was not ready after {self._context.timeouts.start:g} seconds"))
        return process

    def _close_process(self) -> None:
        if self._process is not None:
            self._process.close(grace_seconds=0.5)
            self._process = None

    def _one_task(self) -> bool:
        """Check a study or run trials. Returns whether there was work.

        Only the first slot starts its trainer before there is work, because one trainer may be enough.
        """
        if self._process is None and self._slot.index > 0 and not self._is_needed():
            return False
        process = self._ready_process()
        if not process.ready:
            return False
        draining, study = self._context.control.look(self._context.checks.under_way())
        if draining:
            self._context.drain()
            return False
        if study is not None:
            with self._context.checks.begin(study.id) as reserved:
                if reserved:
                    self._check(study, process)
            return True
        asked_at = time.monotonic()
        if not (claims := self._context.control.claim()):
            return False
        self._run(claims, process, asked_at)
        return True

    def _is_needed(self) -> bool:
        """Whether there is work for another trainer: a trial, or a second study to check."""
        control, checking = self._context.control, self._context.checks.under_way()
        return control.has_work() or (bool(checking) and control.look(checking)[1] is not None)

    def _run(self, claims: Sequence[Claim], process: TrainerProcess, claimed_at: float) -> None:
        leases = self._context.leases
        held = [leases.take(claim.lease, process, claimed_at) for claim in claims]
        self._log_start(claims)
        try:
            TrainerRun(self._context, self._slot, process, claims, held).execute()
        finally:
            for lease in held:
                leases.drop(lease)

    def _log_start(self, claims: Sequence[Claim]) -> None:
        first = claims[0]
        if len(claims) == 1:
            log.info("trial %d of %s, attempt %d, on slot %d", first.lease.number, first.spec.name, first.lease.attempt, self._slot.index)
        else:
            numbers = ", ".join(str(claim.lease.number) for claim in claims)
            log.info("%d trials of %s together, on slot %d: %s", len(claims), first.spec.name, self._slot.index, numbers)

    def _check(self, study: Study, process: TrainerProcess) -> None:
        """Check the study's data and weights. An error in them fails the study; of several workers' results, the first one counts.

        If this worker cannot read them, or not within the time limit, it excludes the study and leaves the check to other workers.
        """
        log.info("checking data and weights of %s", study.name)
        try:
            config = study.spec.check_config(smallest=study.id in self._context.checks.short_of_memory)
            order = Check(config=config, batch_sizes=study.spec.check_batch_sizes(), threads=self._slot.most_threads)
            process.send(order)
            result = self._await_check(study, process)
        except TrainerDied as died:
            result = self._crashed(study, died)
        if isinstance(result, Failed) and result.reason == "out_of_memory" and study.id not in self._context.checks.short_of_memory:
            # Only a part of the search space may have such large examples: its trials run out of memory, and the others can train.
            log.warning("the check of %s ran out of memory; it is repeated with the smallest examples", study.name)
            self._context.checks.short_of_memory.add(study.id)
            return
        try:
            if isinstance(result, Checked):
                self._context.control.pass_check(study, result)
            elif isinstance(result, Unavailable):
                self._context.control.unavailable.add(study.id, result)
            elif isinstance(result, Failed):
                self._context.checks.forget_crashes(study.id)  # the study may be resumed and checked again
                self._context.control.fail_study(study, result.detail)
        except StoreUnavailable:
            raise
        except ThawlineError as error:
            log.info("the result of the check of %s is not used: %s", study.name, error)

    def _await_check(self, study: Study, process: TrainerProcess) -> Checked | Failed | Unavailable | None:
        """The result of the check; None if the worker leaves or the study is stopped or deleted first.

        To stop a check its trainer is killed, because it may hang in a read from a dead disk.
        """
        result: Checked | Failed | Unavailable | None = None
        limit = self._context.timeouts.check
        started_at = verified_at = time.monotonic()
        while not process.ready and not self._context.leaving.is_set():
            line = process.read(READ_SECONDS)
            if isinstance(line, Checked | Failed | Unavailable):
                result = line
            now = time.monotonic()
            if now - started_at > limit:
                process.kill()
                detail = LATE_CHECK.format(study=study.spec, seconds=limit)
                return hung(study.spec.check_config(), detail)
            if now - verified_at > WANTED_SECONDS:
                verified_at = now
                if not self._is_wanted(study):
                    log.info("the check of %s was ended, because the study was stopped or deleted", study.name)
                    process.kill()
                    return None
        return result

    def _is_wanted(self, study: Study) -> bool:
        try:
            return self._context.control.wants_check(study)
        except StoreUnavailable:
            return True

    def _crashed(self, study: Study, died: TrainerDied) -> Failed | None:
        """The result for a crashed check: None for the first crash, which may be accidental, and Failed for the second one."""
        if died.death.reason == "out_of_memory" and study.id not in self._context.checks.short_of_memory:
            return Failed(reason="out_of_memory", detail=died.death.detail)
        crashes = self._context.checks.count_crash(study.id)
        log.warning("the check of %s crashed: %s", study.name, died)
        if crashes < MOST_CRASHED_CHECKS:
            return None
        return Failed(reason=died.death.reason, detail=f"the check of data and weights failed: {died.death.detail}")


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
        layout: Layout,
        command: Sequence[str] | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        trainer: TrainerProcess | None = None,
    ) -> None:
        """`command` replaces the command of the slots' trainers, for tests. `trainer` is an already started trainer for the first slot."""
        self.id = worker_id()
        self._store = store
        self._settings = settings
        self._layout = layout
        self._slots, self._faults = layout.slots, layout.faults
        self._leaving = threading.Event()
        self._wake = threading.Event()
        self._left = threading.Event()
        self._leases = Leases(settings.trust_seconds)
        self._command, self._timeouts, self._first_trainer = command, timeouts, trainer
        self._runners: tuple[SlotRunner, ...] = ()  # empty until the database's identity is known

    def run(self, still_wanted: Callable[[], bool] = lambda: True) -> None:
        """Work until `leave` is called, `still_wanted` returns False, or the worker has drained; then release its trials. Blocks."""
        if (database := self._register()) is not None:
            self._open(database)
            slot_threads = [self._thread(runner.work, f"slot-{number}") for number, runner in enumerate(self._runners)]
            background = [
                self._thread(work, work.__name__.strip("_")) for work in (self._renew, self._reap, self._tidy, self._retry_unavailable)
            ]
            for thread in (*slot_threads, *background):
                thread.start()
            self._watch(still_wanted, slot_threads)
            self._await_slots(slot_threads)
            self._retire()
            self._left.set()
            self._join_background(background)
        self._left.set()

    def _open(self, database: str) -> None:
        """Open the spool and checkpoints of this database, and create the slot runners."""
        self._control = StoreClient(self._store, self.id, Spool(self._settings.home / "spool", database), self._settings.lane_bytes)
        self._checkpoints = CheckpointFolder(self._settings.home / "checkpoints", database)
        context = WorkerContext(
            self._control, self._leases, self._checkpoints, self._timeouts, self._leaving, threading.Event(), self._wake
        )
        first_trainers = (self._first_trainer, *[None] * len(self._slots))
        self._runners = tuple(
            SlotRunner(context, slot, self._command or slot.command(self._settings), started)
            for slot, started in zip(self._slots, first_trainers, strict=False)
        )

    def leave(self) -> None:
        """Release the trials and end. Thread-safe. A signal handler must call it in another thread, because it acquires locks."""
        self._leaving.set()
        self._wake.set()

    def abandon(self) -> None:
        """Kill the trainers. A reaper finds their trials."""
        for wait_seconds in (0, KILL_SECONDS):  # first kills all of them, then waits for each
            for runner in self._runners or filter(None, [self._first_trainer]):
                runner.kill(wait_seconds)

    def _thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        return threading.Thread(target=work, name=name, daemon=True)

    def _register(self) -> str | None:
        """Register the worker, retrying while the store is unavailable. Returns the database's identity, or None if `leave` was called."""
        now = time.time()
        record = Worker(
            id=self.id, host=socket.gethostname(), pid=os.getpid(), slots=len(self._slots),
            devices=tuple(slot.label for slot in self._slots), memory=tuple(slot.memory for slot in self._slots),
            device_names=tuple(slot.display for slot in self._slots), unusable=self._faults,
            state=WorkerState.ALIVE, started_at=now, seen_at=now,
        )  # fmt: skip

        def register() -> str:
            upgrade(self._settings.database_url)
            operations.register_worker(self._store, record)
            return self._store.read(queries.identity)

        return retry_while_unavailable(register, self._leaving)

    def _watch(self, still_wanted: Callable[[], bool], slot_threads: Sequence[threading.Thread]) -> None:
        """Watch the trust window until the worker leaves. Does not use the database, so a database that hangs cannot block it."""
        while not self._leaving.wait(WATCH_SECONDS):
            self._leases.end_untrusted()
            if not still_wanted():
                log.info("the parent process has exited")
                self.leave()
            elif not any(thread.is_alive() for thread in slot_threads):
                log.info("drained: the last trial has ended")
                self.leave()

    def _await_slots(self, slot_threads: Sequence[threading.Thread]) -> None:
        """Wait up to LEAVE_SECONDS for the slots to release their trials, and still watch the trust window. Then kill the trainers."""
        log.info("shutting down: releasing unfinished trials")
        self._leases.leave()
        deadline = time.monotonic() + LEAVE_SECONDS
        while any(thread.is_alive() for thread in slot_threads) and time.monotonic() < deadline:
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
