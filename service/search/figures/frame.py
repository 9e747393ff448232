"""What all figures have in common: layout, words beside them, and the sentence in place of one that cannot be drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.search.figures.exhibit import UTMOST, Exhibit
from service.search.figures.labels import escaped, tick_format, value_text

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


def metric_axis(exhibit: Exhibit, values: Sequence[float] | None = None, **more: Any) -> dict[str, Any]:
    """An axis of the objective. A few values far away from all others do not set its range; they can be scrolled to."""
    axis = {"title": {"text": exhibit.metric}, "tickformat": tick_format(exhibit.measure), "automargin": True, **more}
    if values is not None and (bounds := near(exhibit, values)) is not None:
        axis["range"] = list(bounds)
    return {name: value for name, value in axis.items() if value is not None}


def near(exhibit: Exhibit, values: Sequence[float]) -> tuple[float, float] | None:
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


def beyond_in_words(exhibit: Exhibit) -> str:
    """A sentence on the objectives that the range of their axis leaves out; empty where it holds all of them."""
    values = exhibit.values.tolist()
    if (bounds := near(exhibit, values)) is None:
        return ""
    beyond = [value for value in values if not bounds[0] <= value <= bounds[1]]
    worst = value_text(exhibit.measure, min(beyond) if exhibit.maximizes else max(beyond))
    return f" {len(beyond)} of the values lie beyond the axis, up to {worst}."


def param_axis(exhibit: Exhibit, name: str, **more: Any) -> dict[str, Any]:
    """An axis of a parameter, on the scale that its space has; choices stand in their order."""
    title: dict[str, Any] = {"title": {"text": escaped(name)}, "automargin": True}
    if name in exhibit.choices:
        order = [escaped(label) for label in exhibit.choices[name].labels]
        return title | {"type": "category", "categoryorder": "array", "categoryarray": order} | more
    if not exhibit.is_log(name):
        return title | {"type": "linear"} | more
    return title | {"type": "log", **_decades(exhibit, name)} | more


def _decades(exhibit: Exhibit, name: str) -> dict[str, Any]:
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
