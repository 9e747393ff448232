"""An exported configuration: its requirements, and its script, without Thawline where the task can write one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any

from pydantic import BaseModel

from service.domain.errors import NoResult, NoScript
from service.domain.export import LOCKED, Confirmed, Exported, NoSummary, Origin, Point, Reached, lock_of
from service.domain.records import ReportedMetric, Study, Trial, depths_in
from service.domain.states import Phase, TrialState
from service.domain.verdict import Price, Verdict
from trainer.configuration import DatasetInfo, RunConfig, TrainConfig
from trainer.tasks.base import TaskSpec
from trainer.tasks.capabilities import ExportedRun, ExternalRunner, ReportSummary, ResolvesConfig, TrainingScript
from trainer.tasks.registry import spec_of

MOST_POINTS = 64


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> list[int]:
    """The indices, in ascending order, of at most `most` values; `most` is 4 or more.

    These are the first, the last, and the smallest and largest of equal parts between them, so the smallest and largest of all values
    are included. All indices if there are at most `most` values.
    """
    count = len(values)
    if count <= most:
        return list(range(count))
    parts = (most - 2) // 2
    borders = [1 + part * (count - 2) // parts for part in range(parts + 1)]
    places = [0]
    for first, end in pairwise(borders):
        part = values[first:end]
        low, high = first + part.index(min(part)), first + part.index(max(part))
        places += (low,) if low == high else (low, high) if low < high else (high, low)
    places.append(count - 1)
    return places


def note_of(phase: Phase, verdict: Verdict | None, tries: int, task: TaskSpec, *, has_test: bool = False) -> str:
    """The sentence at the top of an exported file.

    `verdict` recommends its configuration, if there is one; `tries` is the number of complete trials of the search; `has_test`: the data
    has, or may have, a test part.
    """
    external = isinstance(task, ExternalRunner)
    if verdict is not None and verdict.expected is not None:
        if external:
            return "Confirmed: run again with fresh seeds. The script chooses the data that these runs are scored on."
        examples = f"{verdict.test_images} test {task.example}s that no trial of the search has seen"
        return f"Confirmed: trained again with fresh seeds, and scored on {examples}."
    why = _why_not(phase, None if external else task.example, has_test)
    return f"{why} The value is the best of {tries} {'try' if tries == 1 else 'tries'} and looks better than it is."


def _why_not(phase: Phase, example: str | None, has_test: bool) -> str:
    match phase:
        case "none" if example is None:
            return "Not confirmed: this study confirms nothing; set confirm, say to {top: 3, seeds: 5}, and a baseline."
        case "none" if has_test:
            return "Not confirmed: this study confirms nothing; set confirm, say to {top: 3, seeds: 5}."
        case "none":
            return (
                "Not confirmed: this study confirms nothing; set confirm, say to {top: 3, seeds: 5}, and data.test, or data.split: given "
                "if the data has a test part of its own."
            )
        case "search":
            return "Not confirmed yet: the search is under way; its best and the baseline are then trained again with fresh seeds."
        case "running":
            scored = "" if example is None else f" and scored on the test {example}s"
            return f"Not confirmed yet: the best and the baseline are being trained again with fresh seeds{scored}."
        case "stopped":
            return "Not confirmed: the study ended before its confirmation did."
        case "done":
            return "Not confirmed: none of the configurations came through its confirmation."


NEEDED = tuple(name for name in LOCKED if name != "thawline")


def requirements(exported: Exported) -> str:
    """A requirements file with the packages of the trial's environment, pinned. Thawline itself is listed in a comment.

    Raises NoModel.
    """
    python, thawline = exported.environment.get("python"), exported.lock.get("thawline")
    title = f"{exported.training.model.name} as trial {exported.origin.trial} of its study trained it" + (
        f", with Python {_safe_version(python)}" if python else ""
    )
    lines = [f"# {title}."] + [f"{name}=={_safe_version(exported.lock[name])}" for name in NEEDED if name in exported.lock]
    if exported.facts.listing is not None and exported.facts.listing.heic:
        lines.append("pillow-heif")
    if thawline:
        lines.append(f"# thawline=={_safe_version(thawline)}: for `thaw train`, `thaw verify` and scripts that import it")
    return "\n".join(lines) + "\n"


def _safe_version(text: str) -> str:
    """A version without characters that have a meaning in a requirements file. The exported file is not trusted."""
    return "".join(character for character in text if character.isascii() and (character.isalnum() or character in ".-_!"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Data about an exported trial beyond its own row."""

    note: str
    verdict: Verdict | None = None  # if it recommends the trial
    repeats: Sequence[Trial] = ()  # the trials of the study's confirmation
    metrics: Sequence[ReportedMetric] = ()  # all reported metrics of the trial, by step
    manifest: str | None = None


