"""Figures that are computed here: contour, learning curves, distribution, parallel coordinates, timeline."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.records import TrialSummary
from service.domain.states import TrialState
from service.search.figures.layout import (
    COLORS,
    SCALE,
    Figure,
    FigureData,
    beyond_in_words,
    escaped,
    framed,
    metric_axis,
    number_text,
    param_axis,
    tick_format,
    unable,
    value_text,
)

Numbers = NDArray[np.float64]

MANY = 400  # trials; with more, points are drawn smaller
CELLS = 56  # along each axis
FEWEST_TRIALS = 4  # for a surface
NARROWEST = 0.03  # smallest kernel width, as a share of the axis
SUPPORT = 0.5  # smallest sum of kernels (each 1 at its trial) for which the surface has a value
APART = 6.0  # kernel widths between neighbouring choices, so that trials do not affect other choices
CAPPED = 0.05  # share of the worst trials that do not set the colour range; diverged trials are among them


def contour(data: FigureData, names: tuple[str, str]) -> Figure:
    """The smoothed objective over two parameters, `names` along x and y, and the trials as points."""
    places = data.having(*names)
    if not places:
        return unable(f"No complete trial has both {names[0]} and {names[1]} yet.")
    x, y = (data.positions(name, places) for name in names)
    values = data.values[places]
    colors = _colors(data, values)
    points = _points(data, names, places, (x, y)) | {"marker": _marker(values, colors)}
    drawn = [points]
    if len(places) >= FEWEST_TRIALS and np.ptp(x) > 0 and np.ptp(y) > 0:
        drawn.insert(0, _surface(data, names, (x, y), values) | colors)
    return framed(
        drawn, _summary(data, names, places), xaxis=_axis(data, names[0], x), yaxis=_axis(data, names[1], y),
    )  # fmt: skip


def _surface(data: FigureData, names: tuple[str, str], positions: tuple[Numbers, Numbers], values: Numbers) -> dict[str, Any]:
    grid_x, grid_y = (_grid(data, name, where) for name, where in zip(names, positions, strict=True))
    if any(name in data.choices for name in names):
        kind: dict[str, Any] = {"type": "heatmap", "xgap": 1, "ygap": 1}
    else:
        kind = {"type": "contour", "contours": {"coloring": "heatmap"}, "line": {"width": 0.5, "color": "rgba(128, 142, 150, 0.6)"}}
    return {
        **kind, "x": _drawn(data, names[0], grid_x).tolist(), "y": _drawn(data, names[1], grid_y).tolist(),
        "z": smooth(positions, values, (grid_x, grid_y), [name in data.choices for name in names]), "hoverinfo": "skip",
        "connectgaps": False,
    }  # fmt: skip


def smooth(
    positions: tuple[Numbers, Numbers], values: Numbers, grid: tuple[Numbers, Numbers], choices: Sequence[bool] = (False, False)
) -> list[list[float | None]]:
    """The kernel-weighted mean of the trials at each point of the grid, (y, x); None far from every trial.

    The kernel is a normal distribution with the width of Scott's rule in two dimensions. Along an axis with `choices`, it is so
    narrow that choices do not affect each other.
    """
    along_x, along_y = (_weights(*axis) for axis in zip(positions, grid, choices, strict=True))
    support = along_y @ along_x.T
    sums = (along_y * values) @ along_x.T
    known = support >= SUPPORT
    return [
        [float(f"{total / weight:.5g}") if enough else None for total, weight, enough in zip(*row, strict=True)]
        for row in zip(sums.tolist(), support.tolist(), known.tolist(), strict=True)
    ]


def _weights(where: Numbers, points: Numbers, apart: bool) -> Numbers:
    """The weight of each trial at each point along one axis: float64 [points, trials]."""
    span = np.ptp(points)
    width = 1 / APART if apart else span * max(float(np.std(where / span)) * where.size ** (-1 / 6), NARROWEST)
    return np.asarray(np.exp(-(((points[:, None] - where[None, :]) / width) ** 2) / 2))


def _grid(data: FigureData, name: str, where: Numbers) -> Numbers:
    if name in data.choices:
        return np.arange(len(data.choices[name].labels), dtype=np.float64)
    return np.linspace(where.min(), where.max(), CELLS)


def _drawn(data: FigureData, name: str, where: Numbers) -> Numbers:
    """Positions in the unit of the axis."""
    return np.asarray(10**where if data.is_log(name) else where)


def _axis(data: FigureData, name: str, where: Numbers) -> dict[str, Any]:
    """An axis of the contour. Choices are placed at whole numbers, because a surface needs distances."""
    if name not in data.choices:
        margin = 0.03 * float(np.ptp(where)) or 0.5
        return param_axis(data, name, range=[float(where.min()) - margin, float(where.max()) + margin])
    labels = [escaped(label) for label in data.choices[name].labels]
    ticks = {"tickmode": "array", "tickvals": list(range(len(labels))), "ticktext": labels, "range": [-0.5, len(labels) - 0.5]}
    return {"title": {"text": escaped(name)}, "type": "linear", "zeroline": False, "automargin": True, **ticks}


def _points(data: FigureData, names: tuple[str, str], places: list[int], positions: tuple[Numbers, Numbers]) -> dict[str, Any]:
    x, y = (_drawn(data, name, where).tolist() for name, where in zip(names, positions, strict=True))
    shown = [data.hovers[data.complete[place].number] for place in places]
    return {"type": "scatter", "mode": "markers", "x": x, "y": y, "hovertext": shown, "hovertemplate": "%{hovertext}<extra></extra>"}


def _colors(data: FigureData, values: Numbers) -> dict[str, Any]:
    ends = (CAPPED, 1.0) if data.maximizes else (0.0, 1 - CAPPED)
    low, high = (float(end) for end in np.quantile(values, ends))
    if low == high:
        low, high = low - 0.5 * abs(low) - 1e-9, high + 0.5 * abs(high) + 1e-9
    axis = metric_axis(data)
    bar = {
        "title": axis["title"],
        "thickness": 12,
        "outlinewidth": 0,
        **({"tickformat": axis["tickformat"]} if "tickformat" in axis else {}),
    }
    return {"colorscale": SCALE, "reversescale": not data.maximizes, "zmin": low, "zmax": high, "zauto": False, "colorbar": bar}


def _marker(values: Numbers, colors: dict[str, Any]) -> dict[str, Any]:
    own = {"color": values.tolist(), "cmin": colors["zmin"], "cmax": colors["zmax"], **_size(len(values))}
    return {**own, "colorscale": colors["colorscale"], "reversescale": colors["reversescale"]}


def _size(count: int) -> dict[str, Any]:
    """The size of points; smaller for many trials, so that the surface stays visible."""
    size, edge = (6, 0.8) if count <= MANY else (4, 0.4)
    return {"size": size, "line": {"width": edge, "color": COLORS["line"]}}


def _summary(data: FigureData, names: tuple[str, str], places: list[int]) -> str:
    shown = f"Mean {data.metric} of {len(places)} complete trials by {names[0]} and {names[1]}; brighter is better."
    return f"{shown} {data.best_in_words(*names)}"


STYLES = {
    TrialState.PRUNED: {"color": "#9a86d4", "dash": "dot"},
    TrialState.FAILED: {"color": "#d2564c", "dash": "dash"},
    TrialState.CANCELLED: {"color": "#808e96", "dash": "dash"},
    TrialState.COMPLETE: {"color": "#2f8bb0", "dash": "solid"},
    TrialState.RUNNING: {"color": "#2c9a66", "dash": "solid"},
}
"""In drawing order: later states are drawn on top."""
HOVER = "trial %{customdata}<br>epoch %{x}<br>%{y}<extra></extra>"


def intermediate_values(data: FigureData) -> Figure:
    """The objective by epoch. Some steps may be left out of `curves` when there are very many."""
    drawn = {state: [each for each in data.outcomes if each.state is state and _curve(data, each)] for state in STYLES}
    if not any(drawn.values()):
        return unable("No trial has reported an epoch yet.")
    traces = [_trace(data, state, trials) for state, trials in drawn.items() if trials]
    every = [value for trials in drawn.values() for trial in trials for _, value in _curve(data, trial)]
    counted = ", ".join(f"{len(trials)} {state}" for state, trials in reversed(drawn.items()) if trials)
    best = f" The best complete one is trial {data.best.number} with {value_text(data.measure, data.best.value)}." if data.complete else ""
    return framed(
        traces, f"{data.metric} by epoch of {counted} trials.{best}", xaxis={"title": {"text": "epoch"}},
        yaxis=metric_axis(data, every), showlegend=True,
    )  # fmt: skip


def _curve(data: FigureData, outcome: TrialSummary) -> list[tuple[int, float]]:
    """The trial's curve, completed with its final value, because the last step may have been left out."""
    known = list(data.curves.get(outcome.number, ()))
    if outcome.scored is not None and known and known[-1][0] < outcome.step:
        known.append((outcome.step, outcome.scored))
    return known


