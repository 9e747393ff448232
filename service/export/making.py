"""From a study's records to the file that is exported."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from pydantic import BaseModel

from service.domain.errors import NoResult
from service.domain.export import Confirmed, Exported, NoSummary, Origin, Point, Reached, lock_of
from service.domain.records import Metric, Study, Trial, depths_in
from service.domain.states import TrialState
from service.domain.thinning import thinned
from service.domain.verdict import Price, Verdict
from trainer.configuration import DatasetInfo, TrainConfig
from trainer.tasks.base import ReportSummary, ResolvesConfig
from trainer.tasks.registry import spec_of


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
        config=_resolved(study.spec.config_for(trial.params, number), study.facts),
        facts=study.facts,
        environment=environment,
        lock=lock_of(environment),
        depths=depths_in(trial.result),
        cost=_cost(trial.result),
        curve=_curve(known.metrics, study.spec.objective.metric),
        summary=_summary(study, [trial.result]),
        manifest=known.manifest,
    )


def _resolved(config: TrainConfig, facts: DatasetInfo) -> TrainConfig:
    """The config with that which a run found of data and weights."""
    task = spec_of(config.task)
    return task.resolved(config, facts) if isinstance(task, ResolvesConfig) else config


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
        summary=_summary(study, [one.result["test"] for one in own]),
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


def _summary(study: Study, reports: Sequence[Mapping[str, Any]]) -> BaseModel:
    """The task's summary of reports of runs."""
    task = spec_of(study.spec.task)
    if not isinstance(task, ReportSummary) or study.facts is None:
        return NoSummary()
    return task.summary(study.facts, reports)
