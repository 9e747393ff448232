"""Claimed trials on one trainer process, alone or several in one pass: from the order to their outcomes in the store."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence

from service.domain.errors import StoreUnavailable
from service.domain.records import Claim, Lease
from service.operations import Pruned, Released, Write
from service.timing import Backoff
from service.worker.context import WorkerContext
from service.worker.devices import Slot
from service.worker.leases import HeldLease, StopReason
from service.worker.process import Line, TrainerDied, TrainerProcess
from service.worker.store_client import FIRST_RETRY, LAST_RETRY
from service.worker.trial_run import ALONE, NO_RESULT, TrialLogs, TrialRun
from service.worker.unavailable import hung
from trainer.protocol import (
    BatchedRuns,
    BatchProgress,
    Cancel,
    Checked,
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
WRITING_SHARE = 0.25  # of the time at most, unless the trainer waits: many lanes of short epochs have much to write
UNTRUSTED = "killed, for the lease could not be renewed for too long; handed back"
LEAVING = "handed back, for the worker leaves"
LONGEST_KEPT_WAITING = 1.0  # seconds between two tries while the trainer waits for the pruner's word


class TrainerRun:
    """One order to a trainer and all that follows from it. Belongs to one slot's thread.

    Other threads end a trial through its holding. No trial ends another: one that is pruned, has diverged, was cancelled or is late
    ends alone, and where the process itself fails with several trials on it, none is blamed: each is handed back, to be run alone.
    """

    def __init__(
        self, place: WorkerContext, slot: Slot, process: TrainerProcess, claims: Sequence[Claim], holdings: Sequence[HeldLease]
    ) -> None:
        """The claims are of one study; each has its holding at the same place."""
        self._place, self._control, self._shelf = place, place.control, place.shelf
        self._process = process
        self._accelerator = "cpu" if slot.gpu is None else "cuda"
        self._most_threads = slot.most_threads
        pairs = zip(claims, holdings, strict=True)
        self._shared = len(claims) > 1
        self._lanes = tuple(TrialRun(index, claim, holding, shared=self._shared) for index, (claim, holding) in enumerate(pairs))
        self._logbook = TrialLogs(process, self._lanes)
        self._name = ", ".join(lane.name for lane in self._lanes[:3]) + (" and others" if len(self._lanes) > 3 else "")
        self._earlier: dict[int, Mapping[int, float]] = {}  # by lane, the objective at the steps of attempts before
        self._began_at = time.monotonic()
        self._advanced = False
        self._prepared = False  # the trainer has read data and weights
        self._control_seconds = 0.0
        self._retry_at = 0.0  # monotonic seconds; before that the store, which did not answer, is left alone
        self._rest_until = 0.0  # the same after it did, unless the trainer waits
        self._backoff = Backoff(FIRST_RETRY, LAST_RETRY)

    def to_the_end(self) -> None:
        """Train, record on the way, and record the ends. Returns when there is nothing left to say, or nobody to say it."""
        try:
            self._train()
        except TrainerDied as died:
            self._bury(died)
        self._conclude()
        self._settle()

    @property
    def _open(self) -> list[TrialRun]:
        return [lane for lane in self._lanes if lane.open]

    def _train(self) -> None:
        if all(lane.holding.halt is None for lane in self._lanes):
            self._process.send(self._order())
            for lane in self._lanes:
                lane.training = True
        self._apply_stop_requests()
        while self._open:
            for line in self._process.read_all(READ_SECONDS):
                self._on_message(line)
            self._logbook.gather()
            self._end_late()  # while what was heard is new: the store may take long
            self._write_to_store()
            self._apply_stop_requests()
            self._end_in_the_trainer()

    def _order(self) -> Run | BatchedRuns:
        runs = tuple(lane.order(self._shelf) for lane in self._lanes)
        if not self._shared:
            return runs[0]
        free = self._place.leases.only_on(self._process)  # more threads than cores would wait for each other
        return BatchedRuns(runs=runs, threads=self._most_threads if free else None)

    def _on_message(self, line: Line) -> None:
        match line:
            case BatchProgress():
                self._advanced = True
            case TrainerReady():
                for lane in self._open:
                    lane.end(Failed(reason="crashed", detail=NO_RESULT, step=lane.step))
            case Checked() | ModelExported():  # they answer other orders
                pass
            case _:
                if line.lane < len(self._lanes):
                    lane = self._lanes[line.lane]
                    self._note_availability(lane, line)
                    lane.training = lane.training and not isinstance(line, Finished | Failed | Unavailable | Stopped)
                    lane.on_message(line, self._accelerator, self._control_seconds)

    def _note_availability(self, lane: TrialRun, line: Line) -> None:
        """Whether this worker can read the study's data and weights; before the trial is handed back, so that it is not claimed again."""
        if isinstance(line, Unavailable):
            self._control.unavailable.add(lane.claim.lease.study, line)
        elif isinstance(line, RunPrepared):
            self._prepared = True
            self._control.unavailable.was_read(lane.claim.lease.study)

    def _end_late(self) -> None:
        minutes = self._lanes[0].claim.spec.limits.minutes
        if minutes is not None and time.monotonic() - self._began_at > minutes * 60:
            for lane in self._open:
                lane.end(Failed(reason="timeout", detail=f"it ran longer than limits.minutes, {minutes:g}", step=lane.step))
        stall = self._place.patience.stall if self._advanced else self._place.patience.prepare
        if self._process.hung(stall) and self._open and not self._awaits_decision():
            silent = f"the trainer gave no sign of life for {stall:g} seconds"
            log.warning("%s: %s", self._name, silent)
            self._process.kill()
            if not self._prepared:
                self._give_back_unread(silent)
            for lane in self._open:
                if self._shared:
                    lane.end(Released(), f"killed: {silent}; {ALONE}")
                else:
                    lane.end(Failed(reason="timeout", detail=silent, step=lane.step), f"killed: {silent}")

    def _give_back_unread(self, silent: str) -> None:
        """The trainer hung before it had read data and weights, as on a dead mount: that is this machine's fault, not the trials'."""
        for lane in self._open:
            why = hung(lane.config, f"{silent} while it read data and weights", lane.step)
            self._note_availability(lane, why)
            lane.on_message(why, self._accelerator, self._control_seconds)

    def _write_to_store(self) -> None:
        """Ask the pruner, write what is due, and pass the pruner's word on; the trainer waits for it, the rest is tried again later."""
        begun = time.monotonic()
        if begun < self._retry_at:
            return
        try:
            self._decide()
            if self._is_time_to_write(begun):
                self._write()
                self._answer()
                self._rest_until = begun + (time.monotonic() - begun) / WRITING_SHARE
        except StoreUnavailable as error:
            longest = LONGEST_KEPT_WAITING if self._awaits_decision() else LAST_RETRY
            self._retry_at = time.monotonic() + min(self._backoff.delay(), longest)
            log.warning("%s: the store does not answer (%s); what is to be written waits", self._name, error)
        self._control_seconds += time.monotonic() - begun

    def _is_time_to_write(self, now: float) -> bool:
        if any(lane.decided_to_go_on for lane in self._open):
            return True
        return now >= self._rest_until and any(lane.due(now) for lane in self._lanes)

    def _decide(self) -> None:
        """Ask the pruner about all trials that wait for its word, once all are measured whose turn it is: they are each other's peers."""
        if not (asked := self._undecided()):
            return
        asks = [(lane.claim.lease, lane.values(self._objective_before(lane))) for lane in asked]
        for lane, decision in zip(asked, self._control.decide(asks), strict=True):
            lane.decided(decision)

    def _undecided(self) -> list[TrialRun]:
        """The trials that wait for the pruner; none while others are still being measured at that step."""
        waiting = [lane for lane in self._open if lane.undecided]
        return [] if waiting and any(lane.is_yet_to_decide_at(waiting[0].step) for lane in self._open) else waiting

    def _awaits_decision(self) -> bool:
        """Whether the trainer is silent because it waits for us."""
        return bool(self._undecided()) or any(lane.decided_to_go_on for lane in self._open)

    def _objective_before(self, lane: TrialRun) -> Mapping[int, float]:
        """At the steps of attempts before this one; they are in the store."""
        if lane.index not in self._earlier:
            self._earlier[lane.index] = self._control.objective_so_far(lane.claim) if lane.claim.checkpoints else {}
        return self._earlier[lane.index]

    def _write(self) -> None:
        """Write what is unwritten of all trials, in one transaction. Raises StoreUnavailable."""
        if writes := self._unwritten():
            self._note_written(writes, self._control.record([write for _, write in writes]))
        self._backoff.reset()
        for lane in self._lanes:
            if lane.to_clear:
                lane.clear(self._control.checkpoints(lane.claim.lease), self._shelf)

    def _answer(self) -> None:
        for lane in self._open:
            if lane.decided_to_go_on:
                self._process.send(PruningDecision(lane=lane.index, go_on=True))
                lane.unanswered = False

    def _unwritten(self) -> list[tuple[TrialRun, Write]]:
        self._logbook.gather()
        return [(lane, write) for lane in self._lanes if (write := lane.to_write()) is not None]

    def _note_written(self, writes: Sequence[tuple[TrialRun, Write]], lost: Sequence[Lease]) -> None:
        gone = {(lease.trial, lease.attempt) for lease in lost}
        for lane, write in writes:
            lane.written(write, held=(write.lease.trial, write.lease.attempt) not in gone)
            if not lane.open:
                self._place.leases.drop(lane.holding)

    def _apply_stop_requests(self) -> None:
        """End the trials on other threads' word."""
        halts = {lane.holding.halt for lane in self._open}
        if StopReason.UNTRUSTED in halts:  # the process has been killed
            for lane in self._open:
                lane.end(Released(), UNTRUSTED)
        elif StopReason.LEAVING in halts:
            self._leave()

    def _leave(self) -> None:
        """Hand all back. What the trainer still says counts, for the leases are ours."""
        if not self._process.ready:
            self._process.send(Cancel(save=True))
            for lane in self._lanes:
                lane.training = False
        for line in self._last_lines():
            if not isinstance(line, Stopped | TrainerReady):
                self._on_message(line)
        for lane in self._open:
            lane.end(Released(), LEAVING)

    def _end_in_the_trainer(self) -> None:
        """Tell the trainer of the trials that have ended for us and not for it."""
        for lane in self._lanes:
            if lane.training and not lane.open:
                lane.training = False
                pruned = isinstance(lane.outcome, Pruned) and not lane.lost
                index = lane.index if self._shared else None
                self._process.send(PruningDecision(lane=lane.index, go_on=False) if pruned else Cancel(lane=index))
                if lane.lost:
                    self._place.leases.drop(lane.holding)

    def _bury(self, died: TrainerDied) -> None:
        """Give the trials an outcome whose process has ended: by another thread's hand, or of itself."""
        for lane in self._open:
            if lane.holding.halt is None:
                log.warning("%s: %s", lane.name, died)
                lane.end(Failed(reason=died.death.reason, detail=died.death.detail, step=lane.step))
            else:
                lane.end(Released(), LEAVING if lane.holding.halt is StopReason.LEAVING else UNTRUSTED)

    def _conclude(self) -> None:
        """Write the ends that are not written yet, all in one transaction, however long it takes."""
        if writes := self._unwritten():
            lost = self._control.conclude([write for _, write in writes], self._place.leaving)
            if lost is not None:
                self._note_written(writes, lost)

    def _settle(self) -> None:
        """Leave the process ready for the next order, or dead."""
        try:
            for line in self._last_lines():
                log.debug("%s, after the end: %s", self._name, line.kind)
        except TrainerDied as died:
            log.warning("after %s: %s", self._name, died)
        for lane in self._lanes:
            self._control.tidy(self._shelf, lane.claim.lease)

    def _last_lines(self) -> Iterator[Line]:
        """What comes until the process is ready, or for the whole grace: then it is killed."""
        deadline = time.monotonic() + self._place.patience.grace
        while not self._process.ready and time.monotonic() < deadline:
            yield from self._process.read_all(READ_SECONDS)
        if not self._process.ready:
            self._process.kill()
