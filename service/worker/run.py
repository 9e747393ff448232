"""Runs claimed trials on a trainer process, one alone or several together, and records their reports and outcomes."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence

from service.domain.errors import StoreUnavailable
from service.domain.records import Claim, Lease
from service.domain.spec import ProgramStudy
from service.operations import Pruned, Released, Write
from service.timing import Backoff
from service.worker.context import HeldLease, StopReason, WorkerContext
from service.worker.devices import Slot
from service.worker.process import TrainerDied, TrainerMessage, TrainerProcess
from service.worker.store_client import FIRST_RETRY, LAST_RETRY, hung
from service.worker.trial_run import ALONE, NO_RESULT, TrialLogs, TrialMessage, TrialRun
from trainer.protocol import (
    BatchedRuns,
    BatchProgress,
    Cancel,
    Checked,
    Deferred,
    DeviceUnusable,
    EpochMetrics,
    Failed,
    Finished,
    ModelExported,
    PruningDecision,
    Run,
    RunPrepared,
    Stopped,
    TrainerReady,
    Unavailable,
)

log = logging.getLogger(__name__)

READ_SECONDS = 0.2
WRITING_SHARE = 0.25  # greatest share of time spent on writing unless the trainer waits; many runs with short epochs have much to write
UNTRUSTED = "killed and released, because the lease could not be renewed in time"
LEAVING = "released, because the worker is shutting down"
LONGEST_DECISION_RETRY = 1.0  # seconds between two attempts while the trainer waits for a pruning decision


class TrainerRun:
    """One order to a trainer, until the outcomes of its trials are recorded. Used by one slot's thread only.

    Other threads stop a trial through its HeldLease. A trial that is pruned, diverges, is cancelled or exceeds its time limit ends
    without affecting the others. If the process fails while it runs several trials, the cause is unknown, so all of them are released
    and later run alone.
    """

    def __init__(
        self, context: WorkerContext, slot: Slot, process: TrainerProcess, claims: Sequence[Claim], held: Sequence[HeldLease]
    ) -> None:
        """`claims` are of one study; `held[i]` is the lease of `claims[i]`."""
        self._context, self._control, self._checkpoints = context, context.control, context.checkpoints
        self._process = process
        self._accelerator = "cpu" if slot.gpu is None else "cuda"
        self._most_threads = slot.most_threads
        self._is_program = isinstance(claims[0].spec, ProgramStudy)
        # The figures of a script's use of a GPU are not known.
        self._card = None if self._is_program else context.cards.get(slot.label)
        self._slot, self._study = slot.index, claims[0].lease.study
        pairs = zip(claims, held, strict=True)
        self._shared = len(claims) > 1
        self._runs = tuple(TrialRun(index, claim, lease, shared=self._shared) for index, (claim, lease) in enumerate(pairs))
        self._logs = TrialLogs(process, self._runs)
        self._name = ", ".join(run.name for run in self._runs[:3]) + (" and others" if len(self._runs) > 3 else "")
        self._earlier: dict[int, Mapping[int, float]] = {}  # by run, the objective at the steps of earlier attempts
        self._began_at = time.monotonic()
        self.crowded = False  # a trial was released because others hold the memory of the GPU
        self.deferred = False  # the trial asked to be queued again
        self._packed = False  # these are other trials of this worker
        self._advanced = False
        self._prepared = False  # the trainer has read data and weights
        self._control_seconds = 0.0
        self._retry_at = 0.0  # monotonic seconds; the earliest next attempt after the store was unavailable
        self._write_at = 0.0  # monotonic seconds; the earliest next write, unless the trainer waits
        self._backoff = Backoff(FIRST_RETRY, LAST_RETRY)

    def execute(self) -> None:
        """Train, record reports, and record the outcomes. Returns when they are recorded, or spooled because the worker leaves."""
        if self._card is not None:
            self._card.began(self._slot, self._study, self._runs[0].claim.spec.name)
        try:
            try:
                self._train()
            except TrainerDied as died:
                self._end_after_death(died)
            self._conclude()
            self._clean_up()
        finally:
            if self._card is not None:
                self._card.ended(self._slot)

    @property
    def _open(self) -> list[TrialRun]:
        return [run for run in self._runs if run.open]

    def _train(self) -> None:
        if all(run.held.halt is None for run in self._runs):
            self._process.send(self._order())
            for run in self._runs:
                run.training = True
        self._apply_stop_requests()
        while self._open:
            for line in self._process.read_all(READ_SECONDS):
                self._on_message(line)
            self._logs.gather()
            # Before the write: a slow store must not make a trainer look hung that has sent messages meanwhile.
            self._end_overdue()
            self._write_to_store()
            self._apply_stop_requests()
            self._end_in_the_trainer()

    def _order(self) -> Run | BatchedRuns:
        orders = tuple(run.order(self._checkpoints) for run in self._runs)
        share = None if self._card is None else self._card.share
        if not self._shared:
            return orders[0].model_copy(update={"device_share": share})
        free = self._context.leases.only_on(self._process)  # more threads than cores would slow each other down
        return BatchedRuns(runs=orders, threads=self._most_threads if free else None, device_share=share)

    def _on_message(self, line: TrainerMessage) -> None:
        match line:
            case BatchProgress():
                self._advanced = True
                if self._card is not None:
                    self._card.trained(self._slot)
            case TrainerReady():
                for run in self._open:
                    run.end(Failed(reason="crashed", detail=NO_RESULT, step=run.step))
            case Checked() | ModelExported() | DeviceUnusable():  # answers to other orders
                pass
            case _:
                if line.lane < len(self._runs):
                    run = self._runs[line.lane]
                    self._note_availability(run, line)
                    run.training = run.training and not isinstance(line, Finished | Failed | Unavailable | Deferred | Stopped)
                    self._note_on_card(line)
                    self.deferred = self.deferred or isinstance(line, Deferred)
                    if isinstance(line, Failed) and run.open:
                        self._release_crowded(run, line)
                    run.on_message(line, self._accelerator, self._control_seconds)

    def _note_on_card(self, line: TrialMessage) -> None:
        """Report what the number of slots on the GPU depends on."""
        if self._card is not None and isinstance(line, EpochMetrics):
            self._card.trained(self._slot, epochs=1)
        elif self._card is not None and isinstance(line, Finished):
            self._card.finished(self._study, line.device_memory)

    def _release_crowded(self, run: TrialRun, failure: Failed) -> None:
        """Release the trial if others hold a part of the memory that ran out: of this worker's trials always, else a few times."""
        if self._is_packed(failure.reason):
            run.release_crowded(failure.detail, "trials")
        elif failure.crowded and self._context.crowded.count_and_release(run.claim.lease):
            self.crowded = True
            run.release_crowded(failure.detail)

    def _is_packed(self, reason: str) -> bool:
        """Whether a lack of memory arose while other trials of this worker shared the GPU, whose number of slots is then lowered."""
        if reason != "out_of_memory" or self._card is None or not (self._packed or self._card.exhausted(self._study)):
            return False
        self.crowded = self._packed = True
        return True

    def _note_availability(self, run: TrialRun, line: TrainerMessage) -> None:
        """Note whether this worker can read the study's data and weights.

        Called before the trial is released, so that this worker does not claim it again.
        """
        if isinstance(line, Unavailable):
            self._control.unavailable.add(run.claim.lease.study, line)
        elif isinstance(line, RunPrepared):
            self._prepared = True
            self._control.unavailable.was_read(run.claim.lease.study)

    def _end_overdue(self) -> None:
        minutes = self._runs[0].claim.spec.limits.minutes
        if minutes is not None and time.monotonic() - self._began_at > minutes * 60:
            for run in self._open:
                run.end(Failed(reason="timeout", detail=f"the trial ran longer than limits.minutes ({minutes:g})", step=run.step))
        if self._is_program:  # it may report nothing for hours; limits.minutes bounds it
            return
        stall = self._context.timeouts.stall if self._advanced else self._context.timeouts.prepare
        # A trainer that waits for a pruning decision sends nothing, however long the store takes, and is not hung.
        if self._process.hung(stall) and self._open and not self._awaits_decision():
            silent = f"the trainer sent no message for {stall:g} seconds"
            log.warning("%s: %s", self._name, silent)
            self._process.kill()
            if not self._prepared:
                self._release_unread(silent)
            for run in self._open:
                if self._shared:
                    run.end(Released(), f"killed: {silent}; {ALONE}")
                else:
                    run.end(Failed(reason="timeout", detail=silent, step=run.step), f"killed: {silent}")

    def _release_unread(self, silent: str) -> None:
        """Release the trials, because the trainer hung before it had read data and weights, as on a dead mount of this machine."""
        for run in self._open:
            unavailable = hung(run.config, f"{silent} while it read data and weights", run.step)
            self._note_availability(run, unavailable)
            run.on_message(unavailable, self._accelerator, self._control_seconds)

    def _write_to_store(self) -> None:
        """Request pruning decisions, write what is due, and send the decisions. If the store is unavailable, retry later."""
        started_at = time.monotonic()
        if started_at < self._retry_at:
            return
        try:
            self._decide()
            if self._is_time_to_write(started_at):
                self._write()
                # After the write: the pruner's state is in it, and must be stored before the trial continues.
                self._send_decisions()
                self._write_at = started_at + (time.monotonic() - started_at) / WRITING_SHARE
        except StoreUnavailable as error:
            longest = LONGEST_DECISION_RETRY if self._awaits_decision() else LAST_RETRY
            self._retry_at = time.monotonic() + min(self._backoff.delay(), longest)
            log.warning("%s: the store is unavailable, and writes are delayed: %s", self._name, error)
        self._control_seconds += time.monotonic() - started_at

    def _is_time_to_write(self, now: float) -> bool:
        if any(run.decided_to_continue for run in self._open):
            return True
        return now >= self._write_at and any(run.due(now) for run in self._runs)

    def _decide(self) -> None:
        """Request decisions for all undecided trials at once, because the pruner compares them with each other."""
        if not (undecided := self._undecided()):
            return
        requests = [(run.claim.lease, run.values(self._objective_before(run))) for run in undecided]
        for run, decision in zip(undecided, self._control.decide(requests), strict=True):
            run.decided(decision)

    def _undecided(self) -> list[TrialRun]:
        """The trials that wait for a decision; empty until all trials with a decision at that step are measured."""
        # Runs that reach a rung together are peers: a decision for the first one alone would ignore the results of the others.
        waiting = [run for run in self._open if run.undecided]
        return [] if waiting and any(run.will_wait_for_decision_at(waiting[0].step) for run in self._open) else waiting

    def _awaits_decision(self) -> bool:
        """Whether the trainer waits for a pruning decision and therefore sends nothing."""
        return bool(self._undecided()) or any(run.decided_to_continue for run in self._open)

    def _objective_before(self, run: TrialRun) -> Mapping[int, float]:
        """The objective by step of earlier attempts, read from the store once. Raises StoreUnavailable."""
        if run.index not in self._earlier:
            resumes = bool(run.claim.checkpoints) or (self._is_program and run.claim.lease.attempt > 1)
            self._earlier[run.index] = self._control.objective_so_far(run.claim) if resumes else {}
        return self._earlier[run.index]

    def _write(self) -> None:
        """Write the buffers of all trials in one transaction. Raises StoreUnavailable."""
        if writes := self._pending_writes():
            self._note_written(writes, self._control.record([write for _, write in writes]))
        self._backoff.reset()
        for run in self._runs:
            if run.to_clear:
                run.clear(self._control.checkpoints(run.claim.lease), self._checkpoints)

    def _send_decisions(self) -> None:
        for run in self._open:
            if run.decided_to_continue:
                self._process.send(PruningDecision(lane=run.index, go_on=True))
                run.unanswered = False

    def _pending_writes(self) -> list[tuple[TrialRun, Write]]:
        self._logs.gather()
        return [(run, write) for run in self._runs if (write := run.to_write()) is not None]

    def _note_written(self, writes: Sequence[tuple[TrialRun, Write]], lost: Sequence[Lease]) -> None:
        gone = {(lease.trial, lease.attempt) for lease in lost}
        for run, write in writes:
            run.written(write, held=(write.lease.trial, write.lease.attempt) not in gone)
            if not run.open:
                self._context.leases.drop(run.held)

    def _apply_stop_requests(self) -> None:
        """End the trials that other threads have stopped."""
        halts = {run.held.halt for run in self._open}
        if StopReason.UNTRUSTED in halts:  # the process has been killed
            for run in self._open:
                run.end(Released(), UNTRUSTED)
        elif StopReason.LEAVING in halts:
            self._leave()

    def _leave(self) -> None:
        """Release all trials. Messages that still arrive are recorded, because the leases are valid."""
        if not self._process.ready:
            self._process.send(Cancel(save=True))
            for run in self._runs:
                run.training = False
        for line in self._last_lines():
            if not isinstance(line, Stopped | TrainerReady):
                self._on_message(line)
        for run in self._open:
            run.end(Released(), LEAVING)

    def _end_in_the_trainer(self) -> None:
        """Stop the trials in the trainer that have ended here but not there."""
        for run in self._runs:
            if run.training and not run.open:
                run.training = False
                pruned = isinstance(run.outcome, Pruned) and not run.lost
                index = run.index if self._shared else None
                self._process.send(PruningDecision(lane=run.index, go_on=False) if pruned else Cancel(lane=index))
                if run.lost:
                    self._context.leases.drop(run.held)

    def _end_after_death(self, died: TrainerDied) -> None:
        """End the open trials after the process has ended: killed by another thread, or by itself."""
        for run in self._open:
            if run.held.halt is None:
                log.warning("%s: %s", run.name, died)
                if self._is_packed(died.death.reason):
                    run.release_crowded(died.death.detail, "trials")
                else:
                    run.end(Failed(reason=died.death.reason, detail=died.death.detail, step=run.step))
            else:
                run.end(Released(), LEAVING if run.held.halt is StopReason.LEAVING else UNTRUSTED)

    def _conclude(self) -> None:
        """Write the remaining outcomes in one transaction, and retry until the store accepts them or the worker leaves."""
        if writes := self._pending_writes():
            lost = self._control.conclude([write for _, write in writes], self._context.leaving)
            if lost is not None:
                self._note_written(writes, lost)

    def _clean_up(self) -> None:
        """Wait until the process is ready for the next order or kill it, then remove checkpoint files."""
        try:
            for line in self._last_lines():
                log.debug("%s: message after the end: %s", self._name, line.kind)
        except TrainerDied as died:
            log.warning("%s: the trainer ended after the run: %s", self._name, died)
        for run in self._runs:
            self._control.tidy(self._checkpoints, run.claim.lease)

    def _last_lines(self) -> Iterator[TrainerMessage]:
        """Yield messages until the process is ready. Kills it after `Timeouts.grace` seconds."""
        deadline = time.monotonic() + self._context.timeouts.grace
        while not self._process.ready and time.monotonic() < deadline:
            yield from self._process.read_all(READ_SECONDS)
        if not self._process.ready:
            self._process.kill()
