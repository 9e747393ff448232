"""Figures of a search in Plotly's format: the only package that uses Plotly and Optuna's plots.

Optuna computes the history, slices and ranks. The other figures are implemented here, because Optuna's have these problems at 2,000
trials: its importances import scikit-learn and, with it, torch; its contour is a matrix of millions of cells; its learning curves and
parallel coordinates have one object and one drawn line per trial; its timeline has one row per trial, mixes two time zones and has no
state for cancelled trials; its distribution has a hundred points over the whole range, which one very bad trial can stretch.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from search_spaces import Fault
from service.domain.errors import InvalidInput, PlotlyMissing, UnknownFigure
from service.search.figures.charts import contour, edf, intermediate_values, parallel_coordinate, timeline
from service.search.figures.layout import Figure, FigureData, plain, unable
from service.search.figures.optuna_plots import most_important, optimization_history, param_importances, rank, slices

__all__ = [
    "CURVES", "FIGURES", "FigureData", "Figure", "Request", "checked", "draw", "prepare", "script_file", "script_version",
]  # fmt: skip


def script_version() -> str:
    """The version of the installed package. Raises PlotlyMissing."""
    try:
        return metadata.version("plotly")
    except metadata.PackageNotFoundError:
        raise PlotlyMissing from None


def script_file() -> Path:
    """The path of Plotly's script. Does not import the package, which is slow. Raises PlotlyMissing."""
    found = importlib.util.find_spec("plotly")
    for folder in (found and found.submodule_search_locations) or ():
        if (file := Path(folder) / "package_data" / "plotly.min.js").is_file():
            return file
    raise PlotlyMissing


SLICES = 4  # parameters shown if the request names none
PAIR = 2
PLACE = ("query", "param")
TIMELINE, CURVES = "timeline", "intermediate_values"
BY_ITSELF: Mapping[str, Callable[[FigureData], Figure]] = {
    "optimization_history": optimization_history,
    "param_importances": param_importances,
    "edf": edf,
}
BY_PAIR: Mapping[str, Callable[[FigureData, tuple[str, str]], Figure]] = {"contour": contour, "rank": rank}
BY_PARAMETERS: Mapping[str, Callable[[FigureData, Sequence[str]], Figure]] = {"slice": slices, "parallel_coordinate": parallel_coordinate}
FIGURES = (
    "optimization_history", "intermediate_values", "param_importances", "parallel_coordinate",
    "slice", "contour", "rank", "timeline", "edf",
)  # fmt: skip
NOTHING_YET = "There is nothing to draw until a trial is complete."


@dataclass(frozen=True, slots=True)
class Request:
    """A valid request: a known figure, and parameters of the search space."""

    name: str
    params: tuple[str, ...]


def checked(name: str, params: Sequence[str], known: Sequence[str]) -> Request:
    """Validate a request and remove repeated parameters. Raises UnknownFigure, InvalidInput."""
    if name not in FIGURES:
        raise UnknownFigure(name, FIGURES)
    named = tuple(dict.fromkeys(params))
    if faults := list(_faults(name, named, known)):
        raise InvalidInput(faults)
    return Request(name, named)


def _faults(name: str, params: Sequence[str], known: Sequence[str]) -> list[Fault]:
    if params and name not in BY_PAIR and name not in BY_PARAMETERS:
        return [Fault(PLACE, "takes_no_parameter", "this figure does not take parameters; remove param")]
    if any(param not in known for param in params):
        return [Fault(PLACE, "unknown_parameter", f"the search space does not have this parameter; choose from {', '.join(known)}")]
    if name in BY_PAIR and len(params) > PAIR:
        return [Fault(PLACE, "too_many_parameters", "this figure takes two parameters; give at most two")]
    return []


def prepare(request: Request) -> None:
    """Import Plotly if the figure needs it, which takes most of a second for the first time."""
    if request.name in ("optimization_history", "slice", "rank"):
        importlib.import_module("optuna.visualization")


def draw(request: Request, data: FigureData, now: float) -> Figure:
    """The figure, or one with an explanation if there is nothing to draw. `now` is in seconds since 1970."""
    return dict(plain(_drawn(request, data, now)))


def _drawn(request: Request, data: FigureData, now: float) -> Figure:
    if request.name == TIMELINE:
        return timeline(data, now)
    if request.name == CURVES:
        return intermediate_values(data)
    if not data.complete:
        return unable(NOTHING_YET)
    if request.name in BY_ITSELF:
        return BY_ITSELF[request.name](data)
    if missing := [name for name in request.params if name not in data.params]:
        return unable(f"No complete trial has {' or '.join(missing)} yet.")
    if request.name in BY_PAIR:
        return _of_pair(request, data)
    return _of_parameters(request, data)


def _of_pair(request: Request, data: FigureData) -> Figure:
    """A figure of two parameters. The most important ones are taken for those that the request does not name."""
    ranked = (name for name in most_important(data, len(data.params)) if name not in request.params)
    names = [*request.params, *ranked][:PAIR]
    if len(names) < PAIR:
        return unable("This figure needs two parameters that vary; the search space has fewer.")
    if not data.having(*names):
        return unable(f"No complete trial has both {names[0]} and {names[1]} yet.")
    return _of(names, BY_PAIR[request.name](data, (names[0], names[1])))


def _of_parameters(request: Request, data: FigureData) -> Figure:
    count = SLICES if request.name == "slice" else len(data.params)
    names = request.params or most_important(data, count)
    if not names:
        return unable("The search space has no parameter that varies.")
    return _of(names, BY_PARAMETERS[request.name](data, names))


def _of(names: Sequence[str], figure: Figure) -> Figure:
    """Add the names of the shown parameters to the figure's metadata."""
    figure["layout"]["meta"]["params"] = list(names)
    return figure
