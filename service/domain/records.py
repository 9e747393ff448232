"""Records of studies, trials and workers, as the store returns them."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import Field

from search_spaces import Scalar
from search_spaces.parameters import FrozenModel
from service.domain.spec import StudySpec
from service.domain.states import AttemptEnd, StudyState, TrialState, ValueKind
from trainer.configuration import DatasetInfo, Direction
from trainer.protocol import Checkpoint, FailureReason, Reuse

CONFIRMATION = "confirmation"
"""The source of trials that train a configuration again. The sampler, the pruner and the study's best ignore them."""


class Confirmation(FrozenModel):
    """The trials of the search that the confirmation compares, by number."""

    arms: tuple[int, ...] = Field(description="the best trials of the search, best first, and the baseline: in its place, or at the end")
    baseline: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The current state of a study. Times are seconds since 1970, UTC; they are for display, and no decision uses them."""

    id: str
    name: str
    state: StudyState
    reason: str | None  # of a failure, or of completion without a result
    spec: StudySpec
    facts: DatasetInfo | None  # set by the worker that checked data and weights; not loaded in lists of studies
    recheck: bool = False  # data and weights must be checked again before a trial starts
    confirmation: Confirmation | None = None  # set when the search has ended and the confirmation has begun
    checked: bool = False  # whether facts are stored, also where they were not loaded
    created: int  # trials created so far; the number of the next one
    seq: int  # of the last event
    created_at: float
    started_at: float | None  # first claim
    finished_at: float | None
    idle_seconds: float = 0.0  # time between its end and its resumption, which does not count against budget.hours

    @property
    def sound(self) -> bool:
        """Whether data and weights passed their check, so that trials may start."""
        return (self.checked or self.facts is not None) and not self.recheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to write to a trial, until another attempt begins."""

    study: str
    trial: int  # primary key
    number: int
    attempt: int  # fencing token: a write with an older attempt is rejected
    worker: str


@dataclass(frozen=True, slots=True)
class StaleLease:
    """A lease without a new heartbeat, and the time for which reapers have observed that, added over all reapers."""

    trial: int  # primary key
    heartbeats: int
    seconds: float  # a lower bound of the true time: reapers never count the same second twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The current state of a trial."""

    id: int
    study: str
    number: int
    state: TrialState
    params: Mapping[str, Scalar]
    value: float | None
    value_kind: ValueKind
    metrics: Mapping[str, float]  # last value by name; may be NaN or infinite
    step: int  # last reported step; 0 when none
    attempt: int
    reason: FailureReason | None
    detail: str | None  # the failure or the pruning decision as a sentence
    worker: str | None
    duplicate_of: int | None  # number of the trial with the same parameters whose result this one gets
    source: str  # sampler, baseline, user, duplicate or confirmation
    confirms: int | None = None  # number of the trial of the search that it confirms
    round: int | None = None  # of the confirmation, from 1; the trials of a round share their seeds
    changed: int  # sequence number of its last event
    checkpoints: tuple[Checkpoint, ...]  # newest first
    result: Mapping[str, Any] = field(default_factory=dict)  # the task's report, seconds, memory, environment, reuse, pace
    memory: Mapping[str, Any] = field(default_factory=dict)  # data of the sampler and the pruner
    queued_at: float
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claimed trial: the lease, and the inputs of the run."""

    lease: Lease
    spec: StudySpec
    facts: DatasetInfo | None
    params: Mapping[str, Scalar]
    round: int | None = None  # of the confirmation; None in the search
    checkpoints: tuple[Checkpoint, ...]
    demand: Mapping[int, float] = field(default_factory=dict)  # epochs that the study has left, by number of frozen stages
    depths: tuple[int, int] | None = None  # Reuse.depth and validation_depth of the attempt that this one resumes
    step: int = 0  # the last one that earlier attempts have reported or saved


@dataclass(frozen=True, slots=True, kw_only=True)
class RestClaim:
    """A claim over REST: its study and trial as they are now, and the lease that it has or had."""

    study: Study
    trial: Trial
    lease: Lease
    token_sha256: str
    started_at: float

    @property
    def held(self) -> bool:
        """Whether it has the lease."""
        return self.trial.state is TrialState.RUNNING and self.trial.attempt == self.lease.attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a trial, from its claim to its end."""

    attempt: int
    worker: str
    resumed: int  # the step of the checkpoint that it resumed from; 0 without one
    started_at: float
    ended_at: float | None
    ending: AttemptEnd | None  # None while it runs
    step: int | None  # the last reported step when it ended
    detail: str | None


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Whole lines of an attempt's log, from one write."""

    seq: int  # from 1 in each attempt, without gaps
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class ReportedMetric:
    step: int
    name: str
    value: float  # may be NaN or infinite
    attempt: int


