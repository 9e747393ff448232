"""Statistics of confirmed results: crossed random effects, intervals."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from service.domain.verdict import LEVEL, Estimate

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Crossed:
    """Scores of n seeds on N examples, both more than one, without the table of them."""

    seeds: Values  # mean of each seed, (n,)
    examples: Values  # mean of each example, (N,)
    residual: float  # mean square of what neither the seed nor the example explains

    @classmethod
    def of(cls, rows: Iterable[Values]) -> "Crossed":
        """From the scores of a seed at a time, each (N,)."""
        seeds, total, squares = list[float](), np.zeros(0), 0.0
        for row in rows:
            seeds.append(float(row.mean()))
            total = row + total if seeds[1:] else row
            squares += float(row @ row)
        n, count, examples = len(seeds), len(total), total / max(len(seeds), 1)
        means = np.array(seeds)
        explained = count * float(means @ means) + n * float(examples @ examples) - n * count * float(means.mean()) ** 2
        return cls(means, examples, max(squares - explained, 0.0) / max((n - 1) * (count - 1), 1))

    def error(self) -> tuple[float, float]:
        """Variance of the mean for other seeds and other examples, and its degrees of freedom.

        The variance of the seeds' means and that of the examples' means have the residual in them, each once, so it is taken off once;
        of the larger one at least half is left. Degrees of freedom are never fewer than those of the fewer of seeds and examples.
        Sources: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4 (two-way crossed, random);
        Satterthwaite, Biometrics Bulletin 2, 1946 (degrees of freedom).
        """
        n, count = len(self.seeds), len(self.examples)
        seeds, examples = float(self.seeds.var(ddof=1)) / n, float(self.examples.var(ddof=1)) / count
        twice = self.residual / (n * count)
        variance = max(seeds + examples - twice, seeds / 2, examples / 2)
        doubt = seeds**2 / (n - 1) + examples**2 / (count - 1) + twice**2 / ((n - 1) * (count - 1))
        return variance, max(variance**2 / doubt, min(n, count) - 1) if doubt > 0 else count - 1


@dataclass(frozen=True, slots=True)
class Tails:
    """How often an interval may miss the number: the number lies below it, or above it."""

    below: float
    above: float
    level: float

    @classmethod
    def of(cls, level: float) -> "Tails":
        """Half of what is left on each side."""
        return cls((1 - level) / 2, (1 - level) / 2, level)

    @classmethod
    def of_chosen(cls, among: int, higher_is_better: bool) -> "Tails":
        """For one that was chosen by its mean among so many that cannot be told apart.

        The best of several means is too good more often than too bad: that side gets more room. Where all are equal, each of them misses
        there in 5 % / among, so the chosen one in 5 % at most, and hardly ever on the other side. For one or two it is the usual interval.
        Source: after Benjamini and Yekutieli, JASA 100, 2005 (intervals for what was selected), by side.
        """
        missed = 1 - LEVEL
        too_good, too_bad = missed / max(among, 2), missed / 2
        return cls(too_good, too_bad, LEVEL) if higher_is_better else cls(too_bad, too_good, LEVEL)

    def interval(self, centre: float, error: float, freedom: float) -> tuple[float, float]:
        """Student's t with so many degrees of freedom about the centre, of which `error` is the standard error."""
        return centre - self.t_below(freedom) * error, centre + self.t_above(freedom) * error

    def t_below(self, freedom: float) -> float:
        """How many standard errors the interval reaches down."""
        return float(stdtrit(freedom, 1 - self.below))

    def t_above(self, freedom: float) -> float:
        """How many standard errors the interval reaches up."""
        return float(stdtrit(freedom, 1 - self.above))


USUAL = Tails.of(LEVEL)


def spread(values: Values, resolution: float = 0.0) -> float:
    """Standard deviation of values (n,), n > 1, at least what rounding them to steps of `resolution` hides: resolution / sqrt(12).

    Source: Sheppard, Proc. London Math. Soc. 29, 1898.
    """
    return max(float(values.std(ddof=1)), resolution / math.sqrt(12))


