"""The states of trials, studies and workers, and which may follow which."""

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
        """Whether nothing may follow."""
        return not FOLLOWS[self]


FOLLOWS: Mapping[TrialState, frozenset[TrialState]] = MappingProxyType(
    {
        TrialState.QUEUED: frozenset(set(TrialState) - {TrialState.QUEUED, TrialState.PAUSED}),  # an answered duplicate skips RUNNING
        TrialState.RUNNING: frozenset(set(TrialState) - {TrialState.RUNNING}),
        TrialState.PAUSED: frozenset({TrialState.RUNNING, TrialState.PRUNED, TrialState.CANCELLED}),
        TrialState.COMPLETE: frozenset(),
        TrialState.PRUNED: frozenset(),
        TrialState.FAILED: frozenset(),
        TrialState.CANCELLED: frozenset(),
    }
)


class AttemptEnd(StrEnum):
    """How an attempt at a trial ended. After the last three the trial may have another one."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"  # handed back by its worker, nobody's fault
    LOST = "lost"  # its worker was not heard of any more
    CRASHED = "crashed"  # its process died


class StudyState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"  # running trials go on, none is started
    STOPPED = "stopped"  # by a person; its open trials are cancelled
    COMPLETE = "complete"  # the budget is spent and every trial has ended; `reason` says why there is no result
    FAILED = "failed"  # the study cannot run; `reason` says why, and its open trials wait until it is resumed

    @property
    def terminal(self) -> bool:
        """Whether no trial is started, unless the study is resumed or its budget is raised."""
        return self in (StudyState.STOPPED, StudyState.COMPLETE, StudyState.FAILED)


class WorkerState(StrEnum):
    ALIVE = "alive"
    DRAINING = "draining"  # takes no more trials, ends those it has, and goes
    GONE = "gone"


class ValueKind(StrEnum):
    """What a reported number is. Databases disagree on NaN, so only finite numbers are stored as numbers."""

    FINITE = "finite"
    NAN = "nan"
    POS_INF = "pos_inf"
    NEG_INF = "neg_inf"
    MISSING = "missing"


Phase = Literal["none", "search", "running", "done", "stopped"]
"""Where a study is between its search and the end of its confirmation; `none` when it confirms nothing."""
