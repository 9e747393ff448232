"""What the confirmation compares: configurations, each with its runs on fresh seeds."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from search_spaces import Scalar
from service.domain.records import Confirmation, Trial
from service.domain.spec import StudySpec
from service.domain.states import TrialState
from trainer.tasks.base import ExampleScores, PerExample
from trainer.tasks.registry import spec_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A configuration trained once more: its round, and what it reached by the study's objective."""

    trial: int
    round: int
    test: float
    validation: float
    examples: ExampleScores | None  # its test examples; None where their scores were not kept
    resolution: float = 0.0  # the step between two possible values of the objective; 0 for a continuous metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a configuration costs: the median over its runs."""

    trainable: int  # parameters
    train_seconds: float  # of a run; of one that shared its pass with others, its share of it
    peak_memory: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A configuration under comparison."""

    trial: int  # of the search
    baseline: bool
    params: Mapping[str, Scalar]
    searched: float | None  # the validation value that the search saw
    repeats: tuple[Repeat, ...]  # those that are complete, by round
    open: int  # repeats that have not ended
    failed: str | None  # why a repeat has no result, in a sentence; such an arm is out
    cost: Cost | None


def arms_of(
    spec: StudySpec, confirmation: Confirmation, searched: Iterable[Trial], repeats: Iterable[Trial], test_examples: int = 0
) -> list[Arm]:
    """The arms in the order in which the search ranked them. `searched` are their trials of the search, in any order.

    `test_examples` is the number of examples of a run that did not keep their scores. A repeat that was cancelled counts as if it had
    never been.
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
    """None for a trial without a score on the test examples, or with one that cannot be."""
    told = trial.result.get("test")
    if trial.state is not TrialState.COMPLETE or trial.value is None or told is None:
        return None
    task, name = spec_of(spec.task), spec.objective.metric
    metric, value = task.metrics[name], told["metrics"].get(name)
    if value is None or not (metric.holds(value) and metric.holds(trial.value)):
        return None
    report = {key: item for key, item in told.items() if key != "metrics"}
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
