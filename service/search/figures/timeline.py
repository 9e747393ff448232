"""When each trial ran, and how it ended."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from service.domain.outcomes import Outcome
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
MOST_PATTERNS = 200  # trials; thinner bars show none
THINNEST = 0.001  # of the whole time: a bar that can be seen


def timeline(exhibit: Exhibit, now: float) -> Figure:
    """A bar from each trial's first claim to its end; of those under way, to `now` (seconds since 1970). Times are UTC."""
    started = [each for each in exhibit.outcomes if each.started_at is not None]
    if not started:
        return unable("No trial has started yet.")
    spans = {each.number: _span(each, now) for each in started}
    first, last = min(start for start, _ in spans.values()), max(end for _, end in spans.values())
    counts = Counter(each.state for each in started)
    by_state = {state: [each for each in started if each.state is state] for state in COLORS if counts[state]}
    thinnest = THINNEST * (last - first)
    traces = [_bars(exhibit, state, trials, spans, thinnest) for state, trials in by_state.items()]
    if len(started) <= MOST_PATTERNS:
        for trace, state in zip(traces, by_state, strict=True):
            trace["marker"] |= (
                {"pattern": {"shape": PATTERNS.get(state, ""), "size": 6, "fillmode": "replace"}} if state in PATTERNS else {}
            )
    counted = ", ".join(f"{counts[state]} {state}" for state in by_state)
    summary = f"{len(started)} trials from {_moment(first)} to {_moment(last)} UTC: {counted}."
    axis = {"title": {"text": "trial"}, "autorange": "reversed", "automargin": True, "rangemode": "tozero"}
    rows = [(str(state), str(counts[state])) for state in by_state]
    return framed(
        traces,
        summary,
        rows,
        xaxis={"type": "date", "title": {"text": "time, UTC"}},
        yaxis=axis,
        barmode="overlay",
        bargap=0.15,
        showlegend=True,
    )


def _span(outcome: Outcome, now: float) -> tuple[float, float]:
    start = outcome.started_at or 0.0
    end = now if outcome.finished_at is None else outcome.finished_at
    return start, max(start, end)  # clocks of two machines may disagree


def _bars(
    exhibit: Exhibit, state: TrialState, trials: Sequence[Outcome], spans: dict[int, tuple[float, float]], thinnest: float
) -> dict[str, Any]:
    times = [spans[trial.number] for trial in trials]
    return {
        "type": "bar", "orientation": "h", "name": str(state), "y": [trial.number for trial in trials],
        "base": [1000 * start for start, _ in times], "x": [1000 * max(end - start, thinnest) for start, end in times],
        "marker": {"color": COLORS[state], "line": {"width": 0}}, "textposition": "none",
        "hovertext": [f"{exhibit.hover(trial)}<br>{state}, {_duration(*spans[trial.number])}" for trial in trials],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }  # fmt: skip


def _duration(start: float, end: float) -> str:
    seconds = round(end - start)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
