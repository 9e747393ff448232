"""Statistics of confirmed results: the variance of a design of seeds and examples, and intervals."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from service.domain.verdict import LEVEL, Estimate

Observations = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Crossed:
    """Marginal means and residual of the scores of n seeds on N examples (n, N > 1), a two-way crossed design without replication."""

    seeds: Observations  # mean of each seed, (n,)
    examples: Observations  # mean of each example, (N,)
    residual: float  # mean square of the interaction of seed and example

    @classmethod
    def of(cls, rows: Iterable[Observations]) -> "Crossed":
        """From rows of scores, one per seed, each (N,)."""
        seeds, total, squares = list[float](), np.zeros(0), 0.0
        for row in rows:
            seeds.append(float(row.mean()))
            total = row + total if seeds[1:] else row  # never in place: the first row belongs to the caller
            squares += float(row @ row)
        n, count, examples = len(seeds), len(total), total / max(len(seeds), 1)
        means = np.array(seeds)
        # The residual sum of squares by subtraction: the (n, N) table is never held in memory.
        explained = count * float(means @ means) + n * float(examples @ examples) - n * count * float(means.mean()) ** 2
        return cls(means, examples, max(squares - explained, 0.0) / max((n - 1) * (count - 1), 1))

    def error(self) -> tuple[float, float]:
        """Variance of the mean over new seeds and new examples, and its degrees of freedom.

        The variance of the seed means and that of the example means each contain the residual, so it is subtracted once. The result is
        at least half of the larger one. The degrees of freedom are at least those of the smaller of the two samples.
        Sources: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4 (two-way crossed, random);
        Satterthwaite, Biometrics Bulletin 2, 1946 (degrees of freedom).
        """
        n, count = len(self.seeds), len(self.examples)
        seeds, examples = float(self.seeds.var(ddof=1)) / n, float(self.examples.var(ddof=1)) / count
        twice = self.residual / (n * count)
        variance = max(seeds + examples - twice, seeds / 2, examples / 2)
        spread_of_variance = seeds**2 / (n - 1) + examples**2 / (count - 1) + twice**2 / ((n - 1) * (count - 1))
        return variance, max(variance**2 / spread_of_variance, min(n, count) - 1) if spread_of_variance > 0 else count - 1


@dataclass(frozen=True, slots=True)
class Tails:
    """The error probabilities of the two sides of an interval."""

    below: float  # that the number lies below the interval
    above: float  # that the number lies above the interval
    level: float

    @classmethod
    def of(cls, level: float) -> "Tails":
        """Equal tails."""
        return cls((1 - level) / 2, (1 - level) / 2, level)

    @classmethod
    def of_chosen(cls, among: int, higher_is_better: bool) -> "Tails":
        """Tails for a configuration that was chosen by its mean among `among` that cannot be told apart.

        The best of several means overestimates more often than it underestimates, so the interval reaches further to the worse side.
        If all are equal, each of them misses on that side with a probability of 5 % / among, so the chosen one misses with at most 5 %,
        and almost never on the other side. For one or two configurations this is the usual interval.
        Source: after Benjamini and Yekutieli, JASA 100, 2005 (intervals after selection), applied to each side.
        """
        missed = 1 - LEVEL
        too_good, too_bad = missed / max(among, 2), missed / 2
        return cls(too_good, too_bad, LEVEL) if higher_is_better else cls(too_bad, too_good, LEVEL)

    def interval(self, centre: float, error: float, freedom: float) -> tuple[float, float]:
        """The interval by Student's t with `freedom` degrees of freedom; `error` is the standard error of the centre."""
        return centre - self.t_below(freedom) * error, centre + self.t_above(freedom) * error

    def t_below(self, freedom: float) -> float:
        """The distance from the centre to the lower limit, in standard errors."""
        return float(stdtrit(freedom, 1 - self.below))

    def t_above(self, freedom: float) -> float:
        """The distance from the centre to the upper limit, in standard errors."""
        return float(stdtrit(freedom, 1 - self.above))


USUAL = Tails.of(LEVEL)


def spread(values: Observations, resolution: float = 0.0) -> float:
    """Standard deviation of values (n,), n > 1; at least that of rounding to steps of `resolution`, which is resolution / sqrt(12).

    Source: Sheppard, Proc. London Math. Soc. 29, 1898.
    """
    return max(float(values.std(ddof=1)), resolution / math.sqrt(12))


