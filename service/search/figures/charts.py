"""Figures of our own: contour, learning curves, distribution, parallel coordinates, timeline."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.records import Outcome
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

MANY = 400  # trials
CELLS = 56  # along each axis
FEWEST_TRIALS = 4
NARROWEST = 0.03  # width of a trial's weight, as a share of the axis
SUPPORT = 0.5  # of trials, each 1 at its own place: with less, nothing is said of the objective
APART = 6.0  # widths from one choice to the next: a trial says nothing of another choice
CAPPED = 0.05  # the worst trials do not set the colours: among them are those that came to nothing


def contour(exhibit: FigureData, names: tuple[str, str]) -> Figure:
    """`names` are the parameters along x and y."""
    places = exhibit.having(*names)
    if not places:
        return unable(f"No complete trial has both {names[0]} and {names[1]} yet.")
    x, y = (exhibit.positions(name, places) for name in names)
    values = exhibit.values[places]
    colors = _colors(exhibit, values)
    points = _points(exhibit, names, places, (x, y)) | {"marker": _marker(values, colors)}
    drawn = [points]
    if len(places) >= FEWEST_TRIALS and np.ptp(x) > 0 and np.ptp(y) > 0:
        drawn.insert(0, _surface(exhibit, names, (x, y), values) | colors)
    return framed(
        drawn, _summary(exhibit, names, places), xaxis=_axis(exhibit, names[0], x), yaxis=_axis(exhibit, names[1], y),
    )  # fmt: skip


def _surface(exhibit: FigureData, names: tuple[str, str], positions: tuple[Numbers, Numbers], values: Numbers) -> dict[str, Any]:
    grid_x, grid_y = (_grid(exhibit, name, where) for name, where in zip(names, positions, strict=True))
    if any(name in exhibit.choices for name in names):
        kind: dict[str, Any] = {"type": "heatmap", "xgap": 1, "ygap": 1}
    else:
        kind = {"type": "contour", "contours": {"coloring": "heatmap"}, "line": {"width": 0.5, "color": "rgba(128, 142, 150, 0.6)"}}
    return {
        **kind, "x": _drawn(exhibit, names[0], grid_x).tolist(), "y": _drawn(exhibit, names[1], grid_y).tolist(),
        "z": smooth(positions, values, (grid_x, grid_y), [name in exhibit.choices for name in names]), "hoverinfo": "skip",
        "connectgaps": False,
    }  # fmt: skip


def smooth(
    positions: tuple[Numbers, Numbers], values: Numbers, grid: tuple[Numbers, Numbers], choices: Sequence[bool] = (False, False)
) -> list[list[float | None]]:
    """The weighted mean of the trials at each point of the grid, a row for each y; None far from every trial.

    Nearer trials weigh more, by a normal distribution as wide as Scott's rule has it in two dimensions. Along an axis of choices
    (`choices` says which are) each stands for itself.
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
    """Of each trial at each point, along one axis: float64 [points, trials]."""
    span = np.ptp(points)
    width = 1 / APART if apart else span * max(float(np.std(where / span)) * where.size ** (-1 / 6), NARROWEST)
    return np.asarray(np.exp(-(((points[:, None] - where[None, :]) / width) ** 2) / 2))


def _grid(exhibit: FigureData, name: str, where: Numbers) -> Numbers:
    if name in exhibit.choices:
        return np.arange(len(exhibit.choices[name].labels), dtype=np.float64)
    return np.linspace(where.min(), where.max(), CELLS)


def _drawn(exhibit: FigureData, name: str, where: Numbers) -> Numbers:
    """Positions as the axis wants them."""
    return np.asarray(10**where if exhibit.is_log(name) else where)


def _axis(exhibit: FigureData, name: str, where: Numbers) -> dict[str, Any]:
    """Choices stand at whole numbers: a surface needs distances."""
    if name not in exhibit.choices:
        margin = 0.03 * float(np.ptp(where)) or 0.5
        return param_axis(exhibit, name, range=[float(where.min()) - margin, float(where.max()) + margin])
    labels = [escaped(label) for label in exhibit.choices[name].labels]
    ticks = {"tickmode": "array", "tickvals": list(range(len(labels))), "ticktext": labels, "range": [-0.5, len(labels) - 0.5]}
    return {"title": {"text": escaped(name)}, "type": "linear", "zeroline": False, "automargin": True, **ticks}


