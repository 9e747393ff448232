"""What a figure is drawn from: a study's trials, and how they are put into words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search_spaces import Categorical, Float, Int
from search_spaces.parameters import contains
from service.domain.records import Outcome
from service.domain.spec import StudySpec
from service.search.figures.labels import Choices, escaped, scalar_text, value_text
from trainer.tasks.base import Metric
from trainer.tasks.registry import spec_of

Curves = Mapping[int, Sequence[tuple[int, float]]]
"""(step, objective) of trials by their number."""


UTMOST = 1e100


@dataclass(frozen=True)
class Exhibit:
    """One study at one moment."""

    spec: StudySpec
    outcomes: Sequence[Outcome]  # by number
    curves: Curves = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The objective's name."""
        return self.spec.objective.metric

    @property
    def measure(self) -> Metric:
        """What is known of the values of the objective."""
        return spec_of(self.spec.task).metrics[self.metric]

    @property
    def maximizes(self) -> bool:
        """Whether more is better."""
        return self.spec.objective.direction == "maximize"

    @cached_property
    def complete(self) -> list[Outcome]:
        """The trials that ended with a finite objective: only they are compared."""
        return [outcome for outcome in self.outcomes if outcome.scored is not None]

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """The objective of each of `complete`, within bounds that leave room to compute."""
        return np.clip(np.array([outcome.value for outcome in self.complete], dtype=np.float64), -UTMOST, UTMOST)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """The same, so that less is better."""
        return -self.values if self.maximizes else self.values

    @property
    def best(self) -> Outcome:
        """The best of `complete`, which must not be empty; of equal ones the first."""
        return self.complete[int(np.argmin(self.losses))]

    @cached_property
    def params(self) -> list[str]:
        """The parameters that a complete trial has, in the order of the space."""
        return [name for name, places in self.places.items() if places]

    @cached_property
    def choices(self) -> dict[str, Choices]:
        """The categorical parameters' choices by name."""
        return {name: Choices(each) for name, each in self.spec.search_space.root.items() if isinstance(each, Categorical)}

    def parameter(self, name: str) -> Float | Int | Categorical:
        """What the space says of it."""
        return self.spec.search_space.root[name]

    def is_log(self, name: str) -> bool:
        """Whether it is drawn on a log scale."""
        parameter = self.parameter(name)
        return not isinstance(parameter, Categorical) and parameter.log

    def has(self, outcome: Outcome, name: str) -> bool:
        """Whether the trial has this parameter with a value that the space knows. A baseline may have others."""
        if name not in outcome.params or name not in self.spec.search_space.root:
            return False
        if name in self.choices:
            return self.choices[name].knows(outcome.params[name])
        return contains(self.parameter(name), outcome.params[name])

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """By parameter of the space, the places in `complete` of the trials that have it."""
        return {
            name: [place for place, outcome in enumerate(self.complete) if self.has(outcome, name)] for name in self.spec.search_space.root
        }

    def having(self, *names: str) -> list[int]:
        """The places in `complete` of those that have all these parameters."""
        first, *others = (self.places[name] for name in names)
        return sorted(set(first).intersection(*others))

    def positions(self, name: str, places: Sequence[int]) -> NDArray[np.float64]:
        """The parameter of those trials on the scale it is drawn on: a choice by its index, a log scale by powers of ten."""
        found = [self.complete[place].params[name] for place in places]
        if name in self.choices:
            order = {label: index for index, label in enumerate(self.choices[name].labels)}
            return np.array([order[self.choices[name].label(value)] for value in found], dtype=np.float64)
        scale = math.log10 if self.is_log(name) else float
        return np.array([scale(value) for value in found], dtype=np.float64)  # type: ignore[arg-type]

    @cached_property
    def hovers(self) -> dict[int, str]:
        """Each complete trial by its number as `hover` has it."""
        return {outcome.number: self.hover(outcome) for outcome in self.complete}

    def hover(self, outcome: Outcome) -> str:
        """The trial in lines that Plotly shows: its number, objective and parameters."""
        of = f" ({outcome.source})" if outcome.source == "baseline" else ""
        lines = [f"<b>trial {outcome.number}</b>{of}", f"{self.metric} {value_text(self.measure, outcome.value)}"]
        lines += (f"{name} {escaped(self.text(name, outcome))}" for name in outcome.params)
        return "<br>".join(lines)

    def best_in_words(self, *names: str) -> str:
        """A sentence on the best complete trial, and where these parameters stand there."""
        at = ", ".join(f"{name} {self.text(name, self.best)}" for name in names if self.has(self.best, name))
        value = value_text(self.measure, self.best.value)
        return f"The best, {value}, is trial {self.best.number}{' at ' if at else ''}{at}."

    def text(self, name: str, outcome: Outcome) -> str:
        """The trial's value of a parameter, not escaped."""
        return scalar_text(self.choices, name, outcome.params[name])
