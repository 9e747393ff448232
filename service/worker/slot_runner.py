"""A slot: keeps a trainer, checks studies and runs trials on it, and retries a device that cannot be used."""

import logging
import os
import threading
import time
from collections.abc import Sequence

from service.domain.errors import StoreUnavailable, ThawlineError
from service.domain.records import Claim, Study, UnusableDevice
from service.domain.spec import ProgramStudy, StudySpec
from service.timing import Backoff
from service.worker.context import WorkerContext
from service.worker.devices import Slot
from service.worker.process import KILL_SECONDS, Death, TrainerDied, TrainerProcess
from service.worker.run import READ_SECONDS, TrainerRun
from service.worker.store_client import hung
from trainer.protocol import Check, Checked, DeviceUnusable, Failed, Unavailable
from trainer.remedies import remedy

log = logging.getLogger(__name__)

IDLE = (0.2, 1.0)  # first and longest delay between two attempts to find work, in seconds
CROWDED = (15.0, 240.0)  # first and longest pause of a slot after other processes held the memory of its GPU, in seconds
DEFERRED = (1.0, 60.0)  # first and longest pause of a slot after a trial that asked to be queued again, in seconds
RETRY = (1.0, 30.0)  # first and longest delay after an unexpected error, in seconds
SLOW_TEST_SECONDS = 60.0  # how long the CPU does not stand in for a device whose test has not ended; a cold driver takes long
MOST_FAILED_STARTS = 2  # of a trainer in succession, until its device counts as unusable
LOOK_SECONDS = 2.0  # interval at which a slot that waits for its device looks whether the worker drains
MOST_CRASHED_CHECKS = 2  # of a study in one worker, until the study fails
WANTED_SECONDS = 2.0  # interval at which a running check verifies that its study still exists and is not stopped
LATE_CHECK = (
    "the check of the study did not end within {seconds:g} seconds on this worker: reading {paths} is too slow or hangs; check that storage"
)


