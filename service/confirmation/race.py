"""The configurations under comparison, their paired differences, and the choice of those that are trained in the next round."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from search_spaces import Scalar
from service.confirmation.statistics import Observations, chance_of_no_less, spread
from service.domain.records import Confirmation, Trial
from service.domain.spec import StudySpec
from service.domain.states import TrialState
from trainer.configuration import Direction
from trainer.tasks.capabilities import ExampleScores, PerExample
from trainer.tasks.registry import spec_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """One run of a configuration in the confirmation: its round, and its scores by the study's objective."""

    trial: int
    round: int
    test: float
    validation: float
    examples: ExampleScores | None  # scores of the test examples; None if they were not kept
    resolution: float = 0.0  # the step between two possible values of the objective; 0 for a continuous metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of a configuration: medians over its runs."""

    trainable: int  # parameters
    train_seconds: float  # per run; if heads were trained together, the run's share of the time
    peak_memory: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A configuration under comparison."""

    trial: int  # of the search
    baseline: bool
    params: Mapping[str, Scalar]
    searched: float | None  # the validation value in the search
    repeats: tuple[Repeat, ...]  # complete runs, by round
    open: int  # runs that have not ended
    failed: str | None  # why a run has no result, as a sentence; such an arm is excluded
    cost: Cost | None


def arms_of(
    spec: StudySpec, confirmation: Confirmation, searched: Iterable[Trial], repeats: Iterable[Trial], test_examples: int = 0
) -> list[Arm]:
    """The arms in the order in which the search ranked them. `searched` are their trials of the search, in any order.

    `test_examples` is the number of test examples, for runs that did not keep the scores of each. Cancelled repeats are ignored.
    """
    known = {trial.number: trial for trial in searched}
    to_repeat = partial(_repeat, spec, test_examples)
    trained = [one for one in repeats if one.state is not TrialState.CANCELLED]
    return [
        _arm(known[number], number == confirmation.baseline, [one for one in trained if one.confirms == number], to_repeat)
        for number in confirmation.arms
    ]


def _arm(trial: Trial, baseline: bool, repeats: Collection[Trial], to_repeat: Callable[[Trial], Repeat | None]) -> Arm:
    complete = [repeat for one in sorted(repeats, key=_round) if (repeat := to_repeat(one)) is not None]
    lost = [one for one in repeats if one.state.terminal and one.number not in {repeat.trial for repeat in complete}]
    return Arm(
        trial=trial.number,
        baseline=baseline,
        params=trial.params,
        searched=trial.value if trial.state is TrialState.COMPLETE else None,
        repeats=tuple(complete),
        open=sum(not one.state.terminal for one in repeats),
        failed=_failure(lost[0]) if lost else None,
        cost=_cost([one for one in repeats if one.state is TrialState.COMPLETE]),
    )


def _round(trial: Trial) -> int:
    return trial.round or 0


def _repeat(spec: StudySpec, test_examples: int, trial: Trial) -> Repeat | None:
    """The run of a trial; None without a score on the test examples, or with one outside the metric's range."""
    scores = trial.result.get("test")
    if trial.state is not TrialState.COMPLETE or trial.value is None or scores is None:
        return None
    task, name = spec_of(spec.task), spec.objective.metric
    metric, value = spec.measure, scores["metrics"].get(name)
    if value is None or not (metric.holds(value) and metric.holds(trial.value)):
        return None
    report = {key: item for key, item in scores.items() if key != "metrics"}
    examples = task.examples(task.TestReport.model_validate(report)) if isinstance(task, PerExample) else None
    return Repeat(
        trial=trial.number,
        round=_round(trial),
        test=value,
        validation=trial.value,
        examples=examples,
        resolution=metric.step(test_examples if examples is None else len(examples)),
    )


def _failure(trial: Trial) -> str:
    why = trial.detail or trial.reason or "it has no score on the test examples"
    return f"trial {trial.number}, round {trial.round}, is {trial.state}: {why}"


def _cost(complete: Collection[Trial]) -> Cost | None:
    results = [one.result for one in complete if {"trainable", "train_seconds", "peak_memory"} <= one.result.keys()]
    if not results:
        return None
    return Cost(
        trainable=int(results[0]["trainable"]),
        train_seconds=float(np.median([one["train_seconds"] / _lanes(one) for one in results])),
        peak_memory=int(np.median([one["peak_memory"] for one in results])),
    )


