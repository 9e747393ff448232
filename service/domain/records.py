"""Records: studies, trials and workers as the store returns them."""

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
"""The source of trials that train a configuration again. Search, pruner and the study's best take no notice of them."""


class Confirmation(FrozenModel):
    """Whom the confirmation compares: numbers of trials of the search."""

    arms: tuple[int, ...] = Field(description="the best of the search, the best first; with the baseline, at its place or at the end")
    baseline: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study as it stands. Times are seconds since 1970, UTC; they are shown, never decided upon."""

    id: str
    name: str
    state: StudyState
    reason: str | None  # why it failed, or why it is complete without a result
    spec: StudySpec
    facts: DatasetInfo | None  # set by the worker that checked data and weights; not read where many studies are
    recheck: bool = False  # data and weights are to be checked again before a trial starts
    confirmation: Confirmation | None = None  # set when the search is over and the best are trained again
    checked: bool = False  # whether the stored study has facts
    created: int  # trials created so far; the number of the next one
    seq: int  # of the last event
    created_at: float
    started_at: float | None  # first claim
    finished_at: float | None
    idle_seconds: float = 0.0  # for which it had ended before it went on; they do not count as hours of its budget

    @property
    def sound(self) -> bool:
        """Whether data and weights were found sound, so that trials may start."""
        return (self.checked or self.facts is not None) and not self.recheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to write to a trial, until another attempt begins."""

    study: str
    trial: int  # the row's key
    number: int
    attempt: int
    worker: str


@dataclass(frozen=True, slots=True)
class StaleLease:
    """A lease without a new heartbeat, for as long as reapers have seen it so together."""

    trial: int  # the row's key
    heartbeats: int
    seconds: float  # no more than have passed in truth: no two reapers counted the same second


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trial as it stands."""

    id: int
    study: str
    number: int
    state: TrialState
    params: Mapping[str, Scalar]
    value: float | None
    value_kind: ValueKind
    metrics: Mapping[str, float]  # last value by name; may hold NaN and infinities
    step: int  # last reported step; 0 when none
    attempt: int
    reason: FailureReason | None
    detail: str | None  # the reason in a sentence, or why it was pruned
    worker: str | None
    duplicate_of: int | None  # number of the trial whose result answers this one
    source: str  # sampler, baseline, user, duplicate or confirmation
    confirms: int | None = None  # number of the trial of the search whose parameters it trains again, to confirm it
    round: int | None = None  # of the confirmation, from 1; a round's trials have their seeds in common
    changed: int  # sequence of the last event that touched it
    checkpoints: tuple[Checkpoint, ...]  # newest first
    result: Mapping[str, Any] = field(default_factory=dict)  # the task's report, seconds, memory, environment, reuse, pace
    memory: Mapping[str, Any] = field(default_factory=dict)  # what sampler and pruner noted on it
    queued_at: float
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A trial to run: the lease, and all that the run needs."""

    lease: Lease
    spec: StudySpec
    facts: DatasetInfo | None
    params: Mapping[str, Scalar]
    round: int | None = None  # of the confirmation; None in the search
    checkpoints: tuple[Checkpoint, ...]
    demand: Mapping[int, float] = field(default_factory=dict)  # epochs that the study has still to train, by number of frozen stages
    depths: tuple[int, int] | None = None  # of the stored outputs that the attempt read from which this one goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a trial, from its claim to its end."""

    attempt: int
    worker: str
    resumed: int  # the step of the checkpoint that it went on from; 0 from the beginning
    started_at: float
    ended_at: float | None
    ending: AttemptEnd | None  # None while it runs
    step: int | None  # the last one that was reported when it ended
    detail: str | None


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Whole lines of an attempt's log, as they were written together."""

    seq: int  # from 1 in each attempt, without a gap
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
    """A worker cannot read the data or weights of a study, and leaves it alone until it can."""

    study: str  # its key
    name: str  # of the study
    worker: str
    host: str
    what: str  # data or weights
    detail: str
    since: float


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
    set_aside: int = 0  # results on its disk that the database could not take


def depths_in(result: Mapping[str, Any]) -> tuple[int, int] | None:
    """The stages whose stored output a trial read, for training and for validation examples, as its result tells; None when it does not."""
    if "reuse" not in result:
        return None
    reuse = Reuse.model_validate(result["reuse"])
    return reuse.depth, reuse.validation_depth


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTrial:
    """A trial of the search. Places in time are sequence numbers of the study's events."""

    id: int  # the row's key
    number: int
    state: TrialState
    value: float | None  # the objective when it is finite, else None
    step: int  # epochs that it reported
    epochs: int  # that it was to have
    ended: int | None  # when; None while it is open
    duplicate_of: int | None = None  # number of the trial whose result answered it; it was not trained itself
    shared: str | None = None  # equal for trials that were trained in one pass over the data; None for one trained alone
    seconds_left: float | None = None  # of its own training, by its pace at its last report

    @property
    def complete(self) -> bool:
        """Whether it ran to its end and has a result."""
        return self.state is TrialState.COMPLETE and self.value is not None

    @property
    def trained(self) -> bool:
        """Whether it was trained itself, rather than answered."""
        return self.duplicate_of is None


class RecordedReports(NamedTuple):
    """The objective as it was reported, a place in each column a report; in no order. Values may be NaN or infinite."""

    trials: Sequence[int]  # row keys
    steps: Sequence[int]
    values: Sequence[float]
    seqs: Sequence[int]  # of the events that told of them


NO_REPORTS = RecordedReports(array("q"), array("q"), array("d"), array("q"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStudy:
    """A study's search at one moment."""

    spec: StudySpec
    partial: bool  # the search goes on
    trials: Sequence[RecordedTrial]  # by number
    reports: RecordedReports | None  # None: more than anybody wants to read at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A trial in short. Times are seconds since 1970, UTC."""

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


WHILE_RUNNING = 2  # one may turn out to be damaged
AT_THE_END = 1


def kept(checkpoints: Sequence[Checkpoint], newest: int, objective: Mapping[int, float], direction: Direction) -> tuple[Checkpoint, ...]:
    """The `newest` ones and the best one, newest first as they are given.

    `objective` is by step; a step without a finite value is no best one, and of equal ones the newest is.
    """
    sign = 1 if direction == "maximize" else -1
    valued = [one for one in checkpoints if math.isfinite(objective.get(one.step, math.nan))]
    best = max(valued, key=lambda one: sign * objective[one.step], default=None)
    return tuple(one for place, one in enumerate(checkpoints) if place < newest or one is best)
