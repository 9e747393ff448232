"""Parallel coordinates: a line for each complete trial, through its value of each parameter."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.search.figures.exhibit import Exhibit
from service.search.figures.frame import SCALE, Figure, framed, unable
from service.search.figures.labels import escaped, number_text, tick_format

GAP = 0.12  # of the axis, below its values, for the trials that do not have the parameter
TICKS = 5


def parallel_coordinate(exhibit: Exhibit, names: Sequence[str]) -> Figure:
    """The objective first, then the parameters in the order given. A trial that lacks one passes below its values, at “none”."""
    if not names:
        return unable("No complete trial has a parameter that varies.")
    values = exhibit.values
    objective = {"label": exhibit.metric, "values": values.tolist()}
    if (ticks := tick_format(exhibit.measure)) is not None:
        objective["tickformat"] = ticks
    line = {"color": values.tolist(), "colorscale": SCALE, "reversescale": not exhibit.maximizes, "showscale": True}
    summary = f"{len(values)} complete trials by {', '.join(names)}. {exhibit.best_in_words(*names)}"
    dimensions = [objective, *(_dimension(exhibit, name) for name in names)]
    return framed([{"type": "parcoords", "dimensions": dimensions, "line": line}], summary, margin={"l": 72, "r": 40, "t": 48, "b": 24})


def _dimension(exhibit: Exhibit, name: str) -> dict[str, Any]:
    places = exhibit.having(name)
    known = exhibit.positions(name, places)
    values = np.full(len(exhibit.complete), np.nan)
    values[places] = known
    ticks, words = _ticks(exhibit, name, float(known.min()), float(known.max()))
    if len(places) < len(values):
        span = (ticks[-1] - ticks[0]) or 1.0
        none = ticks[0] - GAP * span
        values[np.isnan(values)] = none
        ticks, words = [none, *ticks], ["none", *words]
    return {"label": escaped(name), "values": values.tolist(), "tickvals": ticks, "ticktext": [escaped(word) for word in words]}


def _ticks(exhibit: Exhibit, name: str, low: float, high: float) -> tuple[list[float], list[str]]:
    """Places on the axis, and what stands there."""
    if name in exhibit.choices:
        labels = list(exhibit.choices[name].labels)
        return [float(index) for index in range(len(labels))], labels
    places = [low] if low == high else np.linspace(low, high, TICKS).tolist()
    return places, [number_text(10**place if exhibit.is_log(name) else place) for place in places]