def _lanes(result: Mapping[str, Any]) -> int:
    return int(result.get("reuse", {}).get("lanes", 1))


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The differences between two arms, round by round."""

    other: int  # the arm that may be behind, as the number of its trial of the search
    rounds: tuple[int, ...]  # complete in both arms
    behind: Observations  # difference in each round, (n,); above 0 where `other` is worse
    resolution: float  # of a difference

    @property
    def error(self) -> float:
        """Standard error of the mean difference. Requires at least two rounds."""
        return spread(self.behind, self.resolution) / math.sqrt(len(self.behind))


def rounds_of(arm: Arm) -> set[int]:
    """The rounds that the arm has completed."""
    return {repeat.round for repeat in arm.repeats}


def tests_of(arm: Arm, rounds: Collection[int] | None = None) -> Observations:
    """Scores on the test examples by round, (n,)."""
    return np.array([one.test for one in _in(arm, rounds)], dtype=np.float64)


def mean_of(arm: Arm, rounds: Collection[int]) -> float:
    """Mean score on the test examples over those of the rounds that the arm has completed."""
    return float(tests_of(arm, rounds).mean())


def resolution_of(arm: Arm) -> float:
    """The step between two possible scores of the arm."""
    return max((repeat.resolution for repeat in arm.repeats), default=0.0)


def paired(one: Arm, other: Arm, direction: Direction, rounds: Collection[int] | None = None) -> Pair:
    """How far `other` is behind `one`, in the rounds that both have; limited to `rounds` if given."""
    common = sorted((rounds_of(one) & rounds_of(other)) & set(rounds if rounds is not None else rounds_of(one)))
    sign = 1.0 if direction == "maximize" else -1.0
    # Both scores of a difference are rounded, and the variances of the rounding errors add up.
    resolution = math.hypot(resolution_of(one), resolution_of(other))
    return Pair(other.trial, tuple(common), sign * (tests_of(one, common) - tests_of(other, common)), resolution)


def have_scores(arms: Collection[Arm], rounds: Collection[int], metric: str) -> bool:
    """Whether all runs of the arms in those rounds have finite scores of each test example, on the same two or more examples."""
    found = [repeat.examples for arm in arms for repeat in _in(arm, rounds)]
    known = [one for one in found if one is not None]
    if len(known) < len(arms) * len(rounds) or not known or len(known[0]) < 2:
        return False
    return all(one.are_those_of(known[0]) for one in known[1:]) and all(one.has_scores(metric) for one in known)


def scores_of(arm: Arm, rounds: Collection[int], metric: str) -> Iterator[Observations]:
    """The scores of the test examples (N,), one round at a time, because those of all rounds may not fit into memory."""
    return (one.examples.scores(metric) for one in _in(arm, rounds) if one.examples is not None)


def _in(arm: Arm, rounds: Collection[int] | None) -> list[Repeat]:
    return [repeat for repeat in arm.repeats if rounds is None or repeat.round in rounds]


FIRST_ROUNDS = 3  # rounds that every arm runs before the first decision
MISTAKEN = 0.05  # upper bound of the probability that a race drops the best arm


@dataclass(frozen=True, slots=True)
class ConfirmationRound:
    """A round of the confirmation, and its arms as numbers of their trials of the search."""

    round: int
    arms: tuple[int, ...]


def next_round(arms: Sequence[Arm], direction: Direction, seeds: int) -> ConfirmationRound | None:
    """The round to queue when all queued runs have ended; None while runs are open, after the last round, and without remaining arms.

    Arms with a failed run, arms that the race dropped and arms that lack a round are excluded. The baseline stays in the race, even if
    it lacks a round, because the uplift is computed from it.
    """
    done = _done(arms)
    if any(arm.open for arm in arms) or done >= seeds:
        return None
    lost = dropped(arms, direction, seeds)
    left = [arm for arm in arms if arm.failed is None and arm.trial not in lost and (arm.baseline or _has_all(arm, done))]
    return ConfirmationRound(done + 1, tuple(arm.trial for arm in left)) if left else None


def dropped(arms: Sequence[Arm], direction: Direction, seeds: int) -> Mapping[int, int]:
    """The round after which the race dropped each arm, by its trial of the search. Arms that were not dropped are absent.

    After each round from FIRST_ROUNDS on, an arm is dropped if a one-sided paired t test shows that it is worse than the best remaining
    one. The level is divided among rivals and looks (Bonferroni), so the best is dropped in at most 5 % of races. Earlier decisions are
    not stored; they are recomputed from the runs of their rounds.
    Sources: Maron and Moore, NIPS 6, 1994; Birattari et al., GECCO 2002 (F-Race).
    """
    lost: dict[int, int] = {}
    for look in range(FIRST_ROUNDS, min(_decided(arms) + 1, seeds)):
        left = [arm for arm in arms if arm.trial not in lost and _has_all(arm, look)]
        worse = _clearly_worse(left, direction, look, _level(len(arms), seeds))
        lost |= {arm.trial: look for arm in left if arm.trial in worse and not _went_on(arm, look)}
    return lost


def _went_on(arm: Arm, look: int) -> bool:
    """Whether the arm was trained after that round."""
    # Then the race did not drop it after that round, whatever the result of the recomputed test.
    return arm.open > 0 or max(rounds_of(arm)) > look


def _level(arms: int, seeds: int) -> float:
    """The level of each single test."""
    return MISTAKEN / (max(arms - 1, 1) * (seeds - FIRST_ROUNDS))


def _clearly_worse(left: Sequence[Arm], direction: Direction, look: int, level: float) -> list[int]:
    if len(left) < 2:
        return []
    rounds = range(1, look + 1)
    best = (max if direction == "maximize" else min)(left, key=lambda arm: mean_of(arm, rounds))
    rivals = [paired(best, arm, direction, rounds) for arm in left if arm is not best and not arm.baseline]
    return [pair.other for pair in rivals if _is_worse(pair, level)]


def _is_worse(pair: Pair, level: float) -> bool:
    return chance_of_no_less(pair.behind, pair.resolution) < level


def _done(arms: Sequence[Arm]) -> int:
    """The last round with a complete run."""
    return max((max(rounds_of(arm), default=0) for arm in arms), default=0)


def _decided(arms: Sequence[Arm]) -> int:
    """The last round that the race has judged: all its runs have ended, or runs of later rounds are queued."""
    done = _done(arms)
    waiting = [arm for arm in arms if arm.open]
    return done if not waiting or any(_has_all(arm, done) for arm in waiting) else done - 1


def _has_all(arm: Arm, last: int) -> bool:
    return rounds_of(arm) >= set(range(1, last + 1))
