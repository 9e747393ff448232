"""What the confirmation compares: configurations, each with its runs on fresh seeds."""

import base64
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import Scalar
from service.domain.records import Confirmation, Trial
from service.domain.spec import StudySpec
from service.domain.states import TrialState
from trainer.contract import Scores

LARGEST = 1e30  # a loss beyond it says no more than that the run diverged


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What a run said of each test image: images by their true class, within it by content."""

    actual: NDArray[np.int64]  # true class, shape (N,)
    predicted: NDArray[np.int64]  # shape (N,)
    losses: NDArray[np.float64]  # cross entropy, nats, shape (N,)
    classes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A configuration trained once more: its round, and what it reached by the study's objective."""

    trial: int
    round: int
    test: float
    validation: float
    images: Images | None  # None where there were too many to tell of each
    resolution: float = 0.0  # the step between two possible scores, one test image; 0 for the loss


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


def arms_of(spec: StudySpec, confirmation: Confirmation, searched: Iterable[Trial], repeats: Iterable[Trial]) -> list[Arm]:
    """The arms in the order in which the search ranked them. `searched` are their trials of the search, in any order.

    A repeat that was cancelled counts as if it had never been.
    """
    known = {trial.number: trial for trial in searched}
    trained = [one for one in repeats if one.state is not TrialState.CANCELLED]
    return [
        _arm(spec, known[number], number == confirmation.baseline, [one for one in trained if one.confirms == number])
        for number in confirmation.arms
    ]


def _arm(spec: StudySpec, trial: Trial, baseline: bool, repeats: Collection[Trial]) -> Arm:
    complete = [repeat for one in sorted(repeats, key=_round) if (repeat := _repeat(spec, one)) is not None]
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


def _repeat(spec: StudySpec, trial: Trial) -> Repeat | None:
    """None for a trial without a score on the test images, or with one that cannot be."""
    told = trial.result.get("test")
    if trial.state is not TrialState.COMPLETE or trial.value is None or told is None:
        return None
    scores = Scores.model_validate(told)
    metric, images = spec.objective.metric, sum(map(sum, scores.confusion_matrix))
    value, most = scores.metrics.get(metric), LARGEST if metric == "loss" else 1.0
    if value is None or not (0 <= value <= most and 0 <= trial.value <= most):
        return None
    return Repeat(
        trial=trial.number,
        round=_round(trial),
        test=value,
        validation=trial.value,
        images=images_in(scores),
        resolution=0.0 if metric == "loss" or images == 0 else 1 / images,
    )


def images_in(scores: Scores) -> Images | None:
    """What the scores tell of each image."""
    if scores.predicted is None or scores.losses is None:
        return None
    counts = np.array(scores.confusion_matrix, dtype=np.int64).sum(axis=1)
    return Images(
        actual=np.repeat(np.arange(len(counts)), counts),
        predicted=np.frombuffer(base64.b64decode(scores.predicted), dtype="<u2").astype(np.int64),
        losses=np.frombuffer(base64.b64decode(scores.losses), dtype="<f2").astype(np.float64),
        classes=len(counts),
    )


def _failure(trial: Trial) -> str:
    why = trial.detail or trial.reason or "it has no score on the test images"
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
