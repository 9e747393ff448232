"""What figures show of a trial: less than its record, so that thousands are read at once."""

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces import Scalar
from service.domain.states import TrialState


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
