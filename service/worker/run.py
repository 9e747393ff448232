"""One claimed trial on one trainer process: from the order to its outcome in the store."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from service.backoff import Backoff
from service.domain.errors import StoreUnavailable
from service.domain.records import Claim, Report
from service.operations import Outcome, Pruned, Released
from service.search.study import Decision, decision_steps
from service.worker.checkpoints import KEPT, Shelf
from service.worker.control_plane import FIRST_RETRY, LAST_RETRY, ControlPlane
from service.worker.leases import Halt, Holding, Leases
from service.worker.process import Line, TrainerDied
from service.worker.slots import Slot
from service.worker.unwritten import Unwritten
from trainer.contract import Advanced, Answer, Cancel, Checkpoint, Failed, Finished, Measured, Prepared, Ready, Run, Saved, Stopped

T = TypeVar("T")
log = logging.getLogger(__name__)

READ_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a silent trainer is given, in seconds."""

    start: float = 300.0  # until its first line: importing torch on a busy machine
    prepare: float = 7_200.0  # while it decodes a data set, or downloads weights
    stall: float = 900.0  # between two batches
    grace: float = 5.0  # to end a run when told; then it is killed


USUAL = Patience()


@dataclass(frozen=True, slots=True)
class Workplace:
    """What the slots of a worker share."""

    control: ControlPlane
    leases: Leases
    shelf: Shelf
    patience: Patience
    leaving: threading.Event


