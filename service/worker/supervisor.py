"""A worker: its slots, and the threads that renew leases, reap and watch."""

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
from service.worker.checkpoints import CheckpointFolder
from service.worker.context import DEFAULT_TIMEOUTS, Timeouts, WorkerContext
from service.worker.devices import Slot, memory_of
from service.worker.leases import Leases
from service.worker.process import KILL_SECONDS, Death, TrainerDied, TrainerProcess
from service.worker.run import READ_SECONDS, TrainerRun
from service.worker.store_client import Spool, StoreClient, retry_while_unavailable
from service.worker.unavailable import hung
from trainer.protocol import Check, Checked, Failed, Unavailable

log = logging.getLogger(__name__)

IDLE = (0.2, 1.0)  # seconds between two looks for work
MENDING = (1.0, 30.0)  # seconds after something failed that should not fail
CHECKS_THAT_MAY_CRASH = 2  # in one worker
WANTED_SECONDS = 2.0  # how often a check looks whether its study still goes on
LATE_CHECK = (
    "the check of data and weights did not end within {seconds:g} seconds on this worker: reading {study.data.path} or the weights takes "
    "too long or hangs; see whether that storage answers"
)


class SlotRunner:
    """Takes work until the worker leaves. `work` is the slot's thread and owns the trainer process."""

    def __init__(self, place: WorkerContext, slot: Slot, command: Sequence[str], process: TrainerProcess | None = None) -> None:
        """`command` starts the slot's trainer; `process` is the first one, if it was started already."""
        self._place = place
        self._slot = slot
        self._command = tuple(command)
        self._process = process
        self._idle, self._mending = Backoff(*IDLE), Backoff(*MENDING)

    def work(self) -> None:
        """Until the worker leaves or drains: check a study, or run a trial, or wait. Nothing that happens here ends the thread."""
        leaving, draining = self._place.leaving, self._place.draining
        while not leaving.is_set() and not draining.is_set():
            try:
                delay = None if self._one_task() else self._idle.delay()
                self._mending.reset()
            except TrainerDied as died:
                log.error("slot %d: %s", self._slot.index, died)
                delay = self._mending.delay()
            except StoreUnavailable as error:
                log.warning("slot %d: the store does not answer (%s)", self._slot.index, error)
                delay = self._mending.delay()
            except Exception:
                log.exception("slot %d: unexpected; the trainer is started anew", self._slot.index)
                self.kill()
                delay = self._mending.delay()
            if delay is None:
                self._idle.reset()
            else:
                self._place.rest(delay)
        self._dismiss()

    def kill(self, wait_seconds: float = KILL_SECONDS) -> None:
        """End the trainer now, whatever it does. For any thread."""
        if (process := self._process) is not None:
            process.kill(wait_seconds)

    def _warm(self) -> TrainerProcess:
        """The process, started if there is none, ready. Raises TrainerDied when it does not become so."""
        if self._process is None or not self._process.alive:
            self._dismiss()
            self._process = TrainerProcess(self._command, self._slot.environment(os.environ))
        process, begun = self._process, time.monotonic()
        while not process.ready and not self._place.leaving.is_set():
            process.read(READ_SECONDS)
            if time.monotonic() - begun > self._place.patience.start:
                process.kill()
                raise TrainerDied(Death("crashed", f"the trainer was not ready after {self._place.patience.start:g} seconds"))
        return process

    def _dismiss(self) -> None:
        if self._process is not None:
            self._process.close(grace_seconds=0.5)
            self._process = None

    def _one_task(self) -> bool:
        """Whether there was anything to do. Only the first slot starts its trainer before there is: one may be all that is needed."""
        if self._process is None and self._slot.index > 0 and not self._is_needed():
            return False
        process = self._warm()
        if not process.ready:
            return False
        draining, study = self._place.control.look(self._place.checks.under_way())
        if draining:
            self._place.drain()
            return False
        if study is not None:
            with self._place.checks.begun(study.id) as mine:
                if mine:
                    self._check(study, process)
            return True
        asked_at = time.monotonic()
        if not (claims := self._place.control.claim()):
            return False
        self._run(claims, process, asked_at)
        return True

    def _is_needed(self) -> bool:
        """Whether there is work for one more trainer: a trial, or another study to check beside one that is being checked."""
        control, checking = self._place.control, self._place.checks.under_way()
        return control.has_work() or (bool(checking) and control.look(checking)[1] is not None)

    def _run(self, claims: Sequence[Claim], process: TrainerProcess, claimed_at: float) -> None:
        leases = self._place.leases
        holdings = [leases.take(claim.lease, process, claimed_at) for claim in claims]
        self._announce(claims)
        try:
            TrainerRun(self._place, self._slot, process, claims, holdings).to_the_end()
        finally:
            for holding in holdings:
                leases.drop(holding)

    def _announce(self, claims: Sequence[Claim]) -> None:
        first = claims[0]
        if len(claims) == 1:
            log.info("trial %d of %s, attempt %d, on slot %d", first.lease.number, first.spec.name, first.lease.attempt, self._slot.index)
        else:
            numbers = ", ".join(str(claim.lease.number) for claim in claims)
            log.info("%d trials of %s in one pass, on slot %d: %s", len(claims), first.spec.name, self._slot.index, numbers)

    def _check(self, study: Study, process: TrainerProcess) -> None:
        """Look at the study's data and weights; a fault stops the study. When several workers look at once, the first verdict counts.

        A worker that cannot read them, or not within the time limit, leaves the study alone, and its check to others.
        """
        log.info("checking data and weights of %s", study.name)
        try:
            config = study.spec.check_config(smallest=study.id in self._place.checks.short_of_memory)
            order = Check(config=config, batch_sizes=study.spec.check_batch_sizes(), threads=self._slot.most_threads)
            process.send(order)
            answer = self._answer_to_check(study, process)
        except TrainerDied as died:
            answer = self._crashed(study, died)
        if isinstance(answer, Failed) and answer.reason == "out_of_memory" and study.id not in self._place.checks.short_of_memory:
            # Large examples are perhaps one corner of the search space: its trials run out of memory, the others train.
            log.warning("the check of %s ran out of memory; it is repeated with the smallest examples", study.name)
            self._place.checks.short_of_memory.add(study.id)
            return
        try:
            if isinstance(answer, Checked):
                self._place.control.pass_check(study, answer)
            elif isinstance(answer, Unavailable):
                self._place.control.unavailable.add(study.id, answer)
            elif isinstance(answer, Failed):
                self._place.checks.forget_crashes(study.id)  # the study may be resumed and checked again
                self._place.control.fail_study(study, answer.detail)
        except StoreUnavailable:
            raise
        except ThawlineError as error:
            log.info("the check of %s came too late: %s", study.name, error)

    def _answer_to_check(self, study: Study, process: TrainerProcess) -> Checked | Failed | Unavailable | None:
        """The verdict; None when the worker leaves, or the study is stopped or deleted, before there is one.

        A check is not interrupted but killed: it may hang in a read of a dead disk.
        """
        verdict: Checked | Failed | Unavailable | None = None
        limit = self._place.patience.check
        began_at = asked_at = time.monotonic()
        while not process.ready and not self._place.leaving.is_set():
            line = process.read(READ_SECONDS)
            if isinstance(line, Checked | Failed | Unavailable):
                verdict = line
            now = time.monotonic()
            if now - began_at > limit:
                process.kill()
                detail = LATE_CHECK.format(study=study.spec, seconds=limit)
                return hung(study.spec.check_config(), detail)
            if now - asked_at > WANTED_SECONDS:
                asked_at = now
                if not self._is_wanted(study):
                    log.info("the check of %s ends, because the study was stopped or deleted", study.name)
                    process.kill()
                    return None
        return verdict

    def _is_wanted(self, study: Study) -> bool:
        try:
            return self._place.control.wants_check(study)
        except StoreUnavailable:
            return True

    def _crashed(self, study: Study, died: TrainerDied) -> Failed | None:
        """A crash may be chance; the second one is the study's."""
        if died.death.reason == "out_of_memory" and study.id not in self._place.checks.short_of_memory:
            return Failed(reason="out_of_memory", detail=died.death.detail)
        crashes = self._place.checks.count_crash(study.id)
        log.warning("the check of %s crashed: %s", study.name, died)
        if crashes < CHECKS_THAT_MAY_CRASH:
            return None
        return Failed(reason=died.death.reason, detail=f"the check of data and weights failed: {died.death.detail}")


