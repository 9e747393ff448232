"""What a study's trials reported and when, as much of it as a replay of its pruning needs."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from service.domain.spec import StudySpec
from service.domain.states import TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
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


class Reports(NamedTuple):
    """The objective as it was reported, a place in each column a report; in no order. Values may be NaN or infinite."""

    trials: Sequence[int]  # row keys
    steps: Sequence[int]
    values: Sequence[float]
    seqs: Sequence[int]  # of the events that told of them


NO_REPORTS = Reports(array("q"), array("q"), array("d"), array("q"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A study's search at one moment."""

    spec: StudySpec
    partial: bool  # the search goes on
    trials: Sequence[Recorded]  # by number
    reports: Reports | None  # None: more than anybody wants to read at once
