"""What the search answers: a suggestion for a new trial, a decision about a running one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces import Scalar


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
