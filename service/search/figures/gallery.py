"""Figures by name, and Plotly's script."""

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


def script_version() -> str:
    """The version of the installed package. Raises PlotlyMissing."""
    try:
        return metadata.version("plotly")
    except metadata.PackageNotFoundError:
        raise PlotlyMissing from None


def script_file() -> Path:
    """Where the script lies; the package is not imported for it. Raises PlotlyMissing."""
    found = importlib.util.find_spec("plotly")
    for folder in (found and found.submodule_search_locations) or ():
        if (file := Path(folder) / "package_data" / "plotly.min.js").is_file():
            return file
    raise PlotlyMissing


SLICES = 4  # parameters where none are named
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
    """A figure that exists, of parameters that the space has."""

    name: str
    params: tuple[str, ...]


def checked(name: str, params: Sequence[str], known: Sequence[str]) -> Request:
    """What is asked for, each parameter once. Raises UnknownFigure, InvalidInput."""
    if name not in FIGURES:
        raise UnknownFigure(FIGURES)
    named = tuple(dict.fromkeys(params))
    if faults := list(_faults(name, named, known)):
        raise InvalidInput(faults)
    return Request(name, named)


def _faults(name: str, params: Sequence[str], known: Sequence[str]) -> list[Fault]:
    if params and name not in BY_PAIR and name not in BY_PARAMETERS:
        return [Fault(PLACE, "takes_no_parameter", "this figure shows no parameters of its own; drop param")]
    if any(param not in known for param in params):
        return [Fault(PLACE, "unknown_parameter", f"the search space has no such parameter; choose from {', '.join(known)}")]
    if name in BY_PAIR and len(params) > PAIR:
        return [Fault(PLACE, "too_many_parameters", "this figure shows two parameters; name two, or none")]
    return []


def prepare(request: Request) -> None:
    """Import what the figure needs and nothing else does: Plotly takes most of a second, once."""
    if request.name in ("optimization_history", "slice", "rank"):
        importlib.import_module("optuna.visualization")


def draw(request: Request, exhibit: FigureData, now: float) -> Figure:
    """The figure; one that says why in words when there is nothing to draw. `now` is in seconds since 1970."""
    return dict(plain(_drawn(request, exhibit, now)))


def _drawn(request: Request, exhibit: FigureData, now: float) -> Figure:
    if request.name == TIMELINE:
        return timeline(exhibit, now)
    if request.name == CURVES:
        return intermediate_values(exhibit)
    if not exhibit.complete:
        return unable(NOTHING_YET)
    if request.name in BY_ITSELF:
        return BY_ITSELF[request.name](exhibit)
    if missing := [name for name in request.params if name not in exhibit.params]:
        return unable(f"No complete trial has {' or '.join(missing)} yet.")
    if request.name in BY_PAIR:
        return _of_pair(request, exhibit)
    return _of_parameters(request, exhibit)


def _of_pair(request: Request, exhibit: FigureData) -> Figure:
    """The parameters that are not named are the most important ones."""
    ranked = (name for name in most_important(exhibit, len(exhibit.params)) if name not in request.params)
    names = [*request.params, *ranked][:PAIR]
    if len(names) < PAIR:
        return unable("This figure needs two parameters that vary; the search space has fewer.")
    if not exhibit.having(*names):
        return unable(f"No complete trial has both {names[0]} and {names[1]} yet.")
    return _of(names, BY_PAIR[request.name](exhibit, (names[0], names[1])))


def _of_parameters(request: Request, exhibit: FigureData) -> Figure:
    count = SLICES if request.name == "slice" else len(exhibit.params)
    names = request.params or most_important(exhibit, count)
    if not names:
        return unable("The search space has no parameter that varies.")
    return _of(names, BY_PARAMETERS[request.name](exhibit, names))


def _of(names: Sequence[str], figure: Figure) -> Figure:
    """The figure with the parameters it shows."""
    figure["layout"]["meta"]["params"] = list(names)
    return figure