def _trace(data: FigureData, state: TrialState, trials: list[TrialSummary]) -> dict[str, Any]:
    x, y, numbers = list[int | None](), list[float | None](), list[int | None]()
    for trial in trials:
        curve = _curve(data, trial)
        x += [*(step for step, _ in curve), None]
        y += [*(value for _, value in curve), None]
        numbers += [*(trial.number for _ in curve), None]
    dim = 0.45 if state is not TrialState.COMPLETE else 0.75
    mode = "lines+markers" if max(len(_curve(data, trial)) for trial in trials) == 1 else "lines"
    line = {"width": 1.2, **STYLES[state]}
    return {
        "type": "scatter", "mode": mode, "name": str(state), "x": x, "y": y, "customdata": numbers, "line": line, "opacity": dim,
        "hovertemplate": HOVER, "connectgaps": False,
    }  # fmt: skip


QUANTILES = {"best": 0.0, "best tenth": 0.1, "best quarter": 0.25, "half": 0.5, "worst": 1.0}


def edf(data: FigureData) -> Figure:
    """The share of complete trials whose objective is at most x."""
    order = np.argsort(data.values, kind="stable")
    values = data.values[order]
    shares = np.arange(1, values.size + 1) / values.size
    line = {
        "type": "scatter", "mode": "lines+markers" if values.size == 1 else "lines", "x": [values[0], *values], "y": [0.0, *shares],
        "line": {"shape": "hv", "color": COLORS["point"], "width": 2},
        "hovertemplate": f"{data.metric} ≤ %{{x}}: %{{y:.1%}}<extra></extra>",
    }  # fmt: skip
    reached = {name: value_text(data.measure, _reached(data, share)) for name, share in QUANTILES.items()}
    summary = (
        f"Of {values.size} complete trials half reach {reached['half']}, a tenth {reached['best tenth']}, "
        f"and the best, trial {data.best.number}, {reached['best']}.{beyond_in_words(data)}"
    )
    axis = {"title": {"text": "share of trials"}, "range": [0, 1.03], "tickformat": ".0%", "automargin": True}
    return framed([line], summary, list(reached.items()), xaxis=metric_axis(data, data.values.tolist()), yaxis=axis)


