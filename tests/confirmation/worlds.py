"""Studies of which the truth is known: many trials of noisy values, the best of them confirmed by the real race and verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from service.confirmation.race import FIRST_ROUNDS, Arm, Cost, Repeat, next_round
from service.confirmation.verdict import judge
from service.domain.spec import Objective
from service.domain.verdict import Verdict
from trainer.tasks.capabilities import ExampleScores
from trainer.tasks.registry import spec_of

ACCURACY = Objective(metric="accuracy", direction="maximize")
LOSS = Objective(metric="loss", direction="minimize")
TASK = spec_of("image_classification")
STUDIES = 500
TRIALS = 60
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How a study's trials differ, and how noisy their values are."""

    apart: float  # standard deviation of the trials' true values
    noise: float  # standard deviation of a run, its own
    shared: float = 0.0  # of a round, common to all its runs
    ahead: float = 0.0  # of the best trial before all others
    uplift: float = 0.0  # of the mean trial over the baseline, above 0 where better
    top: int = 3
    seeds: int = 5
    objective: Objective = ACCURACY
    one_price: bool = False  # then the cheapest is the best, always

    @property
    def deviation(self) -> float:
        """Of a single run."""
        return float(np.hypot(self.noise, self.shared))

    @property
    def sign(self) -> float:
        """Of what is better."""
        return 1.0 if self.objective.direction == "maximize" else -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedSoFar:
    """A study that has ended."""

    truth: Floats  # of the arms, by their trials' numbers: in the order of the search, the baseline last
    best_value: float  # of the search
    best_trial: float  # the true value of the best trial there was
    verdict: Verdict
    runs: int
    fresh: float  # one more run of the recommended one

    @property
    def recommended(self) -> float:
        """Its true value."""
        assert self.verdict.recommended is not None
        return float(self.truth[self.verdict.recommended])


@cache
def studies_of(world: World) -> list[ReportedSoFar]:
    """So many studies in that world as a coverage is told of."""
    rng = np.random.default_rng(6)
    return [_study(world, rng) for _ in range(STUDIES)]


def _study(world: World, rng: np.random.Generator) -> ReportedSoFar:
    better = rng.normal(0, world.apart, TRIALS)
    if world.ahead:
        better[0] = better[1:].max() + world.ahead
    truth = 0.6 + world.sign * better
    searched = truth + rng.normal(0, world.deviation, TRIALS)
    top = np.argsort(-world.sign * searched)[: world.top]
    arms = np.append(truth[top], 0.6 - world.sign * world.uplift)
    seen = np.append(searched[top], arms[-1] + rng.normal(0, world.deviation))
    runs = arms[:, None] + rng.normal(0, world.noise, (len(arms), world.seeds)) + rng.normal(0, world.shared, world.seeds)
    prices = [cost(trainable=1_000 if world.one_price else int(rng.choice([1_000, 5_000]))) for _ in arms]
    raced, spent = race(runs, seen, prices, world)
    verdict = judge(raced, world.objective, task=TASK, seeds=world.seeds, test_examples=0, state="done")
    assert verdict.recommended is not None
    return ReportedSoFar(
        truth=arms,
        best_value=float(seen[0]),
        best_trial=float(truth[np.argmax(better)]),
        verdict=verdict,
        runs=spent,
        fresh=float(arms[verdict.recommended] + rng.normal(0, world.deviation)),
    )


def race(runs: Floats, searched: Floats, prices: Sequence[Cost], world: World) -> tuple[list[Arm], int]:
    """The arms after the race over runs [arms, seeds], of which the baseline is the last; and how many runs were trained."""
    rounds = np.full(len(runs), min(FIRST_ROUNDS, world.seeds))

    def arms() -> list[Arm]:
        return [
            arm(number, runs[number, : rounds[number]], baseline=number == len(runs) - 1, searched=float(searched[number]), cost=price)
            for number, price in enumerate(prices)
        ]

    while (coming := next_round(arms(), world.objective.direction, world.seeds)) is not None:
        rounds[list(coming.arms)] = coming.round
    return arms(), int(rounds.sum())


def cost(*, trainable: int = 1_000, train_seconds: float = 10.0, peak_memory: int = 10**8) -> Cost:
    return Cost(trainable=trainable, train_seconds=train_seconds, peak_memory=peak_memory)


def arm(
    trial: int,
    tests: Sequence[float] | Floats,
    *,
    baseline: bool = False,
    searched: float | None = 0.9,
    open: int = 0,
    failed: str | None = None,
    cost: Cost | None = None,
    rounds: Sequence[int] | None = None,
    examples: Sequence[ExampleScores] | None = None,
    resolution: float = 0.0,
) -> Arm:
    """An arm with those scores in its rounds, 1, 2, ... where nothing else is said; it scores the same on the validation images."""
    repeats = [
        Repeat(
            trial=1_000 + round,
            round=round,
            test=float(test),
            validation=float(test),
            examples=examples[place] if examples is not None else None,
            resolution=resolution,
        )
        for place, (round, test) in enumerate(zip(rounds or range(1, len(tests) + 1), tests, strict=True))
    ]
    return Arm(
        trial=trial,
        baseline=baseline,
        params={"lr": 0.1},
        searched=searched,
        repeats=tuple(repeats),
        open=open,
        failed=failed,
        cost=cost,
    )
