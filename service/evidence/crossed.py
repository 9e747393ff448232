"""The variance of a mean over seeds and examples that were crossed: each seed's model on each example."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