def over_seeds(values: Observations, *, tails: Tails = USUAL, resolution: float = 0.0) -> Estimate:
    """The t interval of the mean of values (n,), n > 1."""
    error = spread(values, resolution) / math.sqrt(len(values))
    return _estimate(float(values.mean()), tails.interval(float(values.mean()), error, len(values) - 1), tails)


def of_one_more(values: Observations, *, resolution: float = 0.0) -> Estimate:
    """The prediction interval of one more value, given values (n,), n > 1, of the same normal distribution.

    It reaches at least one step of `resolution` to each side: even if all seeds score the same, different floating-point rounding may
    change one prediction.
    Source: Hahn and Meeker, Statistical Intervals, 1991, section 4.7.
    """
    mean, error = float(values.mean()), spread(values, resolution) * math.sqrt(1 + 1 / len(values))
    low, high = USUAL.interval(mean, error, len(values) - 1)
    return _estimate(mean, (min(low, mean - resolution), max(high, mean + resolution)), USUAL)


def chance_of_no_less(differences: Observations, resolution: float = 0.0) -> float:
    """The p-value of a one-sided t test of differences (n,), n > 1, against the hypothesis that their true mean is at most 0."""
    mean, deviation = float(differences.mean()), spread(differences, resolution)
    if deviation == 0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(len(differences) - 1, -mean * math.sqrt(len(differences)) / deviation))


def share_on_new_examples(share: float, scores: Crossed, *, tails: Tails = USUAL) -> Estimate:
    """The interval of a share, from 0 to 1, for new seeds and new examples.

    Wilson's interval, which is valid near 0 and 1, with the effective number of examples that gives the variance of the two-way design.
    Without variance, it is the actual number of examples. Sources: Wilson, JASA 22, 1927; Korn and Graubard, Survey Methodology 24, 1998.
    """
    variance, freedom = scores.error()
    share = min(max(share, 0.0), 1.0)
    count = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else len(scores.examples)
    low, high = _wilson(share, count, -tails.t_below(freedom)), _wilson(share, count, tails.t_above(freedom))
    return _estimate(share, (min(low, share), max(high, share)), tails)


def mean_on_new_examples(mean: float, scores: Crossed, *, tails: Tails = USUAL) -> Estimate:
    """The interval of a mean that is not a share, for new seeds and new examples."""
    variance, freedom = scores.error()
    return _estimate(mean, tails.interval(mean, math.sqrt(variance), freedom), tails)


def difference_on_new_examples(mean: float, rows: Iterable[Observations], *, tails: Tails = USUAL) -> Estimate:
    """The interval of a paired difference of shares for new seeds and new examples. `rows` are the differences by example, per seed.

    Half an example in favour of each side is added, so a few examples that all favour one side do not give a certain result.
    Source: Agresti and Min, Statistics in Medicine 24, 2005.
    """
    half = math.sqrt(0.5)  # its square is half of that of one example with the difference 1
    scores = Crossed.of(np.concatenate([row, [half, -half]]) for row in rows)
    variance, freedom = scores.error()
    count = len(scores.examples)
    return _estimate(mean, tails.interval(mean * (count - 2) / count, math.sqrt(variance), freedom), tails)


def within(estimate: Estimate, low: float, high: float) -> Estimate:
    """The interval, clipped to the possible range of the number."""
    return estimate.model_copy(update={"low": max(estimate.low, low), "high": min(estimate.high, high)})


def no_narrower(estimate: Estimate, other: Estimate) -> Estimate:
    """The interval, extended to contain the other one."""
    return estimate.model_copy(update={"low": min(estimate.low, other.low), "high": max(estimate.high, other.high)})


def _wilson(share: float, count: float, t: float) -> float:
    """The lower limit for t < 0, the upper limit for t > 0."""
    centre = share + t * t / (2 * count)
    return (centre + t * math.sqrt(share * (1 - share) / count + t * t / (4 * count * count))) / (1 + t * t / count)


def _estimate(value: float, interval: tuple[float, float], tails: Tails) -> Estimate:
    return Estimate(value=value, low=interval[0], high=interval[1], level=tails.level)
