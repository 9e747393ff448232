"""One trial on a trainer: its reports, checkpoints, decisions and log, from claim to outcome."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import assert_never

from service.domain.records import Claim, MetricReport
from service.operations import Outcome, Pruned, Released, Write
from service.search.study import Decision, decision_steps
from service.worker.checkpoints import CheckpointFolder
from service.worker.leases import HeldLease, StopReason
from service.worker.process import TrainerProcess
from service.worker.store_client import WriteBuffer
from trainer.protocol import Checkpoint, CheckpointSaved, EpochMetrics, Failed, Finished, Pace, Run, RunPrepared, Stopped, Unavailable

Told = RunPrepared | EpochMetrics | CheckpointSaved | Finished | Failed | Unavailable | Stopped
"""The lines that belong to one trial."""

NO_RESULT = "the trainer ended the run without a result"
LONGEST_WHY = 500  # characters
ALONE = "handed back, to run alone, for it is not known which of the trials was the cause"
BLAMELESS = ("crashed", "out_of_memory")
"""Failures of a whole process. Where several trials share it, none is known to be the cause."""


class TrialRun:
    """The life of one attempt, alone or beside others. Other threads end it through the holding's `halt`."""

    def __init__(self, index: int, claim: Claim, holding: HeldLease, *, shared: bool) -> None:
        """`shared`: other trials run in the same process, so that its failures tell nothing about this one."""
        self.index = index
        self.claim = claim
        self.holding = holding
        self.config = claim.spec.config_for(claim.params, claim.lease.number, claim.round)
        self.decision_steps = frozenset(decision_steps(claim.spec, self.config.epochs) if claim.round is None else ())
        self.step = max((saved.step for saved in claim.checkpoints), default=0)
        self.outcome: Outcome | None = None
        self.why = ""  # it ended so, for the trial's log
        self.training = False  # the trainer is at work on it and has not been told to end it
        self.undecided = False  # the trainer waits, and the pruner has not been asked
        self.unanswered = False  # the trainer waits for our word
        self._shared = shared
        self._values: dict[int, float] = {}  # the objective at the steps of this attempt
        self._told = [saved.path for saved in claim.checkpoints]  # files that may be there
        self._superseding = False  # a checkpoint was written since the files were last looked through
        self._unwritten = WriteBuffer()
        self._written = False  # the outcome; nothing follows

    @property
    def name(self) -> str:
        """For the log."""
        return f"trial {self.claim.lease.number}"

    @property
    def lost(self) -> bool:
        """Whether the trial is no longer ours to tell of."""
        return self.holding.halt is StopReason.LOST

    @property
    def open(self) -> bool:
        """Whether it goes on."""
        return self.outcome is None and not self.lost

    def order(self, shelf: CheckpointFolder) -> Run:
        """What the trainer is told."""
        claim = self.claim
        shelf.clear(claim.lease, claim.checkpoints)
        folder = shelf.folder(claim.lease)
        return Run(
            config=self.config,
            decision_steps=tuple(sorted(self.decision_steps)),
            checkpoint_folder=folder and str(folder),
            checkpoint_seconds=claim.spec.limits.checkpoint_seconds,
            resume=claim.checkpoints,
            expected=claim.facts,
            score_test=claim.round is not None,
            demand=claim.demand,
            depths=claim.depths,
        )

    def on_message(self, line: Told, accelerator: str, control_seconds: float) -> None:
        """Take in what the trainer told of it. What comes after its end is not heard."""
        if not self.open:
            return
        match line:
            case RunPrepared():
                self._prepared(line, accelerator)
            case EpochMetrics():
                self._measured(line, control_seconds)
            case CheckpointSaved():
                self._saved(line.checkpoint)
            case Finished() | Failed():
                self.end(line)
            case Unavailable():
                because = f"this worker cannot read the {line.what}: {line.detail}"
                self.end(Released(because), f"handed back after epoch {self.step}: {because}")
            case Stopped():
                self.end(Failed(reason="crashed", detail=NO_RESULT, step=self.step))

    def end(self, outcome: Outcome, why: str | None = None) -> None:
        """This is how it ends. The failure of a process that others share sends it back to run alone."""
        self.why = why if why is not None else _in_words(outcome, self.step)
        if isinstance(outcome, Failed) and outcome.reason in BLAMELESS and self._shared:
            outcome, self.why = Released(), f"{self.why}; {ALONE}"
        self.outcome = outcome
        self._unwritten.ended(outcome)

    @property
    def takes_log(self) -> bool:
        """Whether lines for its log are wanted now."""
        return not (self._written or self.lost or self._unwritten.log_is_full)

    def logged(self, lines: str) -> None:
        """Add lines to its log."""
        self._unwritten.logged(lines)

    def values(self, earlier: Mapping[int, float]) -> dict[int, float]:
        """The objective by step: `earlier` attempts' up to the checkpoint that this one went on from, then its own."""
        first = min(self._values)
        return {step: value for step, value in earlier.items() if step < first} | self._values

    def is_yet_to_decide_at(self, step: int) -> bool:
        """Whether the trainer will measure it at that step and wait for the pruner's word, and has not done so."""
        return self.training and self.step < step and step in self.decision_steps

    def decided(self, decision: Decision | None) -> None:
        """Take in the pruner's word; None when the lease is lost."""
        self.undecided = False
        if decision is None:
            self.holding.stop(StopReason.LOST)
            return
        self._unwritten.memory = decision.memory
        if not decision.go_on:
            self.end(Pruned(decision.why or "the pruner ended it", decision.evidence))

    @property
    def decided_to_go_on(self) -> bool:
        """Whether the trainer waits for a word that is known: it is given once what the pruner must remember is written."""
        return self.open and self.unanswered and not self.undecided

    def due(self, now: float) -> bool:
        """Whether something is to be written at `now` (monotonic seconds)."""
        return not (self._written or self.lost) and self._unwritten.due(now)

    def to_write(self) -> Write | None:
        """What is unwritten, if anything is."""
        if self._written or self.lost or self._unwritten.empty:
            return None
        return self._unwritten.as_write(self.claim.lease)

    def written(self, write: Write, *, held: bool) -> None:
        """The store has taken the write, or has refused it because the lease is lost."""
        self._unwritten = self._unwritten.after()
        self._written = write.outcome is not None
        if not held:
            self.holding.stop(StopReason.LOST)
        elif write.checkpoint is not None:
            self._superseding = True

    @property
    def to_clear(self) -> bool:
        """Whether there may be files that the store names no more, while the trial goes on."""
        return self._superseding and self.open

    def clear(self, named: Sequence[Checkpoint], shelf: CheckpointFolder) -> None:
        """Remove the files that the store does not name and will not: one that it has not heard of yet stays."""
        self._superseding = False
        kept = [*named, *filter(None, [self._unwritten.checkpoint])]
        shelf.clear(self.claim.lease, kept, self._told)
        self._told = [checkpoint.path for checkpoint in kept]

    def _prepared(self, line: RunPrepared, accelerator: str) -> None:
        self._unwritten.result["environment"] = {**line.environment, "accelerator": accelerator}
        self._unwritten.result["trainable"] = line.trainable
        if line.reuse is not None:
            self._unwritten.result["reuse"] = line.reuse.model_dump(mode="json")

    def _measured(self, line: EpochMetrics, control_seconds: float) -> None:
        self.step = line.step
        self._values[line.step] = line.metrics.get(self.claim.spec.objective.metric, math.nan)
        self._unwritten.measured(MetricReport(line.step, line.metrics))
        if line.pace is not None:
            self._unwritten.result["pace"] = _with_control(line.pace, control_seconds)
        self.undecided = self.unanswered = line.step in self.decision_steps

    def _saved(self, checkpoint: Checkpoint) -> None:
        self._told.append(checkpoint.path)
        self._unwritten.saved(checkpoint)