def over_seeds(values: Values, *, tails: Tails = USUAL, resolution: float = 0.0) -> Estimate:
    """The t interval of the mean of values (n,), n > 1."""
    error = spread(values, resolution) / math.sqrt(len(values))
    return _estimate(float(values.mean()), tails.interval(float(values.mean()), error, len(values) - 1), tails)


def of_one_more(values: Values, *, resolution: float = 0.0) -> Estimate:
    """Where one more value falls beside values (n,), n > 1, all from one normal distribution.

    At least a step of `resolution` wide to each side: where all seeds score alike, other rounding may still change one prediction.
    Source: Hahn and Meeker, Statistical Intervals, 1991, section 4.7.
    """
    mean, error = float(values.mean()), spread(values, resolution) * math.sqrt(1 + 1 / len(values))
    low, high = USUAL.interval(mean, error, len(values) - 1)
    return _estimate(mean, (min(low, mean - resolution), max(high, mean + resolution)), USUAL)


def chance_of_no_less(differences: Values, resolution: float = 0.0) -> float:
    """The p-value of a one-sided t test: how likely so large a mean of differences (n,), n > 1, is where the true one is 0 at most."""
    mean, deviation = float(differences.mean()), spread(differences, resolution)
    if deviation == 0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(len(differences) - 1, -mean * math.sqrt(len(differences)) / deviation))


def share_on_new_examples(share: float, scores: Crossed, *, tails: Tails = USUAL) -> Estimate:
    """The interval of a share, from 0 to 1, for new seeds and new examples.

    Wilson's, with as many examples as would give the variance of the two-way design: it holds near 0 and 1.
    Without any variance, the examples there are. Sources: Wilson, JASA 22, 1927; Korn and Graubard, Survey Methodology 24, 1998.
    """
    variance, freedom = scores.error()
    share = min(max(share, 0.0), 1.0)
    count = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else len(scores.examples)
    low, high = _wilson(share, count, -tails.t_below(freedom)), _wilson(share, count, tails.t_above(freedom))
    return _estimate(share, (min(low, share), max(high, share)), tails)


def mean_on_new_examples(mean: float, scores: Crossed, *, tails: Tails = USUAL) -> Estimate:
    """The interval of something without bounds for new seeds and new examples."""
    variance, freedom = scores.error()
    return _estimate(mean, tails.interval(mean, math.sqrt(variance), freedom), tails)


def difference_on_new_examples(mean: float, rows: Iterable[Values], *, tails: Tails = USUAL) -> Estimate:
    """The interval of a paired difference of shares for new seeds and new examples: by seed, the difference on each example.

    Half an example more for either side is assumed, so that a handful of examples that all fell to one side do not make it certain.
    Source: Agresti and Min, Statistics in Medicine 24, 2005.
    """
    half = math.sqrt(0.5)  # as large a square as half an example's, whose difference is 1
    scores = Crossed.of(np.concatenate([row, [half, -half]]) for row in rows)
    variance, freedom = scores.error()
    count = len(scores.examples)
    return _estimate(mean, tails.interval(mean * (count - 2) / count, math.sqrt(variance), freedom), tails)


def within(estimate: Estimate, low: float, high: float) -> Estimate:
    """The interval cut to where the number can be at all."""
    return estimate.model_copy(update={"low": max(estimate.low, low), "high": min(estimate.high, high)})


def no_narrower(estimate: Estimate, other: Estimate) -> Estimate:
    """The interval with all of another one in it."""
    return estimate.model_copy(update={"low": min(estimate.low, other.low), "high": max(estimate.high, other.high)})


def _wilson(share: float, count: float, t: float) -> float:
    """The limit on the side of the sign of t."""
    centre = share + t * t / (2 * count)
    return (centre + t * math.sqrt(share * (1 - share) / count + t * t / (4 * count * count))) / (1 + t * t / count)


def _estimate(value: float, interval: tuple[float, float], tails: Tails) -> Estimate:
    return Estimate(value=value, low=interval[0], high=interval[1], level=tails.level)