class TrialRun:
    """The life of one attempt. Belongs to one slot's thread; other threads end it through the holding's `halt`."""

    def __init__(self, place: Workplace, slot: Slot, holding: Holding, claim: Claim) -> None:
        self._control, self._shelf, self._patience, self._leaving = place.control, place.shelf, place.patience, place.leaving
        self._slot = slot
        self._holding = holding
        self._process = holding.process
        self._claim = claim
        self._config = claim.spec.config_for(claim.params, claim.lease.number)
        self._steps = frozenset(decision_steps(claim.spec, self._config.epochs))
        self._kept = claim.checkpoints
        self._values: dict[int, float] = {}  # the objective at the steps of this attempt
        self._earlier: dict[int, float] | None = None  # and at those of attempts before
        self._step = max((saved.step for saved in claim.checkpoints), default=0)
        self._unwritten = Unwritten()
        self._began_at = time.monotonic()
        self._advanced = False
        self._backoff = Backoff(FIRST_RETRY, LAST_RETRY)

    def to_the_end(self) -> None:
        """Train, record on the way, and record the end. Returns when there is nothing left to say, or nobody to say it."""
        outcome = self._outcome()
        if outcome is not None and self._holding.halt is not Halt.LOST:
            self._conclude(outcome)
        self._settle(outcome)

    def _conclude(self, outcome: Outcome) -> None:
        write = self._unwritten.as_write(self._claim.lease, outcome)
        if self._control.conclude(write, self._leaving):
            self._keep(write.checkpoint, KEPT if isinstance(outcome, Released) else 1)

    def _outcome(self) -> Outcome | None:
        """The end of the trial; None when it is no longer ours to tell."""
        try:
            return self._train()
        except TrainerDied as died:
            match self._holding.halt:
                case Halt.LOST:
                    return None
                case Halt.UNTRUSTED | Halt.LEAVING:
                    return Released()
                case None:
                    log.warning("trial %d: %s", self._claim.lease.number, died)
                    return Failed(reason=died.death.reason, detail=died.death.detail, step=self._step)

    def _train(self) -> Outcome | None:
        if self._holding.halt is None:
            self._process.send(self._order())
        while self._holding.halt is None:
            if (late := self._lateness()) is not None:
                self._process.kill()
                return Failed(reason="timeout", detail=late, step=self._step)
            line = self._process.read(READ_SECONDS)
            if line is not None and (outcome := self._heard(line)) is not None:
                return outcome
            self._write_when_due()
        return self._halted(self._holding.halt)

    def _order(self) -> Run:
        facts = self._claim.facts
        return Run(
            config=self._config,
            decision_steps=tuple(sorted(self._steps)),
            checkpoint_folder=str(self._shelf.folder(self._claim.lease)),
            checkpoint_seconds=self._claim.spec.limits.checkpoint_seconds,
            resume=self._claim.checkpoints,
            fingerprint=facts and facts.fingerprint,
            weights_sha256=facts and facts.weights_sha256,
        )

    def _lateness(self) -> str | None:
        minutes = self._claim.spec.limits.minutes
        if minutes is not None and time.monotonic() - self._began_at > minutes * 60:
            return f"it ran longer than limits.minutes, {minutes:g}"
        stall = self._patience.stall if self._advanced else self._patience.prepare
        if self._process.hung(stall):
            return f"the trainer gave no sign of life for {stall:g} seconds"
        return None

    def _heard(self, line: Line) -> Outcome | None:
        """Take in one line; the outcome when it is the last one."""
        match line:
            case Prepared():
                self._unwritten.environment = {**line.environment, "accelerator": "cpu" if self._slot.gpu is None else "cuda"}
            case Advanced():
                self._advanced = True
            case Measured():
                return self._measured(line)
            case Saved():
                self._unwritten.saved(line.checkpoint)
            case Finished() | Failed():
                return line
            case Stopped() | Ready():
                return Failed(reason="crashed", detail="the trainer ended the run without a result", step=self._step)
            case _:  # Checked and Exported answer other orders
                pass
        return None

    def _measured(self, line: Measured) -> Outcome | None:
        self._step = line.step
        self._values[line.step] = line.metrics.get(self._claim.spec.objective.metric, math.nan)
        self._unwritten.measured(Report(line.step, line.metrics))
        return self._decided() if line.step in self._steps else None

    def _decided(self) -> Outcome | None:
        """Ask the pruner and pass its word on. The trainer waits meanwhile; so does this, while the store does not answer."""
        decision = self._while_held(self._ask_the_pruner)
        if decision is None:
            if self._holding.halt is None:
                self._holding.stop(Halt.LOST)
            return None
        self._unwritten.memory = decision.memory
        if not decision.go_on:
            return Pruned(decision.why or "the pruner ended it")
        if self._while_held(self._write):
            self._process.send(Answer(go_on=True))
        return None

    def _ask_the_pruner(self) -> Decision | None:
        """With the objective at all steps so far: those before the checkpoint that this attempt went on from are in the store."""
        if self._earlier is None:
            self._earlier = self._control.objective_so_far(self._claim) if self._claim.checkpoints else {}
        first = min(self._values)
        earlier = {step: value for step, value in self._earlier.items() if step < first}
        return self._control.decide(self._claim.lease, earlier | self._values)

    def _write_when_due(self) -> None:
        if not self._unwritten.due(time.monotonic()):
            return
        try:
            self._write()
        except StoreUnavailable as error:
            log.warning("trial %d: the store does not answer (%s); training goes on", self._claim.lease.number, error)
            self._unwritten.postpone(self._backoff.delay())

    def _write(self) -> bool:
        """Write what is unwritten, in one transaction; False when the lease is lost. Raises StoreUnavailable."""
        write = self._unwritten.as_write(self._claim.lease, None)
        held = self._control.record(write)
        self._unwritten = Unwritten()
        self._backoff.reset()
        if held:
            self._keep(write.checkpoint, KEPT)
        else:
            self._holding.stop(Halt.LOST)
        return held

    def _keep(self, newest: Checkpoint | None, count: int) -> None:
        """Remove all but the newest checkpoints that the store knows."""
        known = (newest, *self._kept) if newest is not None else self._kept
        self._shelf.remove(known[count:])
        self._kept = known[:count]

    def _while_held(self, call: Callable[[], T]) -> T | None:
        """The call's answer, tried again while the store is unavailable; None once the run is to halt."""
        while self._holding.halt is None:
            try:
                return call()
            except StoreUnavailable as error:
                log.warning("trial %d waits: the store does not answer (%s)", self._claim.lease.number, error)
                time.sleep(min(self._backoff.delay(), 1.0))
        return None

    def _halted(self, why: Halt) -> Outcome | None:
        """End the run on another thread's word. What the trainer still says counts only while the lease is ours."""
        if why is Halt.UNTRUSTED:
            return Released()
        if not self._process.ready:
            self._process.send(Cancel(save=why is Halt.LEAVING))
        for line in self._last_lines():
            if why is Halt.LEAVING and (outcome := self._heard_leaving(line)) is not None:
                return outcome
        return Released() if why is Halt.LEAVING else None

    def _heard_leaving(self, line: Line) -> Outcome | None:
        match line:
            case Finished() | Failed():
                return line
            case Saved():
                self._unwritten.saved(line.checkpoint)
            case Measured():
                self._unwritten.measured(Report(line.step, line.metrics))
            case _:
                pass
        return None

    def _last_lines(self) -> Iterator[Line]:
        """What comes until the process is ready, or silent for the whole grace: then it is killed."""
        deadline = time.monotonic() + self._patience.grace
        while not self._process.ready and time.monotonic() < deadline:
            if (line := self._process.read(READ_SECONDS)) is not None:
                yield line
        if not self._process.ready:
            self._process.kill()

    def _settle(self, outcome: Outcome | None) -> None:
        """Leave the process ready for the next trial, or dead."""
        try:
            if isinstance(outcome, Pruned):
                self._process.send(Answer(go_on=False))
            for line in self._last_lines():
                log.debug("trial %d, after its end: %s", self._claim.lease.number, line.kind)
        except TrainerDied as died:
            log.warning("after trial %d: %s", self._claim.lease.number, died)
