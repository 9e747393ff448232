"""Intervals of a mean: over seeds, of one more run, and over seeds and images both."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # scipy.stats, which wraps them, takes a second to import

from service.domain.verdict import LEVEL, Estimate

Values = NDArray[np.float64]


def spread(values: Values, resolution: float = 0.0) -> float:
    """Standard deviation of values (n,), at least what rounding them to steps of `resolution` hides: resolution / sqrt(12).

    Source: Sheppard, Proc. London Math. Soc. 29, 1898.
    """
    return max(float(values.std(ddof=1)), resolution / math.sqrt(12))


def quantile(level: float, freedom: float) -> float:
    """Half the width, in standard errors, of a two-sided interval of that level: Student's t with so many degrees of freedom."""
    return float(stdtrit(freedom, (1 + level) / 2))


def over_seeds(values: Values, *, level: float = LEVEL, resolution: float = 0.0) -> Estimate:
    """The t interval of the mean of values (n,), n > 1."""
    half = quantile(level, len(values) - 1) * spread(values, resolution) / math.sqrt(len(values))
    return around(float(values.mean()), half, level)


def of_one_more(values: Values, *, level: float = LEVEL, resolution: float = 0.0) -> Estimate:
    """Where one more value falls beside values (n,), n > 1, all from one normal distribution.

    At least a step of `resolution` wide to each side: where all seeds score alike, another machine's rounding may still turn an image over.
    Source: Hahn and Meeker, Statistical Intervals, 1991, section 4.7.
    """
    half = quantile(level, len(values) - 1) * spread(values, resolution) * math.sqrt(1 + 1 / len(values))
    return around(float(values.mean()), max(half, resolution), level)


def chance_of_no_less(differences: Values, resolution: float = 0.0) -> float:
    """The p-value of a one-sided t test: how likely so large a mean of differences (n,), n > 1, is where the true one is 0 at most."""
    mean, deviation = float(differences.mean()), spread(differences, resolution)
    if deviation == 0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(len(differences) - 1, -mean * math.sqrt(len(differences)) / deviation))


def share_on_new_images(seeds: Values, images: Values) -> Estimate:
    """The mean of a share for new seeds and new images: scores by seed (n,), n > 1, and mean scores by image (N,), N > 1.

    Wilson's interval, with as many images as would give the variance of the two-way design: it holds near 0 and 1, where few images are
    wrong. Without any variance, N images. Sources: Wilson, JASA 22, 1927; Korn and Graubard, Survey Methodology 24, 1998.
    """
    variance, freedom = crossed(seeds, images)
    share, t = float(seeds.mean()), quantile(LEVEL, freedom)
    inner = max(share * (1 - share), 0.0)
    count = inner / variance if variance > 0 and inner > 0 else len(images)
    centre = (share + t * t / (2 * count)) / (1 + t * t / count)
    half = t * math.sqrt(inner / count + t * t / (4 * count * count)) / (1 + t * t / count)
    return Estimate(value=share, low=min(centre - half, share), high=max(centre + half, share))


def mean_on_new_images(seeds: Values, images: Values) -> Estimate:
    """The mean of something without bounds for new seeds and new images: by seed (n,), n > 1, and by image (N,), N > 1."""
    variance, freedom = crossed(seeds, images)
    return around(float(seeds.mean()), quantile(LEVEL, freedom) * math.sqrt(variance), LEVEL)


def difference_of_shares_on_new_images(seeds: Values, images: Values) -> Estimate:
    """The mean of a paired difference of shares: by seed (n,), n > 1, and by image (N,), each from -1 to 1.

    One image more for either side is assumed, so that a handful of images that all fell to one side do not make it certain.
    Source: Bonett and Price, J. Educational and Behavioral Statistics 37, 2012.
    """
    more = np.concatenate([images, [1.0, -1.0]])
    variance, freedom = crossed(seeds, more)
    value, half = float(seeds.mean()), quantile(LEVEL, freedom) * math.sqrt(variance)
    centre = value * len(images) / len(more)
    return Estimate(value=value, low=centre - half, high=centre + half)


def crossed(seeds: Values, images: Values) -> tuple[float, float]:
    """Variance, and its degrees of freedom, of the mean over seeds and images that were crossed: all seeds on all images.

    Each of the two terms has the residual in it, so the sum is a little too large rather than too small.
    Sources: Cochran, JASA 46, 1951 (sums of mean squares); Satterthwaite, Biometrics Bulletin 2, 1946 (degrees of freedom).
    """
    parts = [(float(of.var(ddof=1)) / len(of), len(of) - 1) for of in (seeds, images)]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0, parts[1][1]
    return variance, variance**2 / sum(part**2 / freedom for part, freedom in parts)


def around(value: float, half: float, level: float) -> Estimate:
    """The interval with its centre at the value."""
    return Estimate(value=value, low=value - half, high=value + half, level=level)


def within(estimate: Estimate, low: float, high: float) -> Estimate:
    """The interval cut to where the number can be at all."""
    return estimate.model_copy(update={"low": max(estimate.low, low), "high": min(estimate.high, high)})