class SlotRunner:
    """Runs checks and trials on one slot. `work` runs in the slot's thread, which owns the trainer process."""

    def __init__(
        self,
        context: WorkerContext,
        slot: Slot,
        command: Sequence[str],
        process: TrainerProcess | None = None,
        first: "SlotRunner | None" = None,
        scripts: Sequence[str] = (),
    ) -> None:
        """`command` starts the slot's trainer; `process` is a trainer that was already started with it. It is empty without torch.

        `scripts` starts the process that runs scripts; empty if the worker runs none. `first` is the runner of the first slot on the same
        device, None for that slot itself. It starts its trainer before there is work, which tests the device; the others start theirs
        when they are needed and the device can be used.
        """
        self._context = context
        self.slot = slot
        self._command = tuple(command)
        self._process = process
        self._scripts = tuple(scripts)
        self._script_process: TrainerProcess | None = None
        self._first = first
        self._idle, self._retry, self._crowded = Backoff(*IDLE), Backoff(*RETRY), Backoff(*CROWDED)
        self._deferred = Backoff(*DEFERRED)
        self._paused_until = 0.0  # monotonic seconds; no trial is claimed before
        self._device_bytes = 0 if slot.gpu is None else slot.memory or 0
        self._failed_starts = 0
        self._retired = threading.Event()
        self._fault: UnusableDevice | None = None
        self._tested_since: float | None = None  # since when a slow test of the device is awaited

    @property
    def fault(self) -> UnusableDevice | None:
        """Why the slot cannot be used; None while it can or its device has not been tested yet."""
        return self._tester._fault

    @property
    def is_first(self) -> bool:
        """Whether it is the first slot of its device."""
        return self._first is None

    @property
    def is_retired(self) -> bool:
        """Whether it ends after its current trials."""
        return self._retired.is_set()

    @property
    def _tester(self) -> "SlotRunner":
        """The runner whose test of the device counts: this one, or the first of the device while this one has no trainer."""
        process = self._process  # its thread may replace it meanwhile
        has_trainer = process is not None and process.alive
        return self if self._first is None or self._fault is not None or has_trainer else self._first

    @property
    def is_blocked(self) -> bool:
        """Whether the device failed its test, or the test has been awaited for SLOW_TEST_SECONDS."""
        own = self._tester
        awaited = own._tested_since is not None and time.monotonic() - own._tested_since < SLOW_TEST_SECONDS
        return own._fault is not None and not awaited

    def retire(self) -> None:
        """End after the current trials. Thread-safe."""
        self._retired.set()

    def work(self) -> None:
        """Check studies and run trials until the worker leaves or drains, or the slot retires. Errors are logged."""
        leaving, draining = self._context.leaving, self._context.draining
        while not leaving.is_set() and not draining.is_set() and not self._retired.is_set():
            try:
                delay = None if self._one_task() else self._idle.delay()
                self._retry.reset()
            except TrainerDied as died:
                if self._fault is not None and self.slot.gpu is not None:  # its error is logged
                    self._await_device()
                    delay = 0.0
                else:
                    log.error("slot %d: %s", self.slot.index, died)
                    delay = self._retry.delay()
            except StoreUnavailable as error:
                log.warning("slot %d: the store is unavailable: %s", self.slot.index, error)
                delay = self._retry.delay()
            except Exception:
                log.exception("slot %d: unexpected error; the trainer is restarted", self.slot.index)
                self.kill()
                delay = self._retry.delay()
            if delay is None:
                self._idle.reset()
            else:
                self._context.wait_for_work(delay)
        self._close_process()
        self._close_scripts()

    def kill(self, wait_seconds: float = KILL_SECONDS) -> None:
        """Kill the trainer, and the process that runs scripts. Thread-safe."""
        for process in (self._process, self._script_process):
            if process is not None:
                process.kill(wait_seconds)

    def _ready_process(self) -> TrainerProcess:
        """The trainer process, started if necessary. Raises TrainerDied if it does not become ready."""
        if self._process is None or not self._process.alive:
            self._close_process()
            self._process = TrainerProcess(self._command, self.slot.environment(os.environ))
        process = self._process
        if not process.ready:
            try:
                self._await_ready(process)
            except TrainerDied as died:
                self._tested_since = None
                self._failed_starts += 1
                if self._fault is None and self._failed_starts >= MOST_FAILED_STARTS:
                    self._set_fault(died.death.detail, remedy(died.death.detail))
                raise
            if process.ready:
                self._clear_fault()
        return process

    def _await_ready(self, process: TrainerProcess) -> None:
        started_at = time.monotonic()
        while not process.ready and not self._context.leaving.is_set():
            if isinstance(line := process.read(READ_SECONDS), DeviceUnusable):
                self._set_fault(line.detail, line.remedy)
                self._tested_since = time.monotonic()  # until the process ends, which it does at once if the test failed
            if time.monotonic() - started_at > self._context.timeouts.start:
                process.kill()
                raise TrainerDied(Death("crashed", f"the trainer was not ready after {self._context.timeouts.start:g} seconds"))

    def _set_fault(self, detail: str, advice: str) -> None:
        self._fault = UnusableDevice(self.slot.label, self.slot.display, detail, advice)
        log.error("slot %d: %s cannot be used: %s. %s.", self.slot.index, self.slot.display, detail, advice)

    def _clear_fault(self) -> None:
        self._failed_starts, self._tested_since = 0, None
        if self._fault is not None:
            log.warning("slot %d: %s can be used now", self.slot.index, self.slot.display)
            self._fault = None

    def _await_device(self) -> None:
        """Wait before the next test of the device, and still look whether the worker drains."""
        self._close_process()
        deadline = time.monotonic() + self._context.timeouts.device_retry
        while time.monotonic() < deadline and not self._context.draining.is_set() and not self._context.leaving.wait(LOOK_SECONDS):
            try:
                if self._context.control.look(self._context.checks.under_way())[0]:
                    self._context.drain()
            except StoreUnavailable as error:
                log.warning("slot %d: the store is unavailable: %s", self.slot.index, error)

    def _close_process(self) -> None:
        if self._process is not None:
            self._process.close(grace_seconds=0.5)
            self._process = None

    def _close_scripts(self) -> None:
        if self._script_process is not None:
            self._script_process.close(grace_seconds=0.5)
            self._script_process = None

    def _ready_scripts(self) -> TrainerProcess:
        """The process that runs scripts, started if necessary: without torch that takes a fraction of a second. Raises TrainerDied."""
        if self._script_process is None or not self._script_process.alive:
            self._close_scripts()
            self._script_process = TrainerProcess(self._scripts, self.slot.environment(os.environ))
        if not self._script_process.ready:
            self._await_ready(self._script_process)
        return self._script_process

    def _one_task(self) -> bool:
        """Check a study or run trials. Returns whether there was work.

        Only the first slot of a device starts its trainer before there is work, because one trainer may be enough.
        """
        trainer = None
        if self._command and (self._process is not None or (first := self._first) is None or self._may_start(first)):
            trainer = self._ready_process()
        scripts = self._ready_scripts() if self._scripts else None
        trains = trainer is not None and trainer.ready
        if not trains and (scripts is None or not scripts.ready):
            return False
        draining, study = self._context.control.look(self._context.checks.under_way(), trains=trains)
        if draining:
            self._context.drain()
            return False
        if study is not None:
            with self._context.checks.begin(study.id) as reserved:
                if reserved:
                    self._check(study, self._process_for(study.spec))
            return True
        asked_at = time.monotonic()
        if asked_at < self._paused_until or not (claims := self._context.control.claim(self._device_bytes, trains=trains)):
            return False
        self._run(claims, self._process_for(claims[0].spec), asked_at)
        return True

    def _process_for(self, spec: StudySpec) -> TrainerProcess:
        """The process that checks the study and runs its trials, which is ready."""
        process = self._script_process if isinstance(spec, ProgramStudy) else self._process
        if process is None:
            raise RuntimeError(f"slot {self.slot.index} has no process for the task {spec.task}")
        return process

    def _may_start(self, first: "SlotRunner") -> bool:
        """Whether the slot, which is not the first one of its device, starts its trainer: for work, or to test the device again."""
        return first.fault is None and (self._fault is not None or self._is_needed())

    def _is_needed(self) -> bool:
        """Whether there is work for another trainer: a trial, or a second study to check."""
        control, checking = self._context.control, self._context.checks.under_way()
        if control.has_training(self._device_bytes):
            return True
        study = control.look(checking)[1] if checking else None
        return study is not None and not isinstance(study.spec, ProgramStudy)

    def _run(self, claims: Sequence[Claim], process: TrainerProcess, claimed_at: float) -> None:
        leases = self._context.leases
        held = [leases.take(claim.lease, process, claimed_at) for claim in claims]
        self._log_start(claims)
        try:
            run = TrainerRun(self._context, self.slot, process, claims, held)
            run.execute()
            if run.crowded:  # not claimed again at once, so that another slot can take it or the other processes can end
                self._paused_until = time.monotonic() + self._crowded.delay()
            elif run.deferred:
                self._paused_until = time.monotonic() + self._deferred.delay()
            else:
                self._crowded.reset()
                self._deferred.reset()
        finally:
            for lease in held:
                leases.drop(lease)

    def _log_start(self, claims: Sequence[Claim]) -> None:
        first = claims[0]
        if len(claims) == 1:
            log.info("trial %d of %s, attempt %d, on slot %d", first.lease.number, first.spec.name, first.lease.attempt, self.slot.index)
        else:
            numbers = ", ".join(str(claim.lease.number) for claim in claims)
            log.info("%d trials of %s together, on slot %d: %s", len(claims), first.spec.name, self.slot.index, numbers)

    def _check(self, study: Study, process: TrainerProcess) -> None:
        """Check the study's data and weights. An error in them fails the study; of several workers' results, the first one counts.

        If this worker cannot read them, or not within the time limit, it excludes the study and leaves the check to other workers.
        """
        log.info("checking %s", study.name)
        try:
            config = study.spec.check_config(smallest=study.id in self._context.checks.short_of_memory)
            order = Check(config=config, batch_sizes=study.spec.check_batch_sizes(), threads=self.slot.most_threads)
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
                config = study.spec.check_config()
                return hung(config, LATE_CHECK.format(paths=" or ".join(config.paths), seconds=limit))
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
        return Failed(reason=died.death.reason, detail=f"the check of the study failed: {died.death.detail}")