def _in_words(outcome: Outcome, step: int) -> str:
    """How it ended, for the log; nothing where the trainer itself has told that it is done."""
    match outcome:
        case Failed():
            how = f"failed after epoch {step}: {outcome.reason}: {outcome.detail.partition(chr(10))[0][:LONGEST_WHY]}"
        case Pruned():
            how = f"pruned after epoch {step}: {outcome.why}"
        case Released():
            how = f"handed back after epoch {step}"
        case Finished():
            how = ""
        case _:
            assert_never(outcome)
    return how


def _with_control(pace: Pace, seconds: float) -> dict[str, object]:
    """The pace as plain values, with the worker's own seconds in it."""
    return {**pace.model_dump(mode="json"), "seconds": {**pace.seconds, "control": round(seconds, 3)}}


SHARED_CHARACTERS = 4_096  # of what a pass printed, for each of the trials that shared it


class TrialLogs:
    """A trial alone has all that its trainer prints. Of several that share one, each has the last of it when the trial ends.

    The worker's own word on a trial's end comes last.
    """

    def __init__(self, process: TrainerProcess, lanes: Sequence[TrialRun]) -> None:
        self._process, self._lanes = process, lanes
        self._closed = set[int]()
        self._last = ""  # of a shared pass

    def gather(self) -> None:
        """Give the trials what was printed since the last time, and to those that have ended their last lines."""
        if len(self._lanes) > 1:
            self._last = _end_of(self._last + self._process.printed())
        elif (alone := self._lanes[0]).takes_log:
            alone.logged(self._process.printed(all_of_it=not alone.open))
        for lane in self._lanes:
            if lane.outcome is not None and lane.index not in self._closed:
                self._closed.add(lane.index)
                lane.logged(self._shared() + (_line(lane.why) if lane.why else ""))

    def _shared(self) -> str:
        if len(self._lanes) == 1:
            return ""
        return _line(f"{len(self._lanes)} trials shared this pass over the data; the end of what it printed:") + self._last


def _line(words: str) -> str:
    """A line of the worker's own, as the trainer's look."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} INFO worker: {words}\n"


def _end_of(printed: str) -> str:
    """The last lines of it."""
    if len(printed) <= SHARED_CHARACTERS:
        return printed
    return printed[-SHARED_CHARACTERS:].partition("\n")[2]
