"""Figures that Optuna computes: history, rank, slices, importances."""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from service.domain.records import Outcome
from service.search.distributions import distribution_of
from service.search.figures.layout import (
    COLORS,
    MARGIN,
    SCALE,
    Figure,
    FigureData,
    beyond_in_words,
    escaped,
    framed,
    metric_axis,
    number_text,
    param_axis,
    plain,
    unable,
    value_text,
)
from service.search.history import STUDY_ID, ReadOnlyStorage


class OutcomeRows(BaseStorage):
    """Frozen trials in the order of their numbers."""

    def __init__(self, direction: StudyDirection, trials: list[FrozenTrial]) -> None:
        self._direction = direction
        self._trials = trials

    def get_study_id_from_name(self, study_name: str) -> int:
        return STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        return ""

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [self._direction]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return next(trial for trial in self._trials if trial.number == trial_id)

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise ReadOnlyStorage("These trials are only looked at.")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = get_all_studies = create_new_trial = _refuse
    set_trial_param = set_trial_state_values = set_trial_intermediate_value = set_trial_user_attr = set_trial_system_attr = _refuse


HOVER = "%{hovertext}<extra></extra>"
STUDY_NAME = "thawline"


def optimization_history(exhibit: FigureData) -> Figure:
    """Each complete trial, and the best up to it."""
    points, best, _ = _traces("plot_optimization_history", exhibit, optuna_study(exhibit))
    points |= {"marker": {"color": COLORS["point"], "size": 6}, "name": "trial", **_hover(exhibit, points["x"])}
    best |= {"line": {"color": COLORS["best"], "shape": "hv", "width": 2}, "name": "best so far", "hoverinfo": "skip"}
    summary = f"{exhibit.metric} of {len(exhibit.complete)} complete trials. {exhibit.best_in_words()}{beyond_in_words(exhibit)}"
    axis = metric_axis(exhibit, exhibit.values.tolist())
    return framed([points, best], summary, xaxis={"title": {"text": "trial"}, "rangemode": "tozero"}, yaxis=axis, showlegend=True)


def slices(exhibit: FigureData, names: Sequence[str]) -> Figure:
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


def rank(exhibit: FigureData, names: tuple[str, str]) -> Figure:
    """Trials over two parameters, coloured by their place among all."""
    points, scale = _traces("plot_rank", exhibit, optuna_study(exhibit), params=list(names))
    numbers = [exhibit.complete[place].number for place in exhibit.having(*names)]
    points |= {"marker": points["marker"] | {"size": 8, "line": {"width": 0.6, "color": COLORS["line"]}}, **_hover(exhibit, numbers)}
    scale["marker"]["colorbar"] |= {"outlinewidth": 0, "ticktext": _rank_ticks(exhibit)}
    summary = _rank_summary(exhibit, names)
    return framed([points, scale], summary, xaxis=param_axis(exhibit, names[0]), yaxis=param_axis(exhibit, names[1]))


def _rank_ticks(exhibit: FigureData) -> list[str]:
    ordered = sorted(exhibit.values.tolist())
    ends = {0: "lowest", 2: "half", 4: "highest"}
    shown = [ordered[round(quarter / 4 * (len(ordered) - 1))] for quarter in range(5)]
    return [f"{ends.get(quarter, f'{25 * quarter} %')} {value_text(exhibit.measure, value)}" for quarter, value in enumerate(shown)]


def _rank_summary(exhibit: FigureData, names: tuple[str, str]) -> str:
    """Where the best tenth lies."""
    places = exhibit.having(*names)
    best = sorted(places, key=lambda place: exhibit.losses[place])[: math.ceil(len(places) / 10)]
    spread = " and ".join(f"{name} {_spread(exhibit, name, best)}" for name in names)
    return f"{len(places)} complete trials by {names[0]} and {names[1]}, coloured by rank. The best tenth lies at {spread}."


