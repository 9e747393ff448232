"""The layout that all figures share: labels, axes, colours, and the trials that they show."""

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import Categorical, Float, Int, Scalar
from search_spaces.parameters import contains
from service.domain.records import Outcome
from service.domain.spec import StudySpec
from trainer.tasks.base import Metric
from trainer.tasks.registry import spec_of

LONGEST = 40  # characters of a choice; it may have 256
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    """The text as Plotly shows it letter by letter."""
    return html.escape(text, quote=False)


def number_text(value: float) -> str:
    """The number in four digits."""
    return f"{value:.4g}"


def value_text(metric: Metric, value: float | None) -> str:
    """A metric's value as the pages show it."""
    if value is None:
        return "\N{EN DASH}"
    return f"{100 * value:.2f}\N{NO-BREAK SPACE}%" if metric.is_share else number_text(value)


def tick_format(metric: Metric) -> str | None:
    """How an axis of the metric is labelled, in d3's words; None leaves it to Plotly."""
    return ".4~p" if metric.is_share else None


class Choices:
    """The choices of a categorical parameter as labels that differ from each other, so that `1`, `1.0` and `"1"` stay three things."""

    def __init__(self, parameter: Categorical) -> None:
        self._labels = {(type(choice), choice): "" for choice in parameter.choices}
        taken = set[str]()
        for key in self._labels:
            self._labels[key] = label = _distinct(_label(key[1]), key[1], taken)
            taken.add(label)

    def label(self, choice: Scalar) -> str:
        """The choice's label, not escaped."""
        return self._labels.get((type(choice), choice)) or _label(choice)

    def knows(self, choice: Scalar) -> bool:
        """Whether it is one of them."""
        return (type(choice), choice) in self._labels

    @property
    def labels(self) -> Sequence[str]:
        """All of them, in the order of the choices."""
        return list(self._labels.values())


def scalar_text(choices: Mapping[str, Choices], name: str, value: Scalar) -> str:
    """A parameter's value in a line of words, not escaped."""
    if name in choices:
        return choices[name].label(value)
    return number_text(value) if isinstance(value, float) else str(value)


def _label(choice: Scalar) -> str:
    if not isinstance(choice, str):
        return json.dumps(choice)
    text = UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", choice)
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return text if text.strip() else f'"{text}"'


def _distinct(label: str, choice: Scalar, taken: set[str]) -> str:
    if label in taken and isinstance(choice, str):
        label = f'"{label}"'
    wanted, count = label, 1
    while label in taken:
        count += 1
        label = f"{wanted} ({count})"
    return label


Curves = Mapping[int, Sequence[tuple[int, float]]]
"""(step, objective) of trials by their number."""


UTMOST = 1e100


@dataclass(frozen=True)
class FigureData:
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


Figure = dict[str, Any]
"""`data` and `layout` as Plotly has them. `layout.meta` is for those who cannot see it: `summary` and `rows` of words, not escaped,
and `params`, those that are shown."""

COLORS = {"point": "#2f8bb0", "best": "#d9653b", "line": "#808e96"}
SCALE = "Viridis"  # its lightness rises all the way, whatever colours one sees
FAR = 8.0  # spans of the middle nine tenths from which on a value lies too far away to set the scale
FEW = 10  # values; of fewer, quantiles say nothing
FAR_OF_FEW = 10
MARGIN = {"l": 64, "r": 16, "t": 16, "b": 52}


def framed(data: Sequence[dict[str, Any]], summary: str, rows: Sequence[Sequence[str]] = (), **layout: Any) -> Figure:
    """A figure of these traces with what it shows in words."""
    common = {"margin": MARGIN, "hovermode": "closest", "showlegend": False, "uirevision": "thawline"}
    return {
        "data": list(data),
        "layout": common | layout | {"meta": {"summary": summary, "rows": [list(row) for row in rows], "params": []}},
    }


def unable(sentence: str) -> Figure:
    """A figure that says why there is nothing to see yet."""
    note = {"text": escaped(sentence), "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "font": {"size": 14}}
    hidden = {"visible": False}
    return framed([], sentence, annotations=[note], xaxis=hidden, yaxis=hidden)


def metric_axis(exhibit: FigureData, values: Sequence[float] | None = None, **more: Any) -> dict[str, Any]:
    """An axis of the objective. A few values far away from all others do not set its range; they can be scrolled to."""
    axis = {"title": {"text": exhibit.metric}, "tickformat": tick_format(exhibit.measure), "automargin": True, **more}
    if values is not None and (bounds := near(exhibit, values)) is not None:
        axis["range"] = list(bounds)
    return {name: value for name, value in axis.items() if value is not None}


def near(exhibit: FigureData, values: Sequence[float]) -> tuple[float, float] | None:
    """The range of the values without those bad ones that lie far from the rest. None when there are none of them."""
    if len(values) < FEW:
        return _near_of_few(sorted(values, reverse=exhibit.maximizes))
    values = np.clip(values, -UTMOST, UTMOST).tolist()
    low, high = np.quantile(values, [0.05, 0.95])
    reach = FAR * (high - low)
    first, last = float(np.min(values)), float(np.max(values))
    if reach <= 0 or (low - first <= reach if exhibit.maximizes else last - high <= reach):
        return None
    inside = [value for value in values if (value >= low - reach if exhibit.maximizes else value <= high + reach)]
    margin = 0.04 * (max(inside) - min(inside))
    return min(inside) - margin, max(inside) + margin


def _near_of_few(ordered: Sequence[float]) -> tuple[float, float] | None:
    """The same for few values, the best one first: without the worst one, where that lies far from all others."""
    if len(ordered) < 3:
        return None
    low, high = sorted((ordered[0], ordered[-2]))
    span = max(high - low, 0.05 * max(abs(low), abs(high)))
    if abs(ordered[-1] - ordered[-2]) <= FAR_OF_FEW * span:
        return None
    return low - 0.04 * span, high + 0.04 * span


def beyond_in_words(exhibit: FigureData) -> str:
    """A sentence on the objectives that the range of their axis leaves out; empty where it holds all of them."""
    values = exhibit.values.tolist()
    if (bounds := near(exhibit, values)) is None:
        return ""
    beyond = [value for value in values if not bounds[0] <= value <= bounds[1]]
    worst = value_text(exhibit.measure, min(beyond) if exhibit.maximizes else max(beyond))
    return f" {len(beyond)} of the values lie beyond the axis, up to {worst}."


def param_axis(exhibit: FigureData, name: str, **more: Any) -> dict[str, Any]:
    """An axis of a parameter, on the scale that its space has; choices stand in their order."""
    title: dict[str, Any] = {"title": {"text": escaped(name)}, "automargin": True}
    if name in exhibit.choices:
        order = [escaped(label) for label in exhibit.choices[name].labels]
        return title | {"type": "category", "categoryorder": "array", "categoryarray": order} | more
    if not exhibit.is_log(name):
        return title | {"type": "linear"} | more
    return title | {"type": "log", **_decades(exhibit, name)} | more


def _decades(exhibit: FigureData, name: str) -> dict[str, Any]:
    """How a log scale is labelled: whole powers of ten where there are several."""
    positions = exhibit.positions(name, exhibit.having(name))
    return {"dtick": 1, "exponentformat": "power", "tickfont": {"size": 10}} if np.ptp(positions) >= 2 else {}


def plain(value: Any) -> Any:
    """The value in what JSON can say: arrays as lists, null for what is not finite."""
    match value:
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case np.ndarray():
            return plain(value.tolist())
        case np.generic():
            return plain(value.item())
        case float():
            return value if np.isfinite(value) else None
        case _:
            return value
