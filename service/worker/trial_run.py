"""One attempt of a trial on a trainer: its reports, checkpoints, pruning decisions and log, from claim to outcome."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from service.domain.effects import digest_of
from service.domain.records import Claim, Lease, MetricReport
from service.domain.spec import ProgramStudy
from service.operations import Pruned, Released, TrialOutcome, Write
from service.search.study import Decision, decision_steps
from service.worker.context import HeldLease, StopReason
from service.worker.home import CheckpointFolder
from service.worker.process import TrainerProcess
from trainer.protocol import (
    Checkpoint,
    CheckpointSaved,
    Deferred,
    EpochMetrics,
    Failed,
    Finished,
    Pace,
    Run,
    RunPrepared,
    Stopped,
    Unavailable,
)

TrialMessage = RunPrepared | EpochMetrics | CheckpointSaved | Finished | Failed | Unavailable | Deferred | Stopped
"""Messages that belong to one trial."""

NO_RESULT = "the trainer ended the run without a result"
LONGEST_WHY = 500  # characters
ALONE = "released to run alone, because it is unknown which of the trials caused the failure"
BLAMELESS = ("crashed", "out_of_memory")
"""Failures of the whole process. If it runs several trials, the cause is unknown."""


GATHER_SECONDS = 0.25  # longest delay before a report is written, so that reports of short epochs share a transaction
LOG_SECONDS = 1.0  # longest delay before log lines are written if there is no report
MOST_LOG = 512 * 1024  # characters in a write; the rest stays in the LogSanitizer, which has its own limit


@dataclass(slots=True)
class WriteBuffer:
    """Collects the data of one attempt for its next write."""

    reports: list[MetricReport] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    log_start: int = 0  # bytes of the attempt's log in earlier writes
    outcome: TrialOutcome | None = None
    _due_at: float | None = None  # monotonic seconds

    def measured(self, report: MetricReport) -> None:
        """Add the metrics of a step."""
        self.reports.append(report)
        self._set_due(GATHER_SECONDS)

    def saved(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint, which replaces an older one."""
        self.checkpoint = checkpoint
        self._set_due(GATHER_SECONDS)

    def logged(self, lines: str) -> None:
        """Add lines to the log."""
        if lines:
            self.log += lines
            self._set_due(LOG_SECONDS)

    @property
    def log_is_full(self) -> bool:
        """Whether the log has reached MOST_LOG, so that no lines should be added before the next write."""
        return len(self.log) >= MOST_LOG

    def ended(self, outcome: TrialOutcome) -> None:
        """Add the trial's outcome."""
        self.outcome = outcome
        self._set_due(GATHER_SECONDS)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.reports or self.checkpoint or self.memory or self.result or self.log or self.outcome)

    def due(self, now: float) -> bool:
        """Whether a write is due at `now` (monotonic seconds)."""
        return self._due_at is not None and now >= self._due_at

    def as_write(self, lease: Lease) -> Write:
        """The collected data as a write."""
        reports = tuple(self.reports)
        return Write(lease, reports, self.checkpoint, self.memory, self.result, self.log, self.log_start, self.outcome)

    def after(self) -> "WriteBuffer":
        """An empty buffer for the time after this one was written."""
        return WriteBuffer(log_start=self.log_start + len(self.log.encode()))

    def _set_due(self, seconds: float) -> None:
        at = time.monotonic() + seconds
        self._due_at = at if self._due_at is None else min(at, self._due_at)


