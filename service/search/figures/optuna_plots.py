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

from service.domain.records import TrialSummary
from service.search.distributions import distribution_of
from service.search.figures.charts import Numbers
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
    """Read-only Optuna storage of frozen trials, ordered by number."""

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
        raise ReadOnlyStorage("The storage behind a figure is read-only.")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = get_all_studies = create_new_trial = _refuse
    set_trial_param = set_trial_state_values = set_trial_intermediate_value = set_trial_user_attr = set_trial_system_attr = _refuse


HOVER = "%{hovertext}<extra></extra>"
STUDY_NAME = "thawline"


def optimization_history(data: FigureData) -> Figure:
    """The objective of each complete trial, and the best value so far."""
    points, best, _ = _traces("plot_optimization_history", data, optuna_study(data))
    points |= {"marker": {"color": COLORS["point"], "size": 6}, "name": "trial", **_hover(data, points["x"])}
    best |= {"line": {"color": COLORS["best"], "shape": "hv", "width": 2}, "name": "best so far", "hoverinfo": "skip"}
    summary = f"{data.metric} of {len(data.complete)} complete trials. {data.best_in_words()}{beyond_in_words(data)}"
    axis = metric_axis(data, data.values.tolist())
    return framed([points, best], summary, xaxis={"title": {"text": "trial"}, "rangemode": "tozero"}, yaxis=axis, showlegend=True)


