"""How the objective is spread over the trials: the exact steps of its empirical distribution."""

import numpy as np

from service.search.figures.exhibit import Exhibit
from service.search.figures.frame import COLORS, Figure, beyond_in_words, framed, metric_axis
from service.search.figures.labels import value_text

QUANTILES = {"best": 0.0, "best tenth": 0.1, "best quarter": 0.25, "half": 0.5, "worst": 1.0}


def edf(exhibit: Exhibit) -> Figure:
    """The share of complete trials whose objective is at most x."""
    order = np.argsort(exhibit.values, kind="stable")
    values = exhibit.values[order]
    shares = np.arange(1, values.size + 1) / values.size
    line = {
        "type": "scatter", "mode": "lines+markers" if values.size == 1 else "lines", "x": [values[0], *values], "y": [0.0, *shares],
        "line": {"shape": "hv", "color": COLORS["point"], "width": 2},
        "hovertemplate": f"{exhibit.metric} ≤ %{{x}}: %{{y:.1%}}<extra></extra>",
    }  # fmt: skip
    reached = {name: value_text(exhibit.measure, _reached(exhibit, share)) for name, share in QUANTILES.items()}
    summary = (
        f"Of {values.size} complete trials half reach {reached['half']}, a tenth {reached['best tenth']}, "
        f"and the best, trial {exhibit.best.number}, {reached['best']}.{beyond_in_words(exhibit)}"
    )
    axis = {"title": {"text": "share of trials"}, "range": [0, 1.03], "tickformat": ".0%", "automargin": True}
    return framed([line], summary, list(reached.items()), xaxis=metric_axis(exhibit, exhibit.values.tolist()), yaxis=axis)


def _reached(exhibit: Exhibit, share: float) -> float:
    """The objective that this share of the trials reaches or exceeds."""
    loss = float(np.quantile(exhibit.losses, share, method="inverted_cdf"))
    return -loss if exhibit.maximizes else loss
