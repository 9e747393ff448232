"""Which parameters decide: PED-ANOVA on a grid of each parameter, as Optuna computes it.

Watanabe et al., "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces" (IJCAI 2023), with the
weights of the conditional form (KDD 2026). A parameter is important when its values among the best tenth of the trials are spread
otherwise than among all of them. Ours, for Optuna's lives in a package that imports scikit-learn, and torch with it; a test holds
the two against each other.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import ndtr

from service.search.distributions import distribution_of
from service.search.figures.exhibit import Exhibit
from service.search.figures.frame import COLORS, MARGIN, Figure, framed, unable
from service.search.figures.labels import escaped

Numbers = NDArray[np.float64]

BEST_SHARE = 0.1
CELLS = 50  # of the grid over a range
FEWEST_TRIALS = 2  # of a group that is looked at
NARROWEST = 0.5 / 1.64  # cells: nine tenths of a kernel lie in its own one
TRUSTED = 50  # complete trials: then the best tenth are five, below which Optuna calls the figure unstable
TINY = 1e-12


def importances(exhibit: Exhibit) -> Mapping[str, float]:
    """Each parameter's share of all importance, the greatest first. Empty when the trials tell nothing of it."""
    if len(exhibit.complete) < FEWEST_TRIALS:
        return {}
    top = _best(exhibit.losses)
    raw = {name: _divergence(exhibit, name, top) for name in exhibit.params}
    whole = sum(raw.values())
    if whole <= 0:
        return {}
    return {name: value / whole for name, value in sorted(raw.items(), key=lambda item: -item[1])}


def most_important(exhibit: Exhibit, count: int) -> list[str]:
    """Parameters that complete trials have, the most important first; in the order of the space where nothing is known."""
    ranked = list(importances(exhibit))
    return [*ranked, *(name for name in exhibit.params if name not in ranked)][:count]


def param_importances(exhibit: Exhibit) -> Figure:
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


def _doubt(exhibit: Exhibit) -> str:
    return "" if len(exhibit.complete) >= TRUSTED else ", a rough guess from so few"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _best(losses: Numbers) -> NDArray[np.bool_]:
    """Which are among the best tenth; all that equal the last of it are."""
    place = math.ceil(BEST_SHARE * losses.size) - 1
    best: NDArray[np.bool_] = losses <= np.partition(losses, place)[place]
    return best


def _divergence(exhibit: Exhibit, name: str, top: NDArray[np.bool_]) -> float:
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
