"""The memory of one study: history in, suggestions and decisions out, equal whether rebuilt or grown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces import Scalar
from service.domain.records import Trial
from service.domain.spec import StudySpec


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Parameters for a new trial, and what the sampler must remember with it (plain JSON values)."""

    params: Mapping[str, Scalar]
    memory: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the trial goes on; what the pruner must remember with it; if it does not, why, in a sentence."""

    go_on: bool
    memory: Mapping[str, Any] = field(default_factory=dict)
    why: str | None = None


def decision_steps(spec: StudySpec, epochs: int) -> tuple[int, ...]:
    """The steps (epochs, from 1) of a run at which the study's pruner may end it; never the last one."""
    raise NotImplementedError


class StudySearch:
    """Optuna as a pure function of our rows. Not thread-safe: one per thread, or under the owner's lock."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.seq = 0  # the rows of all events up to this one are known

    def absorb(self, seq: int, trials: Iterable[Trial], values: Iterable[tuple[int, int, float]]) -> None:
        """Take in what changed until event `seq`: trials as they stand now, and (number, step, objective value) of their reports."""
        raise NotImplementedError

    def suggest(self, number: int, count: int = 1) -> list[Suggestion]:
        """Parameters for the trials `number`, `number + 1`, …; a function of spec, history and number only."""
        raise NotImplementedError

    def decide(self, number: int, values: Mapping[int, float]) -> Decision:
        """Whether trial `number` goes on, given the objective at each of its steps so far, the newest last."""
        raise NotImplementedError
