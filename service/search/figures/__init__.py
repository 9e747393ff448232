"""Figures of a search in Plotly's format: the only package that uses Plotly and Optuna's plots.

Optuna computes the history, slices and ranks. The other figures are implemented here, because Optuna's have these problems at 2,000
trials: its importances import scikit-learn and, with it, torch; its contour is a matrix of millions of cells; its learning curves and
parallel coordinates have one object and one drawn line per trial; its timeline has one row per trial, mixes two time zones and has no
state for cancelled trials; its distribution has a hundred points over the whole range, which one very bad trial can stretch.
"""

from service.search.figures.gallery import CURVES, FIGURES, Request, checked, draw, prepare, script_file, script_version
from service.search.figures.layout import Figure, FigureData

__all__ = [
    "CURVES", "FIGURES", "FigureData", "Figure", "Request", "checked", "draw", "prepare", "script_file", "script_version",
]  # fmt: skip
