"""The figures that Optuna draws, from a study of Optuna's over our trials."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from service.domain.records import Outcome
from service.search.distributions import distribution_of
from service.search.figures.exhibit import Exhibit
from service.search.figures.frame import COLORS, SCALE, Figure, beyond_in_words, framed, metric_axis, param_axis, plain
from service.search.figures.labels import escaped, number_text, value_text
from service.search.figures.trials import OutcomeRows

HOVER = "%{hovertext}<extra></extra>"
STUDY_NAME = "thawline"


def optimization_history(exhibit: Exhibit) -> Figure:
    """Each complete trial, and the best up to it."""
    points, best, _ = _traces("plot_optimization_history", exhibit, optuna_study(exhibit))
    points |= {"marker": {"color": COLORS["point"], "size": 6}, "name": "trial", **_hover(exhibit, points["x"])}
    best |= {"line": {"color": COLORS["best"], "shape": "hv", "width": 2}, "name": "best so far", "hoverinfo": "skip"}
    summary = f"{exhibit.metric} of {len(exhibit.complete)} complete trials. {exhibit.best_in_words()}{beyond_in_words(exhibit)}"
    axis = metric_axis(exhibit, exhibit.values.tolist())
    return framed([points, best], summary, xaxis={"title": {"text": "trial"}, "rangemode": "tozero"}, yaxis=axis, showlegend=True)


def slices(exhibit: Exhibit, names: Sequence[str]) -> Figure:
    """The objective by each parameter, side by side; colours go from the first trials to the last."""
    layout: dict[str, Any] = {}
    traces, study = [], optuna_study(exhibit)
    for place, name in enumerate(names):
        trace = _traces("plot_slice", exhibit, study, params=[name])[0]
        numbers, suffix = trace["marker"]["color"], str(place + 1) if place else ""
        bar = {"title": {"text": "trial"}, "thickness": 12, "outlinewidth": 0}
        trace["marker"] |= {
            "colorscale": SCALE, "size": 6, "showscale": place == 0, "colorbar": bar, "cmin": 0, "cmax": exhibit.outcomes[-1].number or 1,
            "line": {"width": 0.6, "color": COLORS["line"]},
        }  # fmt: skip
        if name in exhibit.choices:  # Optuna puts its labels in quotes
            trace["x"] = [escaped(exhibit.text(name, exhibit.complete[place])) for place in exhibit.having(name)]
        traces.append(trace | {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", **_hover(exhibit, numbers)})
        layout[f"xaxis{suffix}"] = param_axis(exhibit, name, anchor=f"y{suffix}", domain=_domain(place, len(names)))
        beside = {"matches": "y", "showticklabels": False, "title": None} if place else {}
        layout[f"yaxis{suffix}"] = metric_axis(exhibit, exhibit.values.tolist(), anchor=f"x{suffix}") | beside
    shown = f"{exhibit.metric} of {len(exhibit.complete)} complete trials by {', '.join(names)}."
    return framed(traces, f"{shown} {exhibit.best_in_words(*names)}{beyond_in_words(exhibit)}", **layout)


def rank(exhibit: Exhibit, names: tuple[str, str]) -> Figure:
    """Trials over two parameters, coloured by their place among all."""
    points, scale = _traces("plot_rank", exhibit, optuna_study(exhibit), params=list(names))
    numbers = [exhibit.complete[place].number for place in exhibit.having(*names)]
    points |= {"marker": points["marker"] | {"size": 8, "line": {"width": 0.6, "color": COLORS["line"]}}, **_hover(exhibit, numbers)}
    scale["marker"]["colorbar"] |= {"outlinewidth": 0, "ticktext": _rank_ticks(exhibit)}
    summary = _rank_summary(exhibit, names)
    return framed([points, scale], summary, xaxis=param_axis(exhibit, names[0]), yaxis=param_axis(exhibit, names[1]))


def _rank_ticks(exhibit: Exhibit) -> list[str]:
    ordered = sorted(exhibit.values.tolist())
    ends = {0: "lowest", 2: "half", 4: "highest"}
    shown = [ordered[round(quarter / 4 * (len(ordered) - 1))] for quarter in range(5)]
    return [f"{ends.get(quarter, f'{25 * quarter} %')} {value_text(exhibit.measure, value)}" for quarter, value in enumerate(shown)]


def _rank_summary(exhibit: Exhibit, names: tuple[str, str]) -> str:
    """Where the best tenth lies."""
    places = exhibit.having(*names)
    best = sorted(places, key=lambda place: exhibit.losses[place])[: math.ceil(len(places) / 10)]
    spread = " and ".join(f"{name} {_spread(exhibit, name, best)}" for name in names)
    return f"{len(places)} complete trials by {names[0]} and {names[1]}, coloured by rank. The best tenth lies at {spread}."


def _spread(exhibit: Exhibit, name: str, places: Sequence[int]) -> str:
    if name in exhibit.choices:
        return " or ".join(sorted({exhibit.text(name, exhibit.complete[place]) for place in places}))
    found: list[Any] = [exhibit.complete[place].params[name] for place in places]
    low, high = min(found), max(found)
    return number_text(low) if low == high else f"{number_text(low)} to {number_text(high)}"


def _domain(place: int, count: int) -> list[float]:
    gap = 0.04 if count > 1 else 0.0
    width = (1 - gap * (count - 1)) / count
    return [place * (width + gap), min(1.0, place * (width + gap) + width)]


def _hover(exhibit: Exhibit, numbers: Sequence[int]) -> dict[str, Any]:
    return {"hovertext": [exhibit.hovers[number] for number in numbers], "hovertemplate": HOVER}


def _traces(name: str, exhibit: Exhibit, study: optuna.Study, **options: Any) -> list[dict[str, Any]]:
    """The traces of one of Optuna's plots. Its layout is left: ours knows the space, and looks like the pages."""
    plot: Callable[..., Any] = getattr(optuna.visualization, name)
    drawn = plot(study, target_name=exhibit.metric, **options)
    return [plain(trace.to_plotly_json()) for trace in drawn.data]