class TrialRun:
    """One attempt, alone or together with others. Other threads stop it through `held`."""

    def __init__(self, index: int, claim: Claim, held: HeldLease, *, shared: bool) -> None:
        """`shared`: other trials run in the same process, so that its failure is not attributed to this one."""
        self.index = index
        self.claim = claim
        self.held = held
        self.config = claim.spec.config_for(claim.params, claim.lease.number, claim.round)
        self.decision_steps = frozenset(decision_steps(claim.spec, self.config.last_step) if claim.round is None else ())
        self.step = max((saved.step for saved in claim.checkpoints), default=0)
        self.outcome: TrialOutcome | None = None
        self.why = ""  # how it ended, for the trial's log
        self.training = False  # the trainer works on it and has not been asked to end it
        self.undecided = False  # the trainer waits, and no decision has been requested from the pruner
        self.unanswered = False  # the trainer waits for a decision
        self._shared = shared
        self._values: dict[int, float] = {}  # the objective at the steps of this attempt
        self._files = [saved.path for saved in claim.checkpoints]  # paths of checkpoint files that may exist
        self._superseding = False  # a checkpoint was recorded since `clear` was last called
        self._unwritten = WriteBuffer()
        self._written = False  # the outcome is recorded, and nothing may follow

    @property
    def name(self) -> str:
        """The name in log lines."""
        return f"trial {self.claim.lease.number}"

    @property
    def lost(self) -> bool:
        """Whether the lease is lost, so that nothing may be written any more."""
        return self.held.halt is StopReason.LOST

    @property
    def open(self) -> bool:
        """Whether it has no outcome and its lease is not lost."""
        return self.outcome is None and not self.lost

    def order(self, checkpoints: CheckpointFolder) -> Run:
        """The message that starts the run. Removes files of earlier attempts that are not needed to resume."""
        claim = self.claim
        checkpoints.clear(claim.lease, claim.checkpoints)
        folder = checkpoints.folder(claim.lease)
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
            reported=claim.step if isinstance(claim.spec, ProgramStudy) else 0,
        )

    def on_message(self, line: TrialMessage, accelerator: str, control_seconds: float) -> None:
        """Process a message of the trainer. Messages after the end are ignored."""
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
                self._note_curve(line)
                self.end(line)
            case Unavailable():
                reason = f"this worker cannot {'run' if line.what == 'script' else 'read'} the {line.what}: {line.detail}"
                self.end(Released(reason), f"released after epoch {self.step}: {reason}")
            case Deferred():
                self.end(Released(line.detail), f"released after step {self.step}: {line.detail}")
            case Stopped():
                self.end(Failed(reason="crashed", detail=NO_RESULT, step=self.step))

    def end(self, outcome: TrialOutcome, why: str | None = None) -> None:
        """Set the outcome. The failure of a process with several trials becomes a release, so that the trial runs alone next time."""
        self.why = why if why is not None else _log_line_of(outcome, self.step)
        if isinstance(outcome, Failed) and outcome.reason in BLAMELESS and self._shared:
            outcome, self.why = Released(), f"{self.why}; {ALONE}"
        self.outcome = outcome
        self._unwritten.ended(outcome)

    def release_crowded(self, detail: str, others: str = "processes") -> None:
        """End it as released: other processes or trials held a part of the memory that ran out, so its parameters need not be the cause."""
        reason = f"other {others} hold memory of the GPU: {detail}"
        self.end(Released(reason), f"released after epoch {self.step}: {reason}")

    @property
    def takes_log(self) -> bool:
        """Whether its log accepts lines now."""
        return not (self._written or self.lost or self._unwritten.log_is_full)

    def logged(self, lines: str) -> None:
        """Add lines to its log."""
        self._unwritten.logged(lines)

    def values(self, earlier: Mapping[int, float]) -> dict[int, float]:
        """The objective by step: of `earlier` attempts up to the checkpoint from which this one resumed, then its own."""
        first = min(self._values)
        return {step: value for step, value in earlier.items() if step < first} | self._values

    def will_wait_for_decision_at(self, step: int) -> bool:
        """Whether the trainer has still to measure it at that step and will then wait for a decision."""
        return self.training and self.step < step and step in self.decision_steps

    def decided(self, decision: Decision | None) -> None:
        """Apply a pruning decision; None if the lease is lost."""
        self.undecided = False
        if decision is None:
            self.held.stop(StopReason.LOST)
            return
        self._unwritten.memory = decision.memory
        if not decision.go_on:
            self.end(Pruned(decision.why or "the pruner ended it", decision.evidence))

    @property
    def decided_to_continue(self) -> bool:
        """Whether the decision is to continue and has not been sent. It is sent once the pruner's state is written."""
        return self.open and self.unanswered and not self.undecided

    def due(self, now: float) -> bool:
        """Whether a write is due at `now` (monotonic seconds)."""
        return not (self._written or self.lost) and self._unwritten.due(now)

    def to_write(self) -> Write | None:
        """The buffered data, or None if there is none or it may not be written."""
        if self._written or self.lost or self._unwritten.empty:
            return None
        return self._unwritten.as_write(self.claim.lease)

    def written(self, write: Write, *, held: bool) -> None:
        """Note that the store has accepted the write, or has refused it because the lease is lost (not `held`)."""
        self._unwritten = self._unwritten.after()
        self._written = write.outcome is not None
        # The attempt is a fencing token: the store refuses its writes once another attempt has the trial.
        if not held:
            self.held.stop(StopReason.LOST)
        elif write.checkpoint is not None:
            self._superseding = True

    @property
    def to_clear(self) -> bool:
        """Whether there may be superseded checkpoint files while the trial continues."""
        return self._superseding and self.open

    def clear(self, listed: Sequence[Checkpoint], checkpoints: CheckpointFolder) -> None:
        """Remove the files that the store does not list, except a checkpoint that is not yet written to the store."""
        self._superseding = False
        kept = [*listed, *filter(None, [self._unwritten.checkpoint])]
        checkpoints.clear(self.claim.lease, kept, self._files)
        self._files = [checkpoint.path for checkpoint in kept]

    def _prepared(self, line: RunPrepared, accelerator: str) -> None:
        self._unwritten.result["environment"] = {**line.environment, "accelerator": accelerator}
        self._unwritten.result["trainable"] = line.trainable
        if line.reuse is not None:
            self._unwritten.result["reuse"] = line.reuse.model_dump(mode="json")

    def _measured(self, line: EpochMetrics, control_seconds: float) -> None:
        self.step = line.step
        # A script may report a step without the objective, which then is no NaN and needs no decision.
        objective = line.metrics.get(self.claim.spec.objective.metric)
        if objective is not None:
            self._values[line.step] = objective
        self._unwritten.measured(MetricReport(line.step, line.metrics))
        if line.pace is not None:
            self._unwritten.result["pace"] = _with_control_seconds(line.pace, control_seconds)
        self.undecided = self.unanswered = objective is not None and line.step in self.decision_steps

    def _note_curve(self, line: Finished | Failed) -> None:
        """Record the digest of the whole curve of a script, by which parameters without effect are found."""
        whole = isinstance(line, Finished) and isinstance(self.claim.spec, ProgramStudy) and self.claim.lease.attempt == 1
        if whole and (digest := digest_of(self._values)) is not None:
            self._unwritten.result["curve"] = digest

    def _saved(self, checkpoint: Checkpoint) -> None:
        self._files.append(checkpoint.path)
        self._unwritten.saved(checkpoint)


