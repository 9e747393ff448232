"""From a study's records to the file that is exported."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import NoResult
from service.domain.export import ByClass, Confirmed, Exported, Mistake, Origin, Point, Reached, lock_of
from service.domain.records import Metric, Study, Trial, depths_in
from service.domain.states import TrialState
from service.domain.thinning import thinned
from service.domain.verdict import Price, Verdict

MOST_CLASSES = 100  # whose confusion matrix is written out
MOST_MISTAKES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of an exported trial besides its record."""

    note: str
    verdict: Verdict | None = None  # the one that recommends it
    repeats: Sequence[Trial] = ()  # the trials of the study's confirmation
    metrics: Sequence[Metric] = ()  # all that the trial reported, by step
    manifest: str | None = None


def export(study: Study, trial: Trial, known: Known) -> Exported:
    """The configuration of a complete trial. A duplicate's is that of the trial that was trained.

    Raises NoResult when the trial has no finite value or the data was never checked.
    """
    if trial.value is None or study.facts is None:
        raise NoResult
    number = trial.number if trial.duplicate_of is None else trial.duplicate_of
    environment = dict(trial.result.get("environment", {}))
    return Exported(
        note=known.note,
        confirmed=_confirmed(study, trial, known),
        origin=Origin(study=study.id, study_name=study.name, trial=number, params=dict(trial.params)),
        reached=Reached(objective=study.spec.objective, value=trial.value, metrics=_finite(trial.metrics), steps=trial.step),
        config=study.spec.config_for(trial.params, number),
        facts=study.facts,
        environment=environment,
        lock=lock_of(environment),
        depths=depths_in(trial.result),
        cost=_cost(trial.result),
        curve=_curve(known.metrics, study.spec.objective.metric),
        by_class=_of_one(study.facts.classes, trial.result),
        manifest=known.manifest,
    )


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _confirmed(study: Study, trial: Trial, known: Known) -> Confirmed | None:
    """None unless a verdict recommends the trial."""
    verdict = known.verdict
    if verdict is None or verdict.expected is None or verdict.recommended != trial.number:
        return None
    own = [one for one in known.repeats if one.confirms == trial.number and one.state is TrialState.COMPLETE and "test" in one.result]
    return Confirmed(
        seeds=len(own),
        run_seeds=tuple(study.spec.seeds_of(one.round)["seed"] for one in own if one.round is not None),
        by_class=_by_class(study.facts.classes if study.facts else (), [one.result["test"]["confusion_matrix"] for one in own]),
        **{name: getattr(verdict, name) for name in Confirmed.model_fields.keys() & Verdict.model_fields.keys() - {"seeds"}},
    )


def _cost(result: Mapping[str, Any]) -> Price | None:
    if not {"trainable", "train_seconds", "peak_memory"} <= result.keys():
        return None
    return Price(trainable=result["trainable"], train_seconds=result["train_seconds"], peak_memory=result["peak_memory"])


def _curve(metrics: Sequence[Metric], objective: str) -> tuple[Point, ...]:
    """The epochs in which the objective was finite, thinned."""
    points = [
        Point(step=step, metrics=_finite({one.name: one.value for one in group})) for step, group in groupby(metrics, attrgetter("step"))
    ]
    told = [point for point in points if objective in point.metrics]
    return tuple(told[place] for place in thinned([point.metrics[objective] for point in told]))


def _of_one(classes: Sequence[str], result: Mapping[str, Any]) -> ByClass | None:
    return _by_class(classes, [result["confusion_matrix"]] if result.get("confusion_matrix") else [])


def _by_class(classes: Sequence[str], matrices: Sequence[Any]) -> ByClass | None:
    """The sum of confusion matrices [C, C] of runs; None where there are none of these classes, as an imported study's may be."""
    fitting = [np.asarray(matrix, dtype=np.int64) for matrix in matrices if len(matrix) == len(classes)]
    if not fitting:
        return None
    total: NDArray[np.int64] = np.sum(fitting, axis=0)
    recall = total.diagonal() / np.maximum(total.sum(axis=1), 1)
    return ByClass(
        recall=dict(zip(classes, recall.tolist(), strict=True)),
        confusion_matrix=tuple(map(tuple, total.tolist())) if len(classes) <= MOST_CLASSES else None,
        mistakes=_mistakes(classes, total),
    )


def _mistakes(classes: Sequence[str], total: NDArray[np.int64]) -> tuple[Mistake, ...]:
    wrong = total.copy()
    np.fill_diagonal(wrong, 0)
    flat = np.argsort(-wrong, axis=None, kind="stable")[:MOST_MISTAKES]
    places = [divmod(int(place), len(classes)) for place in flat if wrong.flat[place] > 0]
    return tuple(Mistake(actual=classes[row], predicted=classes[column], images=int(wrong[row, column])) for row, column in places)
