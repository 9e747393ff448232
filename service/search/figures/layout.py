"""The trials that figures show, and the layout that all figures share: labels, axes, colours."""

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
from service.domain.records import TrialSummary
from service.domain.spec import StudySpec
from trainer.tasks.base import Metric

LONGEST = 40  # characters of a choice's label; a choice may have 256
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    """The text escaped for Plotly, which interprets some HTML."""
    return html.escape(text, quote=False)


def number_text(value: float) -> str:
    """The number with four significant digits."""
    return f"{value:.4g}"


def value_text(metric: Metric, value: float | None) -> str:
    """A metric's value in the format of the pages."""
    if value is None:
        return "\N{EN DASH}"
    return f"{100 * value:.2f}\N{NO-BREAK SPACE}%" if metric.is_share else number_text(value)


def tick_format(metric: Metric) -> str | None:
    """The d3 format of an axis of the metric; None for Plotly's default."""
    return ".4~p" if metric.is_share else None


class Choices:
    """Distinct labels for the choices of a categorical parameter: `1`, `1.0` and `"1"` get three different ones."""

    def __init__(self, parameter: Categorical) -> None:
        self._labels = {(type(choice), choice): "" for choice in parameter.choices}
        taken = set[str]()
        for key in self._labels:
            self._labels[key] = label = _distinct(_label(key[1]), key[1], taken)
            taken.add(label)

    def label(self, choice: Scalar) -> str:
        """The choice's label, not escaped."""
        return self._labels.get((type(choice), choice)) or _label(choice)

    def contains(self, choice: Scalar) -> bool:
        """Whether it is one of the parameter's choices."""
        return (type(choice), choice) in self._labels

    @property
    def labels(self) -> Sequence[str]:
        """All labels, in the order of the choices."""
        return list(self._labels.values())


def scalar_text(choices: Mapping[str, Choices], name: str, value: Scalar) -> str:
    """A parameter's value as text, not escaped."""
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


CurvesByTrial = Mapping[int, Sequence[tuple[int, float]]]
"""(step, objective) of trials by number."""


UTMOST = 1e100  # larger values are clipped, so that differences and squares stay finite


@dataclass(frozen=True)
class FigureData:
    """The trials of one study at one time."""

    spec: StudySpec
    outcomes: Sequence[TrialSummary]  # by number
    curves: CurvesByTrial = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The objective's name."""
        return self.spec.objective.metric

    @property
    def measure(self) -> Metric:
        """The objective's range and unit."""
        return self.spec.measure

    @property
    def maximizes(self) -> bool:
        """Whether more is better."""
        return self.spec.objective.direction == "maximize"

    @cached_property
    def complete(self) -> list[TrialSummary]:
        """The trials that ended with a finite objective. Figures compare only these."""
        return [outcome for outcome in self.outcomes if outcome.scored is not None]

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """The objective of each of `complete`, clipped to ±UTMOST."""
        return np.clip(np.array([outcome.value for outcome in self.complete], dtype=np.float64), -UTMOST, UTMOST)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """The same, negated where higher is better."""
        return -self.values if self.maximizes else self.values

    @property
    def best(self) -> TrialSummary:
        """The best of `complete`, which must not be empty; the first of equal ones."""
        return self.complete[int(np.argmin(self.losses))]

    @cached_property
    def params(self) -> list[str]:
        """The parameters of complete trials, in the order of the space."""
        return [name for name, places in self.places.items() if places]

    @cached_property
    def choices(self) -> dict[str, Choices]:
        """The categorical parameters' choices by name."""
        return {name: Choices(each) for name, each in self.spec.search_space.root.items() if isinstance(each, Categorical)}

    def parameter(self, name: str) -> Float | Int | Categorical:
        """The parameter's definition in the search space."""
        return self.spec.search_space.root[name]

    def is_log(self, name: str) -> bool:
        """Whether the parameter is sampled on a log scale."""
        parameter = self.parameter(name)
        return not isinstance(parameter, Categorical) and parameter.log

    def has(self, outcome: TrialSummary, name: str) -> bool:
        """Whether the trial has this parameter with a value of the search space. A baseline may have other values."""
        if name not in outcome.params or name not in self.spec.search_space.root:
            return False
        if name in self.choices:
            return self.choices[name].contains(outcome.params[name])
        return contains(self.parameter(name), outcome.params[name])

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """For each parameter of the space, the indices in `complete` of the trials that have it."""
        return {
            name: [place for place, outcome in enumerate(self.complete) if self.has(outcome, name)] for name in self.spec.search_space.root
        }

    def having(self, *names: str) -> list[int]:
        """The indices in `complete` of the trials that have all these parameters."""
        first, *others = (self.places[name] for name in names)
        return sorted(set(first).intersection(*others))

    def positions(self, name: str, places: Sequence[int]) -> NDArray[np.float64]:
        """The parameter of those trials on the scale of its axis: the index of a choice, the exponent of ten on a log scale."""
        found = [self.complete[place].params[name] for place in places]
        if name in self.choices:
            order = {label: index for index, label in enumerate(self.choices[name].labels)}
            return np.array([order[self.choices[name].label(value)] for value in found], dtype=np.float64)
        scale = math.log10 if self.is_log(name) else float
        return np.array([scale(value) for value in found], dtype=np.float64)  # type: ignore[arg-type]

    @cached_property
    def hovers(self) -> dict[int, str]:
        """`hover` of each complete trial, by number."""
        return {outcome.number: self.hover(outcome) for outcome in self.complete}

    def hover(self, outcome: TrialSummary) -> str:
        """The trial's number, objective and parameters as lines of Plotly's markup."""
        of = f" ({outcome.source})" if outcome.source == "baseline" else ""
        lines = [f"<b>trial {outcome.number}</b>{of}", f"{self.metric} {value_text(self.measure, outcome.value)}"]
        lines += (f"{name} {escaped(self.text(name, outcome))}" for name in outcome.params)
        return "<br>".join(lines)

    def best_in_words(self, *names: str) -> str:
        """A sentence on the best complete trial and its values of these parameters."""
        at = ", ".join(f"{name} {self.text(name, self.best)}" for name in names if self.has(self.best, name))
        value = value_text(self.measure, self.best.value)
        return f"The best, {value}, is trial {self.best.number}{' at ' if at else ''}{at}."

    def text(self, name: str, outcome: TrialSummary) -> str:
        """The trial's value of a parameter, not escaped."""
        return scalar_text(self.choices, name, outcome.params[name])