def export(study: Study, trial: Trial, known: Known) -> Exported:
    """Export the configuration of a complete trial. For a duplicate, this is the configuration of its original.

    Raises NoResult if the trial has no finite value or the data was never checked.
    """
    if trial.value is None:
        raise NoResult
    if study.facts is None:
        raise NoResult("No worker has checked the study's data, so no configuration can be exported; start `thaw worker`.")
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


def _resolved(config: RunConfig, facts: DatasetInfo) -> RunConfig:
    """The config, completed with the facts about data and weights that a run determined."""
    task = spec_of(config.task)
    return task.resolved(config, facts) if isinstance(task, ResolvesConfig) and isinstance(config, TrainConfig) else config


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _confirmed(study: Study, trial: Trial, known: Known) -> Confirmed | None:
    """The confirmed result; None unless the verdict recommends the trial."""
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


def _curve(metrics: Sequence[ReportedMetric], objective: str) -> tuple[Point, ...]:
    """The metrics of the epochs with a finite objective, thinned to MOST_POINTS."""
    points = [
        Point(step=step, metrics=_finite({one.name: one.value for one in group})) for step, group in groupby(metrics, attrgetter("step"))
    ]
    finite = [point for point in points if objective in point.metrics]
    return tuple(finite[place] for place in thinned([point.metrics[objective] for point in finite]))


def _summary(study: Study, reports: Sequence[Mapping[str, Any]]) -> BaseModel:
    """The task's summary of the reports; empty for a task without summaries."""
    task = spec_of(study.spec.task)
    if not isinstance(task, ReportSummary) or study.facts is None:
        return NoSummary()
    return task.summary(study.facts, reports)


WITH_THAWLINE = '''\
"""Trains trial {trial} of a Thawline study again, as `thaw train` does. Needs the package thawline with its extra `trainer`.

    python train.py --out trained

A script of torch alone would not train the same: {obstacle}.
"""

import sys
import tempfile
from pathlib import Path

from service.cli import main

EXPORTED = {exported}

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "best.json").write_text(EXPORTED, encoding="utf-8")
    main(["train", str(Path(folder, "best.json")), *sys.argv[1:]])
'''


def script(exported: Exported) -> str:
    """A Python file that trains this configuration. Raises NoScript for a task without scripts.

    Text from users is in it as literals only.
    """
    task = spec_of(exported.config.task)
    if not isinstance(task, TrainingScript):
        raise NoScript(task.name)
    if (reason := task.script_obstacle(run_of(exported))) is None:
        return task.script(run_of(exported))
    return WITH_THAWLINE.format(trial=exported.origin.trial, obstacle=reason, exported=ascii(exported.model_dump_json()))


def obstacle(exported: Exported) -> str | None:
    """The reason, as a clause, why the script needs Thawline; None if it does not."""
    task = spec_of(exported.config.task)
    return task.script_obstacle(run_of(exported)) if isinstance(task, TrainingScript) else None


def run_of(exported: Exported) -> ExportedRun[Any, Any]:
    """The input of the task's script."""
    confirmed = exported.confirmed
    single_run = confirmed.single_run if confirmed is not None else None
    return ExportedRun(
        config=exported.config,
        info=exported.facts,
        study=exported.origin.study_name,
        trial=exported.origin.trial,
        metric=exported.reached.objective.metric,
        reached=exported.reached.value,
        single_run=(single_run.low, single_run.high) if single_run is not None else None,
        environment=exported.environment,
        manifest=exported.manifest,
    )
