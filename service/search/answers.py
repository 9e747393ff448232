"""What the search answers: a suggestion for a new trial, a decision about a running one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces import Scalar
from service.domain.pruning import Evidence


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Parameters for a new trial, and what the sampler must remember with it (plain JSON values)."""

    params: Mapping[str, Scalar]
    memory: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the trial goes on; what the pruner must remember with it; if it does not, on what evidence."""

    go_on: bool
    memory: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None

    @property
    def why(self) -> str | None:
        """The evidence in a sentence."""
        return None if self.evidence is None else self.evidence.sentence