def slices(data: FigureData, names: Sequence[str]) -> Figure:
    """The objective by each parameter, side by side, coloured by trial number."""
    layout: dict[str, Any] = {}
    traces, study = [], optuna_study(data)
    for place, name in enumerate(names):
        trace = _traces("plot_slice", data, study, params=[name])[0]
        numbers, suffix = trace["marker"]["color"], str(place + 1) if place else ""
        bar = {"title": {"text": "trial"}, "thickness": 12, "outlinewidth": 0}
        trace["marker"] |= {
            "colorscale": SCALE, "size": 6, "showscale": place == 0, "colorbar": bar, "cmin": 0, "cmax": data.outcomes[-1].number or 1,
            "line": {"width": 0.6, "color": COLORS["line"]},
        }  # fmt: skip
        if name in data.choices:  # Optuna puts its labels in quotes
            trace["x"] = [escaped(data.text(name, data.complete[place])) for place in data.having(name)]
        traces.append(trace | {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", **_hover(data, numbers)})
        layout[f"xaxis{suffix}"] = param_axis(data, name, anchor=f"y{suffix}", domain=_domain(place, len(names)))
        beside = {"matches": "y", "showticklabels": False, "title": None} if place else {}
        layout[f"yaxis{suffix}"] = metric_axis(data, data.values.tolist(), anchor=f"x{suffix}") | beside
    shown = f"{data.metric} of {len(data.complete)} complete trials by {', '.join(names)}."
    return framed(traces, f"{shown} {data.best_in_words(*names)}{beyond_in_words(data)}", **layout)


def rank(data: FigureData, names: tuple[str, str]) -> Figure:
    """Complete trials over two parameters, coloured by their rank."""
    points, scale = _traces("plot_rank", data, optuna_study(data), params=list(names))
    numbers = [data.complete[place].number for place in data.having(*names)]
    points |= {"marker": points["marker"] | {"size": 8, "line": {"width": 0.6, "color": COLORS["line"]}}, **_hover(data, numbers)}
    scale["marker"]["colorbar"] |= {"outlinewidth": 0, "ticktext": _rank_ticks(data)}
    summary = _rank_summary(data, names)
    return framed([points, scale], summary, xaxis=param_axis(data, names[0]), yaxis=param_axis(data, names[1]))


def _rank_ticks(data: FigureData) -> list[str]:
    ordered = sorted(data.values.tolist())
    ends = {0: "lowest", 2: "half", 4: "highest"}
    shown = [ordered[round(quarter / 4 * (len(ordered) - 1))] for quarter in range(5)]
    return [f"{ends.get(quarter, f'{25 * quarter} %')} {value_text(data.measure, value)}" for quarter, value in enumerate(shown)]


def _rank_summary(data: FigureData, names: tuple[str, str]) -> str:
    """A summary with the parameter ranges of the best tenth."""
    places = data.having(*names)
    best = sorted(places, key=lambda place: data.losses[place])[: math.ceil(len(places) / 10)]
    spread = " and ".join(f"{name} {_spread(data, name, best)}" for name in names)
    return f"{len(places)} complete trials by {names[0]} and {names[1]}, coloured by rank. The best tenth has {spread}."


def _spread(data: FigureData, name: str, places: Sequence[int]) -> str:
    if name in data.choices:
        return " or ".join(sorted({data.text(name, data.complete[place]) for place in places}))
    found: list[Any] = [data.complete[place].params[name] for place in places]
    low, high = min(found), max(found)
    return number_text(low) if low == high else f"{number_text(low)} to {number_text(high)}"


def _domain(place: int, count: int) -> list[float]:
    gap = 0.04 if count > 1 else 0.0
    width = (1 - gap * (count - 1)) / count
    return [place * (width + gap), min(1.0, place * (width + gap) + width)]


def _hover(data: FigureData, numbers: Sequence[int]) -> dict[str, Any]:
    return {"hovertext": [data.hovers[number] for number in numbers], "hovertemplate": HOVER}


def _traces(name: str, data: FigureData, study: optuna.Study, **options: Any) -> list[dict[str, Any]]:
    """The traces of one of Optuna's plots. Optuna's layout is discarded: ours uses the search space and matches the pages."""
    plot: Callable[..., Any] = getattr(optuna.visualization, name)
    drawn = plot(study, target_name=data.metric, **options)
    return [plain(trace.to_plotly_json()) for trace in drawn.data]


def optuna_study(data: FigureData) -> optuna.Study:
    """A read-only Optuna study of the complete trials, with choices replaced by their labels.

    All other trials are represented as failed, without parameters, because Optuna uses a trial's number as its index.
    """
    distributions = {
        name: optuna.distributions.CategoricalDistribution([escaped(label) for label in data.choices[name].labels])
        if name in data.choices
        else distribution_of(parameter)
        for name, parameter in data.spec.search_space.root.items()
    }
    trials = [_frozen(number, TrialState.FAIL, None, {}, {}) for number in range(data.outcomes[-1].number + 1)]
    for outcome, value in zip(data.complete, data.values.tolist(), strict=True):
        params = _as_drawn(data, outcome)
        own = {name: distributions[name] for name in params}
        trials[outcome.number] = _frozen(outcome.number, TrialState.COMPLETE, value, params, own)
    direction = StudyDirection.MAXIMIZE if data.maximizes else StudyDirection.MINIMIZE
    return optuna.Study(STUDY_NAME, OutcomeRows(direction, trials), optuna.samplers.RandomSampler(seed=0), optuna.pruners.NopPruner())


def _frozen(
    number: int, state: TrialState, value: float | None, params: dict[str, Any], distributions: dict[str, BaseDistribution]
) -> FrozenTrial:
    return FrozenTrial(
        number=number, trial_id=number, state=state, value=value, params=params, distributions=distributions,
        intermediate_values={}, user_attrs={}, system_attrs={}, datetime_start=None, datetime_complete=None,
    )  # fmt: skip


def _as_drawn(data: FigureData, outcome: TrialSummary) -> dict[str, Any]:
    known = {name: value for name, value in outcome.params.items() if data.has(outcome, name)}
    return {name: escaped(data.text(name, outcome)) if name in data.choices else value for name, value in known.items()}


BEST_SHARE = 0.1
CELLS = 50  # grid cells over a range
FEWEST_TRIALS = 2  # trials needed to compute an importance
NARROWEST = 0.5 / 1.64  # smallest width in cells: 90 % of a kernel's mass lies in its own cell
TRUSTED = 50  # complete trials: the best tenth are five of them, below which Optuna calls the figure unstable
TINY = 1e-12


def importances(data: FigureData) -> Mapping[str, float]:
    """Each parameter's share of the total importance, in descending order. Empty when it cannot be computed.

    PED-ANOVA for the best tenth, as in Optuna. Source: Watanabe, Bansal and Hutter, IJCAI 2023.
    """
    if len(data.complete) < FEWEST_TRIALS:
        return {}
    top = _best(data.losses)
    raw = {name: _divergence(data, name, top) for name in data.params}
    whole = sum(raw.values())
    if whole <= 0:
        return {}
    return {name: value / whole for name, value in sorted(raw.items(), key=lambda item: -item[1])}


def most_important(data: FigureData, count: int) -> list[str]:
    """The parameters of complete trials, the most important first; without importances, in the order of the search space."""
    ranked = list(importances(data))
    return [*ranked, *(name for name in data.params if name not in ranked)][:count]


def param_importances(data: FigureData) -> Figure:
    """A bar for each parameter."""
    shares = importances(data)
    if not shares:
        return unable("There are not enough complete trials yet to compute the importance of parameters.")
    names = list(shares)[::-1]  # Plotly draws the first bar at the bottom
    bars = {
        "type": "bar", "orientation": "h", "x": [shares[name] for name in names], "y": [escaped(name) for name in names],
        "marker": {"color": COLORS["point"]}, "text": [_percent(shares[name]) for name in names], "textposition": "outside",
        "cliponaxis": False, "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }  # fmt: skip
    listed = ", ".join(f"{name} {_percent(share)}" for name, share in shares.items())
    trials = f"the best tenth of {len(data.complete)} complete trials{_doubt(data)}"
    summary = f"Importance of each parameter for a place among {trials}: {listed}."
    axis = {"title": {"text": "share of importance"}, "tickformat": ".0%", "range": [0, 1.02 * max(shares.values())]}
    rows = [(name, _percent(share)) for name, share in shares.items()]
    return framed([bars], summary, rows, xaxis=axis, yaxis={"type": "category", "automargin": True}, margin=MARGIN | {"r": 60})


def _doubt(data: FigureData) -> str:
    return "" if len(data.complete) >= TRUSTED else " (a rough estimate from few trials)"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _best(losses: Numbers) -> NDArray[np.bool_]:
    """Flags of the best tenth, including all losses equal to the last of them."""
    place = math.ceil(BEST_SHARE * losses.size) - 1
    best: NDArray[np.bool_] = losses <= np.partition(losses, place)[place]
    return best


def _divergence(data: FigureData, name: str, top: NDArray[np.bool_]) -> float:
    """Pearson's divergence between the parameter's density among the best trials and among all trials that have it."""
    distribution, places = distribution_of(data.parameter(name)), data.having(name)
    own_top = top[places]
    if len(places) < FEWEST_TRIALS or distribution.single() or not own_top.any():
        return 0.0
    cells = _cells(distribution, data.positions(name, places))
    among_best, among_all = (_density(distribution, cells[chosen]) + TINY for chosen in (own_top, np.ones_like(own_top)))
    weight = (own_top.sum() / top.sum()) ** 2 / (len(places) / top.size)
    return float(weight * (among_all @ (among_best / among_all - 1) ** 2))


def _cells(distribution: BaseDistribution, positions: Numbers) -> NDArray[np.int64]:
    """The grid cell of each value; on a log scale `positions` are exponents of ten."""
    if isinstance(distribution, CategoricalDistribution):
        return positions.astype(np.int64)
    low, high = _ends(distribution)
    count = _cell_count(distribution)
    nearest = np.ceil((positions - low) / ((high - low) / (count - 1)) - 0.5).astype(np.int64)
    return np.clip(nearest, 0, count - 1)


def _ends(distribution: BaseDistribution) -> tuple[float, float]:
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101  # the callers handle categories
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
    """A Parzen estimate of the probability of each cell, with an additional kernel for the prior."""
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
    """Truncated normal distributions over the cells, (kernels, cells): one for each observed cell, and the prior in the last row."""
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
