"""Figures of a search, as Plotly describes them: the only home of Plotly and of Optuna's plots.

Optuna draws what it draws well at thousands of trials: the history, slices and ranks. The others are ours, measured at 2,000 trials:
its importances import scikit-learn, and torch with it; its contour is a matrix of millions of cells; its learning curves and
parallel coordinates are an object and a drawn line each; its timeline is a diagonal, mixes two time zones and knows no
cancelled trial; its distribution has a hundred points, however far away the worst trial is.
"""

from service.search.figures.gallery import CURVES, FIGURES, Request, checked, draw, prepare, script_file, script_version
from service.search.figures.layout import Figure, FigureData

__all__ = [
    "CURVES", "FIGURES", "FigureData", "Figure", "Request", "checked", "draw", "prepare", "script_file", "script_version",
]  # fmt: skip