Figure = dict[str, Any]
"""`data` and `layout` in Plotly's format. `layout.meta` describes the figure for screen readers, in text that is not escaped: `summary`
and `rows`. Its `params` are the parameters that are shown."""

COLORS = {"point": "#2f8bb0", "best": "#d9653b", "line": "#808e96"}
SCALE = "Viridis"  # its lightness is monotonic, so it is readable with any colour vision
FAR = 8.0  # values farther away than this many spans of the middle nine tenths do not set the range of an axis
FEW = 10  # values; with fewer, quantiles are meaningless
FAR_OF_FEW = 10  # the same as FAR, in spans of all values but the worst
MARGIN = {"l": 64, "r": 16, "t": 16, "b": 52}


def framed(data: Sequence[dict[str, Any]], summary: str, rows: Sequence[Sequence[str]] = (), **layout: Any) -> Figure:
    """A figure of these traces, described by `summary` and `rows`."""
    common = {"margin": MARGIN, "hovermode": "closest", "showlegend": False, "uirevision": "thawline"}
    return {
        "data": list(data),
        "layout": common | layout | {"meta": {"summary": summary, "rows": [list(row) for row in rows], "params": []}},
    }


def unable(sentence: str) -> Figure:
    """A figure without traces that shows this explanation."""
    note = {"text": escaped(sentence), "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "font": {"size": 14}}
    hidden = {"visible": False}
    return framed([], sentence, annotations=[note], xaxis=hidden, yaxis=hidden)


def metric_axis(data: FigureData, values: Sequence[float] | None = None, **more: Any) -> dict[str, Any]:
    """An axis of the objective. A few values far away from all others do not set its initial range."""
    axis = {"title": {"text": data.metric}, "tickformat": tick_format(data.measure), "automargin": True, **more}
    if values is not None and (bounds := near(data, values)) is not None:
        axis["range"] = list(bounds)
    return {name: value for name, value in axis.items() if value is not None}


def near(data: FigureData, values: Sequence[float]) -> tuple[float, float] | None:
    """The range of the values without bad ones that lie far from the rest. None if there are no such values."""
    if len(values) < FEW:
        return _near_of_few(sorted(values, reverse=data.maximizes))
    values = np.clip(values, -UTMOST, UTMOST).tolist()
    low, high = np.quantile(values, [0.05, 0.95])
    reach = FAR * (high - low)
    first, last = float(np.min(values)), float(np.max(values))
    if reach <= 0 or (low - first <= reach if data.maximizes else last - high <= reach):
        return None
    inside = [value for value in values if (value >= low - reach if data.maximizes else value <= high + reach)]
    margin = 0.04 * (max(inside) - min(inside))
    return min(inside) - margin, max(inside) + margin


def _near_of_few(ordered: Sequence[float]) -> tuple[float, float] | None:
    """The same for few values, the best one first: the range without the worst value, if it lies far from all others."""
    if len(ordered) < 3:
        return None
    low, high = sorted((ordered[0], ordered[-2]))
    span = max(high - low, 0.05 * max(abs(low), abs(high)))
    if abs(ordered[-1] - ordered[-2]) <= FAR_OF_FEW * span:
        return None
    return low - 0.04 * span, high + 0.04 * span


def beyond_in_words(data: FigureData) -> str:
    """A sentence on the objectives outside the range of their axis; empty if there are none."""
    values = data.values.tolist()
    if (bounds := near(data, values)) is None:
        return ""
    beyond = [value for value in values if not bounds[0] <= value <= bounds[1]]
    worst = value_text(data.measure, min(beyond) if data.maximizes else max(beyond))
    return f" {len(beyond)} of the values lie beyond the axis, up to {worst}."


def param_axis(data: FigureData, name: str, **more: Any) -> dict[str, Any]:
    """An axis of a parameter, on the scale of the search space, with choices in their order."""
    title: dict[str, Any] = {"title": {"text": escaped(name)}, "automargin": True}
    if name in data.choices:
        order = [escaped(label) for label in data.choices[name].labels]
        return title | {"type": "category", "categoryorder": "array", "categoryarray": order} | more
    if not data.is_log(name):
        return title | {"type": "linear"} | more
    return title | {"type": "log", **_decades(data, name)} | more


def _decades(data: FigureData, name: str) -> dict[str, Any]:
    """Ticks of a log scale: whole powers of ten if the values span several."""
    positions = data.positions(name, data.having(name))
    return {"dtick": 1, "exponentformat": "power", "tickfont": {"size": 10}} if np.ptp(positions) >= 2 else {}


def plain(value: Any) -> Any:
    """The value as JSON can represent it: arrays become lists, numbers that are not finite null."""
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