def _points(exhibit: FigureData, names: tuple[str, str], places: list[int], positions: tuple[Numbers, Numbers]) -> dict[str, Any]:
    x, y = (_drawn(exhibit, name, where).tolist() for name, where in zip(names, positions, strict=True))
    shown = [exhibit.hovers[exhibit.complete[place].number] for place in places]
    return {"type": "scatter", "mode": "markers", "x": x, "y": y, "hovertext": shown, "hovertemplate": "%{hovertext}<extra></extra>"}


def _colors(exhibit: FigureData, values: Numbers) -> dict[str, Any]:
    ends = (CAPPED, 1.0) if exhibit.maximizes else (0.0, 1 - CAPPED)
    low, high = (float(end) for end in np.quantile(values, ends))
    if low == high:
        low, high = low - 0.5 * abs(low) - 1e-9, high + 0.5 * abs(high) + 1e-9
    axis = metric_axis(exhibit)
    bar = {
        "title": axis["title"],
        "thickness": 12,
        "outlinewidth": 0,
        **({"tickformat": axis["tickformat"]} if "tickformat" in axis else {}),
    }
    return {"colorscale": SCALE, "reversescale": not exhibit.maximizes, "zmin": low, "zmax": high, "zauto": False, "colorbar": bar}


def _marker(values: Numbers, colors: dict[str, Any]) -> dict[str, Any]:
    own = {"color": values.tolist(), "cmin": colors["zmin"], "cmax": colors["zmax"], **_size(len(values))}
    return {**own, "colorscale": colors["colorscale"], "reversescale": colors["reversescale"]}


def _size(count: int) -> dict[str, Any]:
    """Of many trials the points do not hide what they stand upon."""
    size, edge = (6, 0.8) if count <= MANY else (4, 0.4)
    return {"size": size, "line": {"width": edge, "color": COLORS["line"]}}


def _summary(exhibit: FigureData, names: tuple[str, str], places: list[int]) -> str:
    shown = f"Mean {exhibit.metric} of {len(places)} complete trials by {names[0]} and {names[1]}; brighter is better."
    return f"{shown} {exhibit.best_in_words(*names)}"


STYLES = {
    TrialState.PRUNED: {"color": "#9a86d4", "dash": "dot"},
    TrialState.FAILED: {"color": "#d2564c", "dash": "dash"},
    TrialState.CANCELLED: {"color": "#808e96", "dash": "dash"},
    TrialState.COMPLETE: {"color": "#2f8bb0", "dash": "solid"},
    TrialState.RUNNING: {"color": "#2c9a66", "dash": "solid"},
}
"""By state, those that are drawn first lie below."""
HOVER = "trial %{customdata}<br>epoch %{x}<br>%{y}<extra></extra>"


def intermediate_values(exhibit: FigureData) -> Figure:
    """The objective by epoch; steps are left out where there are very many."""
    drawn = {state: [each for each in exhibit.outcomes if each.state is state and _curve(exhibit, each)] for state in STYLES}
    if not any(drawn.values()):
        return unable("No trial has reported an epoch yet.")
    traces = [_trace(exhibit, state, trials) for state, trials in drawn.items() if trials]
    every = [value for trials in drawn.values() for trial in trials for _, value in _curve(exhibit, trial)]
    counted = ", ".join(f"{len(trials)} {state}" for state, trials in reversed(drawn.items()) if trials)
    best = (
        f" The best complete one is trial {exhibit.best.number} with {value_text(exhibit.measure, exhibit.best.value)}."
        if exhibit.complete
        else ""
    )
    return framed(
        traces, f"{exhibit.metric} by epoch of {counted} trials.{best}", xaxis={"title": {"text": "epoch"}},
        yaxis=metric_axis(exhibit, every), showlegend=True,
    )  # fmt: skip