def _spread(exhibit: FigureData, name: str, places: Sequence[int]) -> str:
    if name in exhibit.choices:
        return " or ".join(sorted({exhibit.text(name, exhibit.complete[place]) for place in places}))
    found: list[Any] = [exhibit.complete[place].params[name] for place in places]
    low, high = min(found), max(found)
    return number_text(low) if low == high else f"{number_text(low)} to {number_text(high)}"


def _domain(place: int, count: int) -> list[float]:
    gap = 0.04 if count > 1 else 0.0
    width = (1 - gap * (count - 1)) / count
    return [place * (width + gap), min(1.0, place * (width + gap) + width)]


def _hover(exhibit: FigureData, numbers: Sequence[int]) -> dict[str, Any]:
    return {"hovertext": [exhibit.hovers[number] for number in numbers], "hovertemplate": HOVER}


def _traces(name: str, exhibit: FigureData, study: optuna.Study, **options: Any) -> list[dict[str, Any]]:
    """The traces of one of Optuna's plots. Its layout is left: ours knows the space, and looks like the pages."""
    plot: Callable[..., Any] = getattr(optuna.visualization, name)
    drawn = plot(study, target_name=exhibit.metric, **options)
    return [plain(trace.to_plotly_json()) for trace in drawn.data]


def optuna_study(exhibit: FigureData) -> optuna.Study:
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


def _as_drawn(exhibit: FigureData, outcome: Outcome) -> dict[str, Any]:
    known = {name: value for name, value in outcome.params.items() if exhibit.has(outcome, name)}
    return {name: escaped(exhibit.text(name, outcome)) if name in exhibit.choices else value for name, value in known.items()}


Numbers = NDArray[np.float64]

BEST_SHARE = 0.1
CELLS = 50  # of the grid over a range
FEWEST_TRIALS = 2  # of a group that is looked at
NARROWEST = 0.5 / 1.64  # cells: nine tenths of a kernel lie in its own one
TRUSTED = 50  # complete trials: then the best tenth are five, below which Optuna calls the figure unstable
TINY = 1e-12


def importances(exhibit: FigureData) -> Mapping[str, float]:
    """Each parameter's share of all importance, the greatest first. Empty when the trials tell nothing of it."""
    if len(exhibit.complete) < FEWEST_TRIALS:
        return {}
    top = _best(exhibit.losses)
    raw = {name: _divergence(exhibit, name, top) for name in exhibit.params}
    whole = sum(raw.values())
    if whole <= 0:
        return {}
    return {name: value / whole for name, value in sorted(raw.items(), key=lambda item: -item[1])}


def most_important(exhibit: FigureData, count: int) -> list[str]:
    """Parameters that complete trials have, the most important first; in the order of the space where nothing is known."""
    ranked = list(importances(exhibit))
    return [*ranked, *(name for name in exhibit.params if name not in ranked)][:count]