def optuna_study(exhibit: Exhibit) -> optuna.Study:
    """The complete trials, with choices as their labels. Nothing is written to it.

    All others stand there as failed and without parameters, for Optuna takes a trial's number for its place.
    """
    distributions = {
        name: optuna.distributions.CategoricalDistribution([escaped(label) for label in exhibit.choices[name].labels])
        if name in exhibit.choices
        else distribution_of(parameter)
        for name, parameter in exhibit.spec.search_space.root.items()
    }
    trials = [_frozen(number, TrialState.FAIL, None, {}, {}) for number in range(exhibit.outcomes[-1].number + 1)]
    for outcome, value in zip(exhibit.complete, exhibit.values.tolist(), strict=True):
        params = _as_drawn(exhibit, outcome)
        own = {name: distributions[name] for name in params}
        trials[outcome.number] = _frozen(outcome.number, TrialState.COMPLETE, value, params, own)
    direction = StudyDirection.MAXIMIZE if exhibit.maximizes else StudyDirection.MINIMIZE
    return optuna.Study(STUDY_NAME, OutcomeRows(direction, trials), optuna.samplers.RandomSampler(seed=0), optuna.pruners.NopPruner())


def _frozen(
    number: int, state: TrialState, value: float | None, params: dict[str, Any], distributions: dict[str, BaseDistribution]
) -> FrozenTrial:
    return FrozenTrial(
        number=number, trial_id=number, state=state, value=value, params=params, distributions=distributions,
        intermediate_values={}, user_attrs={}, system_attrs={}, datetime_start=None, datetime_complete=None,
    )  # fmt: skip


def _as_drawn(exhibit: Exhibit, outcome: Outcome) -> dict[str, Any]:
    known = {name: value for name, value in outcome.params.items() if exhibit.has(outcome, name)}
    return {name: escaped(exhibit.text(name, outcome)) if name in exhibit.choices else value for name, value in known.items()}