def _curve(exhibit: FigureData, outcome: Outcome) -> list[tuple[int, float]]:
    """What is known of it, and its end: the last step may be among those that were left out."""
    known = list(exhibit.curves.get(outcome.number, ()))
    if outcome.scored is not None and known and known[-1][0] < outcome.step:
        known.append((outcome.step, outcome.scored))
    return known


def _trace(exhibit: FigureData, state: TrialState, trials: list[Outcome]) -> dict[str, Any]:
    x, y, numbers = list[int | None](), list[float | None](), list[int | None]()
    for trial in trials:
        curve = _curve(exhibit, trial)
        x += [*(step for step, _ in curve), None]
        y += [*(value for _, value in curve), None]
        numbers += [*(trial.number for _ in curve), None]
    dim = 0.45 if state is not TrialState.COMPLETE else 0.75
    mode = "lines+markers" if max(len(_curve(exhibit, trial)) for trial in trials) == 1 else "lines"
    line = {"width": 1.2, **STYLES[state]}
    return {
        "type": "scatter", "mode": mode, "name": str(state), "x": x, "y": y, "customdata": numbers, "line": line, "opacity": dim,
        "hovertemplate": HOVER, "connectgaps": False,
    }  # fmt: skip


QUANTILES = {"best": 0.0, "best tenth": 0.1, "best quarter": 0.25, "half": 0.5, "worst": 1.0}


def edf(exhibit: FigureData) -> Figure:
    """The share of complete trials whose objective is at most x."""
    order = np.argsort(exhibit.values, kind="stable")
    values = exhibit.values[order]
    shares = np.arange(1, values.size + 1) / values.size
    line = {
        "type": "scatter", "mode": "lines+markers" if values.size == 1 else "lines", "x": [values[0], *values], "y": [0.0, *shares],
        "line": {"shape": "hv", "color": COLORS["point"], "width": 2},
        "hovertemplate": f"{exhibit.metric} ≤ %{{x}}: %{{y:.1%}}<extra></extra>",
    }  # fmt: skip
    reached = {name: value_text(exhibit.measure, _reached(exhibit, share)) for name, share in QUANTILES.items()}
    summary = (
        f"Of {values.size} complete trials half reach {reached['half']}, a tenth {reached['best tenth']}, "
        f"and the best, trial {exhibit.best.number}, {reached['best']}.{beyond_in_words(exhibit)}"
    )
    axis = {"title": {"text": "share of trials"}, "range": [0, 1.03], "tickformat": ".0%", "automargin": True}
    return framed([line], summary, list(reached.items()), xaxis=metric_axis(exhibit, exhibit.values.tolist()), yaxis=axis)


def _reached(exhibit: FigureData, share: float) -> float:
    """The objective that this share of the trials reaches or exceeds."""
    loss = float(np.quantile(exhibit.losses, share, method="inverted_cdf"))
    return -loss if exhibit.maximizes else loss


GAP = 0.12  # of the axis, below its values, for the trials that do not have the parameter
TICKS = 5


def parallel_coordinate(exhibit: FigureData, names: Sequence[str]) -> Figure:
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


def _dimension(exhibit: FigureData, name: str) -> dict[str, Any]:
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


def _ticks(exhibit: FigureData, name: str, low: float, high: float) -> tuple[list[float], list[str]]:
    """Places on the axis, and what stands there."""
    if name in exhibit.choices:
        labels = list(exhibit.choices[name].labels)
        return [float(index) for index in range(len(labels))], labels
    places = [low] if low == high else np.linspace(low, high, TICKS).tolist()
    return places, [number_text(10**place if exhibit.is_log(name) else place) for place in places]