@dataclass(frozen=True, slots=True)
class MetricReport:
    """The metrics of one step."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    kind: str
    body: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailability:
    """A worker cannot read the data or weights of a study, and claims none of its trials until it can."""

    study: str  # primary key
    name: str  # of the study
    worker: str
    host: str
    what: str  # data, weights or script
    detail: str
    since: float


@dataclass(frozen=True, slots=True)
class UnusableDevice:
    """A device or a driver that a worker found but cannot use, and what to do about it."""

    device: str
    name: str
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    id: str
    host: str
    pid: int
    slots: int
    devices: tuple[str, ...]
    state: str  # alive, draining, gone
    started_at: float
    seen_at: float
    memory: tuple[int | None, ...] = ()  # bytes of each device, where known
    device_names: tuple[str, ...] = ()  # readable names, in the order of `devices`; empty for older workers
    unusable: tuple[UnusableDevice, ...] = ()
    scripts: tuple[str, ...] = ()  # folders in which it may run scripts
    set_aside: int = 0  # number of results on its disk that could not be written to the database


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatus:
    """A receiver of events outside, such as a webhook, and what it got. Times are seconds since 1970, for display only."""

    name: str
    owner: str | None  # the process that delivers
    beats: int  # of the owner, as heartbeats of a lease
    seen_at: float
    delivered: int  # events
    skipped: int  # events that the receiver refused
    delivered_at: float | None
    failures: int  # in a row
    failed_at: float | None
    error: str | None  # of the last failure
    backlog: int = 0  # events that it has not got yet


@dataclass(frozen=True, slots=True)
class SinkProgress:
    """A sink got all events of the study up to `seq`, except those of kinds that it leaves out."""

    study: str  # id
    seq: int
    delivered: int = 0  # events since the last progress
    skipped: int = 0


def depths_in(result: Mapping[str, Any]) -> tuple[int, int] | None:
    """The numbers of frozen stages whose stored output a trial read, for training and validation examples. None where not recorded."""
    if "reuse" not in result:
        return None
    reuse = Reuse.model_validate(result["reuse"])
    return reuse.depth, reuse.validation_depth


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTrial:
    """A trial of the search. Times are sequence numbers of the study's events."""

    id: int  # primary key
    number: int
    state: TrialState
    value: float | None  # the objective when it is finite, else None
    step: int  # reported epochs
    epochs: int  # configured epochs
    ended: int | None  # sequence number of its end; None while it is open
    duplicate_of: int | None = None  # number of the trial whose result it has; it was not trained itself
    shared: str | None = None  # equal for trials whose heads were trained together; None for a trial that trained alone
    seconds_left: float | None = None  # of its own training, at the pace of its last report

    @property
    def complete(self) -> bool:
        """Whether it ran to its end with a finite objective."""
        return self.state is TrialState.COMPLETE and self.value is not None

    @property
    def trained(self) -> bool:
        """Whether it was trained itself, rather than given the result of a duplicate."""
        return self.duplicate_of is None


class RecordedReports(NamedTuple):
    """The reported objective values in columns, one entry per report, in no order. Values may be NaN or infinite."""

    trials: Sequence[int]  # primary keys
    steps: Sequence[int]
    values: Sequence[float]
    seqs: Sequence[int]  # sequence numbers of their events


NO_REPORTS = RecordedReports(array("q"), array("q"), array("d"), array("q"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStudy:
    """Snapshot of a study's search."""

    spec: StudySpec
    partial: bool  # whether the search is still running
    trials: Sequence[RecordedTrial]  # by number
    reports: RecordedReports | None  # None: too many to load


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSummary:
    """Summary of a trial. Times are seconds since 1970, UTC."""

    number: int
    state: TrialState
    params: Mapping[str, Scalar]
    value: float | None  # the objective when it is finite, else None
    step: int
    source: str  # sampler, baseline, user or duplicate
    started_at: float | None
    finished_at: float | None

    @property
    def scored(self) -> float | None:
        """The objective of a complete trial. None where there is none, or it is not finite."""
        return self.value if self.state is TrialState.COMPLETE else None


WHILE_RUNNING = 2  # newest checkpoints kept: a second one, in case the newest is damaged
AT_THE_END = 1


def kept(checkpoints: Sequence[Checkpoint], newest: int, objective: Mapping[int, float], direction: Direction) -> tuple[Checkpoint, ...]:
    """The checkpoints to keep: the `newest` ones and the best one. Input and output are ordered newest first.

    `objective` maps steps to values. A step without a finite value is never the best, and among equal values the newest is.
    """
    sign = 1 if direction == "maximize" else -1
    valued = [one for one in checkpoints if math.isfinite(objective.get(one.step, math.nan))]
    best = max(valued, key=lambda one: sign * objective[one.step], default=None)
    return tuple(one for place, one in enumerate(checkpoints) if place < newest or one is best)