def _log_line_of(outcome: TrialOutcome, step: int) -> str:
    """How it ended, for the log; empty if it finished, because the trainer logs that."""
    match outcome:
        case Failed():
            how = f"failed after epoch {step}: {outcome.reason}: {outcome.detail.partition(chr(10))[0][:LONGEST_WHY]}"
        case Pruned():
            how = f"pruned after epoch {step}: {outcome.why}"
        case Released():
            how = f"released after epoch {step}"
        case Finished():
            how = ""
        case _:
            assert_never(outcome)
    return how


def _with_control_seconds(pace: Pace, seconds: float) -> dict[str, object]:
    """The pace as JSON values, with the seconds that the worker spent on the store."""
    return {**pace.model_dump(mode="json"), "seconds": {**pace.seconds, "control": round(seconds, 3)}}


SHARED_CHARACTERS = 4_096  # of the output of runs trained together, in the log of each


class TrialLogs:
    """Distributes the output of the trainer to the logs of its trials.

    A trial that runs alone gets all output. Trials that run together get the last SHARED_CHARACTERS each, when they end. The line of the
    worker about the trial's end comes last.
    """

    def __init__(self, process: TrainerProcess, runs: Sequence[TrialRun]) -> None:
        self._process, self._runs = process, runs
        self._closed = set[int]()
        self._last = ""  # the last output of runs trained together

    def gather(self) -> None:
        """Add new output to the logs, and the final lines to those of trials that have ended."""
        if len(self._runs) > 1:
            self._last = _end_of(self._last + self._process.printed())
        elif (alone := self._runs[0]).takes_log:
            alone.logged(self._process.printed(all_of_it=not alone.open))
        for run in self._runs:
            if run.outcome is not None and run.index not in self._closed:
                self._closed.add(run.index)
                run.logged(self._shared() + (_line(run.why) if run.why else ""))

    def _shared(self) -> str:
        if len(self._runs) == 1:
            return ""
        return _line(f"{len(self._runs)} trials were trained together; the end of the output of their trainer:") + self._last


def _line(message: str) -> str:
    """A log line of the worker, in the format of the trainer's."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} INFO worker: {message}\n"


def _end_of(printed: str) -> str:
    """The last lines, at most SHARED_CHARACTERS long."""
    if len(printed) <= SHARED_CHARACTERS:
        return printed
    return printed[-SHARED_CHARACTERS:].partition("\n")[2]