STATE_COLORS = {
    TrialState.COMPLETE: "#2c9a66",
    TrialState.PRUNED: "#9a86d4",
    TrialState.FAILED: "#d2564c",
    TrialState.CANCELLED: "#808e96",
    TrialState.RUNNING: "#2f8bb0",
    TrialState.PAUSED: "#c9a227",
    TrialState.QUEUED: "#b6c2c8",  # it ran, and waits for another attempt
}
PATTERNS = {TrialState.PRUNED: "/", TrialState.FAILED: "x", TrialState.CANCELLED: ".", TrialState.RUNNING: "-"}
MOST_PATTERNS = 200  # trials; thinner bars show no pattern and no number
THINNEST = 0.0005  # of the whole time: a bar that can be seen


@dataclass(frozen=True, slots=True)
class TrialSpan:
    """A trial's time, in seconds since 1970, and the row in which nothing else ran then."""

    start: float
    end: float
    row: int


def timeline(exhibit: FigureData, now: float) -> Figure:
    """A bar from each trial's first claim to its end; of those under way, to `now` (seconds since 1970). Times are UTC.

    Trials that ran one after the other share a row, so that there are as many rows as ever ran at one time.
    """
    started = [each for each in exhibit.outcomes if each.started_at is not None]
    if not started:
        return unable("No trial has started yet.")
    spans = spans_of(started, now)
    first, last = min(span.start for span in spans.values()), max(span.end for span in spans.values())
    counts = Counter(each.state for each in started)
    by_state = {state: [each for each in started if each.state is state] for state in STATE_COLORS if counts[state]}
    traces = [_bars(exhibit, trials, spans, THINNEST * (last - first)) for trials in by_state.values()]
    if len(started) <= MOST_PATTERNS:
        traces = [trace | _details(trials) for trace, trials in zip(traces, by_state.values(), strict=True)]
    rows = [(str(state), str(counts[state])) for state in by_state]
    side = 1 + max(span.row for span in spans.values())
    counted = ", ".join(f"{count} {state}" for state, count in rows)
    summary = f"{len(started)} trials from {_moment(first)} to {_moment(last)} UTC, at most {side} at one time: {counted}."
    axes = {"xaxis": {"type": "date", "title": {"text": "time, UTC"}}, "yaxis": _rows_axis(side)}
    return framed(traces, summary, rows, **axes, barmode="overlay", bargap=0.12, showlegend=True)


def spans_of(started: Sequence[Outcome], now: float) -> Mapping[int, TrialSpan]:
    """When and in which row each of them ran, by its number."""
    times = sorted((each.started_at or 0.0, each.number, now if each.finished_at is None else each.finished_at) for each in started)
    free, busy, spans = list[int](), list[tuple[float, int]](), dict[int, TrialSpan]()
    for start, number, ended in times:
        end = max(start, ended)  # clocks of two machines may disagree
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, row))
        spans[number] = TrialSpan(start, end, row)
    return spans


def _bars(exhibit: FigureData, trials: Sequence[Outcome], spans: Mapping[int, TrialSpan], thinnest: float) -> dict[str, Any]:
    times, state = [spans[trial.number] for trial in trials], trials[0].state
    return {
        "type": "bar", "orientation": "h", "name": str(state), "y": [span.row + 1 for span in times],
        "base": [1000 * span.start for span in times], "x": [1000 * max(span.end - span.start, thinnest) for span in times],
        "marker": {"color": STATE_COLORS[state], "line": {"width": 0}}, "textposition": "none",
        "hovertext": [f"{exhibit.hover(trial)}<br>{state}, {_duration(spans[trial.number])}" for trial in trials],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }  # fmt: skip


def _details(trials: Sequence[Outcome]) -> dict[str, Any]:
    """What there is room for on the bars of few trials: their numbers, and a pattern for their state."""
    state = trials[0].state
    pattern = {"pattern": {"shape": PATTERNS[state], "size": 6, "fgopacity": 0.35}} if state in PATTERNS else {}
    numbers = {"text": [str(trial.number) for trial in trials], "textposition": "inside", "insidetextanchor": "middle", "textangle": 0}
    return {**numbers, "constraintext": "inside", "marker": {"color": STATE_COLORS[state], "line": {"width": 0}, **pattern}}


def _rows_axis(rows: int) -> dict[str, Any]:
    title = {"text": "trials at one time"}
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