WATCH_SECONDS = 0.25
LEAVE_SECONDS = 9.0  # from the word to leave until the trainers are killed
SWEEP_SECONDS = 600.0
RETRY_SECONDS = 1.0  # after a heartbeat that the store did not take
ASIDE_SECONDS = 1.0  # for the statements of renewing, reaping and tidying that are under way when the worker has left


def worker_id() -> str:
    """A name for this process that no other has had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class Supervisor:
    """Claims trials and has them trained, until told to leave."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        slots: Sequence[Slot],
        command: Sequence[str] | None = None,
        patience: Timeouts = DEFAULT_TIMEOUTS,
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
        self._control = StoreClient(self._store, self.id, Spool(self._settings.home / "spool", database), self._settings.lane_bytes)
        self._shelf = CheckpointFolder(self._settings.home / "checkpoints", database)
        place = WorkerContext(self._control, self._leases, self._shelf, self._patience, self._leaving, threading.Event(), self._stir)
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
        record = Worker(
            id=self.id, host=socket.gethostname(), pid=os.getpid(), slots=len(self._slots),
            devices=tuple(slot.device for slot in self._slots), memory=memory_of(slot.gpu for slot in self._slots),
            state=WorkerState.ALIVE, started_at=now, seen_at=now,
        )  # fmt: skip

        def register() -> str:
            upgrade(self._settings.database_url)
            operations.register_worker(self._store, record)
            return self._store.read(queries.identity)

        return retry_while_unavailable(register, self._leaving)

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