def _reached(data: FigureData, share: float) -> float:
    """The objective that this share of the trials reaches or exceeds."""
    loss = float(np.quantile(data.losses, share, method="inverted_cdf"))
    return -loss if data.maximizes else loss


GAP = 0.12  # share of the axis below its values, for the trials that lack the parameter
TICKS = 5


def parallel_coordinate(data: FigureData, names: Sequence[str]) -> Figure:
    """The objective, then the parameters in the order given. A trial without a parameter crosses its axis at “none”, below the values."""
    if not names:
        return unable("No complete trial has a parameter that varies.")
    values = data.values
    objective = {"label": data.metric, "values": values.tolist()}
    if (ticks := tick_format(data.measure)) is not None:
        objective["tickformat"] = ticks
    line = {"color": values.tolist(), "colorscale": SCALE, "reversescale": not data.maximizes, "showscale": True}
    summary = f"{len(values)} complete trials by {', '.join(names)}. {data.best_in_words(*names)}"
    dimensions = [objective, *(_dimension(data, name) for name in names)]
    return framed([{"type": "parcoords", "dimensions": dimensions, "line": line}], summary, margin={"l": 72, "r": 40, "t": 48, "b": 24})


def _dimension(data: FigureData, name: str) -> dict[str, Any]:
    places = data.having(name)
    known = data.positions(name, places)
    values = np.full(len(data.complete), np.nan)
    values[places] = known
    ticks, labels = _ticks(data, name, float(known.min()), float(known.max()))
    if len(places) < len(values):
        span = (ticks[-1] - ticks[0]) or 1.0
        none = ticks[0] - GAP * span
        values[np.isnan(values)] = none
        ticks, labels = [none, *ticks], ["none", *labels]
    return {"label": escaped(name), "values": values.tolist(), "tickvals": ticks, "ticktext": [escaped(label) for label in labels]}


def _ticks(data: FigureData, name: str, low: float, high: float) -> tuple[list[float], list[str]]:
    """Tick positions on the axis, and their labels."""
    if name in data.choices:
        labels = list(data.choices[name].labels)
        return [float(index) for index in range(len(labels))], labels
    places = [low] if low == high else np.linspace(low, high, TICKS).tolist()
    return places, [number_text(10**place if data.is_log(name) else place) for place in places]


