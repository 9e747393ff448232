"""Learning curves of all trials: a line a state, broken between trials, since thousands of lines are slow to draw."""

from typing import Any

from service.domain.records import Outcome
from service.domain.states import TrialState
from service.search.figures.exhibit import Exhibit
from service.search.figures.frame import Figure, framed, metric_axis, unable
from service.search.figures.labels import value_text

STYLES = {
    TrialState.PRUNED: {"color": "#9a86d4", "dash": "dot"},
    TrialState.FAILED: {"color": "#d2564c", "dash": "dash"},
    TrialState.CANCELLED: {"color": "#808e96", "dash": "dash"},
    TrialState.COMPLETE: {"color": "#2f8bb0", "dash": "solid"},
    TrialState.RUNNING: {"color": "#2c9a66", "dash": "solid"},
}
"""By state, those that are drawn first lie below."""
HOVER = "trial %{customdata}<br>epoch %{x}<br>%{y}<extra></extra>"


def intermediate_values(exhibit: Exhibit) -> Figure:
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


def _curve(exhibit: Exhibit, outcome: Outcome) -> list[tuple[int, float]]:
    """What is known of it, and its end: the last step may be among those that were left out."""
    known = list(exhibit.curves.get(outcome.number, ()))
    if outcome.scored is not None and known and known[-1][0] < outcome.step:
        known.append((outcome.step, outcome.scored))
    return known


def _trace(exhibit: Exhibit, state: TrialState, trials: list[Outcome]) -> dict[str, Any]:
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
