"""States of studies, trials and workers, and the kinds of event."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal


class TrialState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"  # not assigned yet; the REST interface counts trials in it and the table's constraint accepts it
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether no transition leads out of this state."""
        return not FOLLOWS[self]


FOLLOWS: Mapping[TrialState, frozenset[TrialState]] = MappingProxyType(
    {
        TrialState.QUEUED: frozenset(set(TrialState) - {TrialState.QUEUED, TrialState.PAUSED}),  # a duplicate ends without RUNNING
        TrialState.RUNNING: frozenset(set(TrialState) - {TrialState.RUNNING}),
        TrialState.PAUSED: frozenset({TrialState.RUNNING, TrialState.PRUNED, TrialState.CANCELLED}),
        TrialState.COMPLETE: frozenset(),
        TrialState.PRUNED: frozenset(),
        TrialState.FAILED: frozenset(),
        TrialState.CANCELLED: frozenset(),
    }
)


class AttemptEnd(StrEnum):
    """How an attempt at a trial ended. After the last three the trial may get another attempt."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"  # handed back by its worker; not a failure
    LOST = "lost"  # its worker stopped sending heartbeats
    CRASHED = "crashed"  # its process died


class StudyState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"  # running trials continue, none is started
    STOPPED = "stopped"  # by a person; its open trials are cancelled
    COMPLETE = "complete"  # the budget is spent and every trial has ended; `reason` is set where there is no result
    FAILED = "failed"  # the study cannot run, see `reason`; its open trials wait until it is resumed

    @property
    def terminal(self) -> bool:
        """Whether no trial starts until the study is resumed or its budget is raised."""
        return self in (StudyState.STOPPED, StudyState.COMPLETE, StudyState.FAILED)


class WorkerState(StrEnum):
    ALIVE = "alive"
    DRAINING = "draining"  # claims no more trials, finishes those it has, and exits
    GONE = "gone"


class ValueKind(StrEnum):
    """The kind of a reported value. Databases handle NaN differently, so only finite values are stored as numbers."""

    FINITE = "finite"
    NAN = "nan"
    POS_INF = "pos_inf"
    NEG_INF = "neg_inf"
    MISSING = "missing"


Phase = Literal["none", "search", "running", "done", "stopped"]
"""The phase of a study with confirmation; `none` without one."""


class EventKind(StrEnum):
    STUDY_CREATED = "study_created"
    STUDY_CHECKED = "study_checked"
    STUDY_PAUSED = "study_paused"
    STUDY_RESUMED = "study_resumed"
    STUDY_STOPPED = "study_stopped"
    STUDY_EXTENDED = "study_extended"  # its budget was changed
    STUDY_RERANKED = "study_reranked"  # its trials were ranked by another metric
    STUDY_RENAMED = "study_renamed"  # another study took its name
    STUDY_CONFIRMING = "study_confirming"  # the search has ended; its best trials and the baseline are trained again
    STUDY_COMPLETED = "study_completed"
    STUDY_FAILED = "study_failed"
    STUDY_UNAVAILABLE = "study_unavailable"  # a worker cannot read its data or weights
    STUDY_AVAILABLE = "study_available"  # that worker can read them again
    TRIAL_QUEUED = "trial_queued"
    TRIAL_STARTED = "trial_started"
    TRIAL_REPORTED = "trial_reported"
    TRIAL_SAVED = "trial_saved"
    TRIAL_LOGGED = "trial_logged"  # its log has grown; the trial did not change
    TRIAL_COMPLETED = "trial_completed"
    TRIAL_PRUNED = "trial_pruned"
    TRIAL_FAILED = "trial_failed"
    TRIAL_CANCELLED = "trial_cancelled"
    TRIAL_REQUEUED = "trial_requeued"