STATE_COLORS = {
    TrialState.COMPLETE: "#2c9a66",
    TrialState.PRUNED: "#9a86d4",
    TrialState.FAILED: "#d2564c",
    TrialState.CANCELLED: "#808e96",
    TrialState.RUNNING: "#2f8bb0",
    TrialState.PAUSED: "#c9a227",
    TrialState.QUEUED: "#b6c2c8",  # it ran before and waits for another attempt
}
PATTERNS = {TrialState.PRUNED: "/", TrialState.FAILED: "x", TrialState.CANCELLED: ".", TrialState.RUNNING: "-"}
MOST_PATTERNS = 200  # trials; with more, bars are too thin for a pattern and a number
THINNEST = 0.0005  # smallest length of a bar, as a share of the whole time


@dataclass(frozen=True, slots=True)
class TrialSpan:
    """A trial's start and end, in seconds since 1970, and its row, which no other trial occupies during that time."""

    start: float
    end: float
    row: int


def timeline(data: FigureData, now: float) -> Figure:
    """A bar from each trial's first claim to its end, or to `now` (seconds since 1970) for running trials. Times are UTC.

    Consecutive trials share a row, so the number of rows is the largest number of trials that ran at the same time.
    """
    started = [each for each in data.outcomes if each.started_at is not None]
    if not started:
        return unable("No trial has started yet.")
    spans = spans_of(started, now)
    first, last = min(span.start for span in spans.values()), max(span.end for span in spans.values())
    counts = Counter(each.state for each in started)
    by_state = {state: [each for each in started if each.state is state] for state in STATE_COLORS if counts[state]}
    traces = [_bars(data, trials, spans, THINNEST * (last - first)) for trials in by_state.values()]
    if len(started) <= MOST_PATTERNS:
        traces = [trace | _details(trials) for trace, trials in zip(traces, by_state.values(), strict=True)]
    rows = [(str(state), str(counts[state])) for state in by_state]
    side = 1 + max(span.row for span in spans.values())
    counted = ", ".join(f"{count} {state}" for state, count in rows)
    summary = f"{len(started)} trials from {_moment(first)} to {_moment(last)} UTC, at most {side} at the same time: {counted}."
    axes = {"xaxis": {"type": "date", "title": {"text": "time, UTC"}}, "yaxis": _rows_axis(side)}
    return framed(traces, summary, rows, **axes, barmode="overlay", bargap=0.12, showlegend=True)


def spans_of(started: Sequence[TrialSummary], now: float) -> Mapping[int, TrialSpan]:
    """The time and row of each trial, by number."""
    times = sorted((each.started_at or 0.0, each.number, now if each.finished_at is None else each.finished_at) for each in started)
    free, busy, spans = list[int](), list[tuple[float, int]](), dict[int, TrialSpan]()
    for start, number, ended in times:
        end = max(start, ended)  # the clocks of two machines may differ
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, row))
        spans[number] = TrialSpan(start, end, row)
    return spans


def _bars(data: FigureData, trials: Sequence[TrialSummary], spans: Mapping[int, TrialSpan], thinnest: float) -> dict[str, Any]:
    times, state = [spans[trial.number] for trial in trials], trials[0].state
    return {
        "type": "bar", "orientation": "h", "name": str(state), "y": [span.row + 1 for span in times],
        "base": [1000 * span.start for span in times], "x": [1000 * max(span.end - span.start, thinnest) for span in times],
        "marker": {"color": STATE_COLORS[state], "line": {"width": 0}}, "textposition": "none",
        "hovertext": [f"{data.hover(trial)}<br>{state}, {_duration(spans[trial.number])}" for trial in trials],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }  # fmt: skip


def _details(trials: Sequence[TrialSummary]) -> dict[str, Any]:
    """Trial numbers and state patterns, for bars that are thick enough."""
    state = trials[0].state
    pattern = {"pattern": {"shape": PATTERNS[state], "size": 6, "fgopacity": 0.35}} if state in PATTERNS else {}
    numbers = {"text": [str(trial.number) for trial in trials], "textposition": "inside", "insidetextanchor": "middle", "textangle": 0}
    return {**numbers, "constraintext": "inside", "marker": {"color": STATE_COLORS[state], "line": {"width": 0}, **pattern}}


def _rows_axis(rows: int) -> dict[str, Any]:
    title = {"text": "trials at the same time"}
    return {"title": title, "range": [rows + 0.5, 0.5], "dtick": max(1, rows // 8), "tick0": 1, "automargin": True, "showgrid": False}


def _duration(span: TrialSpan) -> str:
    seconds = round(span.end - span.start)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
