"""When each trial ran, beside which others, and how it ended."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.domain.records import Outcome
from service.domain.states import TrialState
from service.search.figures.exhibit import Exhibit
from service.search.figures.frame import Figure, framed, unable

COLORS = {
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
class Span:
    """A trial's time, in seconds since 1970, and the row in which nothing else ran then."""

    start: float
    end: float
    row: int


def timeline(exhibit: Exhibit, now: float) -> Figure:
    """A bar from each trial's first claim to its end; of those under way, to `now` (seconds since 1970). Times are UTC.

    Trials that ran one after the other share a row, so that there are as many rows as ever ran at one time.
    """
    started = [each for each in exhibit.outcomes if each.started_at is not None]
    if not started:
        return unable("No trial has started yet.")
    spans = spans_of(started, now)
    first, last = min(span.start for span in spans.values()), max(span.end for span in spans.values())
    counts = Counter(each.state for each in started)
    by_state = {state: [each for each in started if each.state is state] for state in COLORS if counts[state]}
    traces = [_bars(exhibit, trials, spans, THINNEST * (last - first)) for trials in by_state.values()]
    if len(started) <= MOST_PATTERNS:
        traces = [trace | _details(trials) for trace, trials in zip(traces, by_state.values(), strict=True)]
    rows = [(str(state), str(counts[state])) for state in by_state]
    side = 1 + max(span.row for span in spans.values())
    counted = ", ".join(f"{count} {state}" for state, count in rows)
    summary = f"{len(started)} trials from {_moment(first)} to {_moment(last)} UTC, at most {side} at one time: {counted}."
    axes = {"xaxis": {"type": "date", "title": {"text": "time, UTC"}}, "yaxis": _rows_axis(side)}
    return framed(traces, summary, rows, **axes, barmode="overlay", bargap=0.12, showlegend=True)


def spans_of(started: Sequence[Outcome], now: float) -> Mapping[int, Span]:
    """When and in which row each of them ran, by its number."""
    times = sorted((each.started_at or 0.0, each.number, now if each.finished_at is None else each.finished_at) for each in started)
    free, busy, spans = list[int](), list[tuple[float, int]](), dict[int, Span]()
    for start, number, ended in times:
        end = max(start, ended)  # clocks of two machines may disagree
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, row))
        spans[number] = Span(start, end, row)
    return spans


def _bars(exhibit: Exhibit, trials: Sequence[Outcome], spans: Mapping[int, Span], thinnest: float) -> dict[str, Any]:
    times, state = [spans[trial.number] for trial in trials], trials[0].state
    return {
        "type": "bar", "orientation": "h", "name": str(state), "y": [span.row + 1 for span in times],
        "base": [1000 * span.start for span in times], "x": [1000 * max(span.end - span.start, thinnest) for span in times],
        "marker": {"color": COLORS[state], "line": {"width": 0}}, "textposition": "none",
        "hovertext": [f"{exhibit.hover(trial)}<br>{state}, {_duration(spans[trial.number])}" for trial in trials],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }  # fmt: skip


def _details(trials: Sequence[Outcome]) -> dict[str, Any]:
    """What there is room for on the bars of few trials: their numbers, and a pattern for their state."""
    state = trials[0].state
    pattern = {"pattern": {"shape": PATTERNS[state], "size": 6, "fgopacity": 0.35}} if state in PATTERNS else {}
    numbers = {"text": [str(trial.number) for trial in trials], "textposition": "inside", "insidetextanchor": "middle", "textangle": 0}
    return {**numbers, "constraintext": "inside", "marker": {"color": COLORS[state], "line": {"width": 0}, **pattern}}


def _rows_axis(rows: int) -> dict[str, Any]:
    title = {"text": "trials at one time"}
    return {"title": title, "range": [rows + 0.5, 0.5], "dtick": max(1, rows // 8), "tick0": 1, "automargin": True, "showgrid": False}


def _duration(span: Span) -> str:
    seconds = round(span.end - span.start)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