def param_importances(exhibit: FigureData) -> Figure:
    """A bar for each parameter."""
    shares = importances(exhibit)
    if not shares:
        return unable("The complete trials do not tell yet which parameters matter.")
    names = list(shares)[::-1]  # the first bar is the lowest one
    bars = {
        "type": "bar", "orientation": "h", "x": [shares[name] for name in names], "y": [escaped(name) for name in names],
        "marker": {"color": COLORS["point"]}, "text": [_percent(shares[name]) for name in names], "textposition": "outside",
        "cliponaxis": False, "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }  # fmt: skip
    listed = ", ".join(f"{name} {_percent(share)}" for name, share in shares.items())
    summary = f"What decides whether a trial is among the best tenth of {len(exhibit.complete)} complete ones{_doubt(exhibit)}: {listed}."
    axis = {"title": {"text": "share of importance"}, "tickformat": ".0%", "range": [0, 1.02 * max(shares.values())]}
    rows = [(name, _percent(share)) for name, share in shares.items()]
    return framed([bars], summary, rows, xaxis=axis, yaxis={"type": "category", "automargin": True}, margin=MARGIN | {"r": 60})


def _doubt(exhibit: FigureData) -> str:
    return "" if len(exhibit.complete) >= TRUSTED else ", a rough guess from so few"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _best(losses: Numbers) -> NDArray[np.bool_]:
    """Which are among the best tenth; all that equal the last of it are."""
    place = math.ceil(BEST_SHARE * losses.size) - 1
    best: NDArray[np.bool_] = losses <= np.partition(losses, place)[place]
    return best


def _divergence(exhibit: FigureData, name: str, top: NDArray[np.bool_]) -> float:
    """Pearson's divergence between the parameter's density among the best and among all trials that have it."""
    distribution, places = distribution_of(exhibit.parameter(name)), exhibit.having(name)
    own_top = top[places]
    if len(places) < FEWEST_TRIALS or distribution.single() or not own_top.any():
        return 0.0
    cells = _cells(distribution, exhibit.positions(name, places))
    among_best, among_all = (_density(distribution, cells[chosen]) + TINY for chosen in (own_top, np.ones_like(own_top)))
    weight = (own_top.sum() / top.sum()) ** 2 / (len(places) / top.size)
    return float(weight * (among_all @ (among_best / among_all - 1) ** 2))


def _cells(distribution: BaseDistribution, positions: Numbers) -> NDArray[np.int64]:
    """The grid's cell of each value; `positions` are powers of ten where the scale is log."""
    if isinstance(distribution, CategoricalDistribution):
        return positions.astype(np.int64)
    low, high = _ends(distribution)
    count = _cell_count(distribution)
    nearest = np.ceil((positions - low) / ((high - low) / (count - 1)) - 0.5).astype(np.int64)
    return np.clip(nearest, 0, count - 1)


def _ends(distribution: BaseDistribution) -> tuple[float, float]:
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101  # the other kind has been dealt with
    if distribution.log:
        return math.log10(distribution.low), math.log10(distribution.high)
    return distribution.low, distribution.high


def _cell_count(distribution: BaseDistribution) -> int:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return len(choices)
        case IntDistribution(low=low, high=high, log=True):
            return min(math.ceil(math.log(high - low + 1) / math.log(2)) + 1, CELLS)
        case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=float(step)):
            return min(round((high - low) / step) + 1, CELLS)
        case _:
            return CELLS


def _density(distribution: BaseDistribution, cells: NDArray[np.int64]) -> Numbers:
    """A Parzen estimate of the probability of each cell, with one more kernel for the prior."""
    counts = np.bincount(cells, minlength=_cell_count(distribution))
    observed = np.flatnonzero(counts)
    weights = np.append(counts[observed], 1.0)
    if isinstance(distribution, CategoricalDistribution):
        kernels = np.full((observed.size + 1, counts.size), 1 / (observed.size + 1))
        kernels[np.arange(observed.size), observed] += 1
        kernels /= kernels.sum(axis=1, keepdims=True)
    else:
        kernels = _normal_kernels(observed, counts[observed], counts.size)
    return np.asarray(weights / weights.sum() @ kernels)


def _normal_kernels(observed: NDArray[np.int64], counts: NDArray[np.int64], size: int) -> Numbers:
    """Truncated normal distributions over the cells, a row each: one around each observed cell, and the prior."""
    centres = np.append(observed, (size - 1) / 2)
    widths = np.append(np.full(observed.size, max(_scott(observed, counts), NARROWEST)), size)
    edges = ndtr((np.arange(size + 1) - 0.5 - centres[:, None]) / widths[:, None])
    masses = np.diff(edges, axis=1)
    return np.asarray(masses / masses.sum(axis=1, keepdims=True))


def _scott(observed: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """Scott's rule for weighted observations."""
    total, below = counts.sum(), np.cumsum(counts)
    mean = observed @ counts / total
    deviation = math.sqrt((observed - mean) ** 2 @ counts / max(1, total - 1))
    first, third = np.searchsorted(below, total // 4, side="left"), np.searchsorted(below, total * 3 // 4, side="right")
    between = observed[min(observed.size - 1, third)] - observed[first]
    return float(1.059 * min(between / 1.34, deviation) * total**-0.2)
