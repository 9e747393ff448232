"""The objective over two parameters: a smooth mean of the trials on a grid of bounded size, and the trials upon it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.search.figures.exhibit import Exhibit
from service.search.figures.frame import COLORS, SCALE, Figure, framed, metric_axis, param_axis, unable
from service.search.figures.labels import escaped

Numbers = NDArray[np.float64]

MANY = 400  # trials
CELLS = 56  # along each axis
FEWEST_TRIALS = 4
NARROWEST = 0.03  # width of a trial's weight, as a share of the axis
SUPPORT = 0.5  # of trials, each 1 at its own place: with less, nothing is said of the objective
APART = 6.0  # widths from one choice to the next: a trial says nothing of another choice
CAPPED = 0.05  # the worst trials do not set the colours: among them are those that came to nothing


def contour(exhibit: Exhibit, names: tuple[str, str]) -> Figure:
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


def _surface(exhibit: Exhibit, names: tuple[str, str], positions: tuple[Numbers, Numbers], values: Numbers) -> dict[str, Any]:
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


def _grid(exhibit: Exhibit, name: str, where: Numbers) -> Numbers:
    if name in exhibit.choices:
        return np.arange(len(exhibit.choices[name].labels), dtype=np.float64)
    return np.linspace(where.min(), where.max(), CELLS)


def _drawn(exhibit: Exhibit, name: str, where: Numbers) -> Numbers:
    """Positions as the axis wants them."""
    return np.asarray(10**where if exhibit.is_log(name) else where)


def _axis(exhibit: Exhibit, name: str, where: Numbers) -> dict[str, Any]:
    """Choices stand at whole numbers: a surface needs distances."""
    if name not in exhibit.choices:
        margin = 0.03 * float(np.ptp(where)) or 0.5
        return param_axis(exhibit, name, range=[float(where.min()) - margin, float(where.max()) + margin])
    labels = [escaped(label) for label in exhibit.choices[name].labels]
    ticks = {"tickmode": "array", "tickvals": list(range(len(labels))), "ticktext": labels, "range": [-0.5, len(labels) - 0.5]}
    return {"title": {"text": escaped(name)}, "type": "linear", "zeroline": False, "automargin": True, **ticks}


def _points(exhibit: Exhibit, names: tuple[str, str], places: list[int], positions: tuple[Numbers, Numbers]) -> dict[str, Any]:
    x, y = (_drawn(exhibit, name, where).tolist() for name, where in zip(names, positions, strict=True))
    shown = [exhibit.hovers[exhibit.complete[place].number] for place in places]
    return {"type": "scatter", "mode": "markers", "x": x, "y": y, "hovertext": shown, "hovertemplate": "%{hovertext}<extra></extra>"}


def _colors(exhibit: Exhibit, values: Numbers) -> dict[str, Any]:
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


def _summary(exhibit: Exhibit, names: tuple[str, str], places: list[int]) -> str:
    shown = f"Mean {exhibit.metric} of {len(places)} complete trials by {names[0]} and {names[1]}; brighter is better."
    return f"{shown} {exhibit.best_in_words(*names)}"
