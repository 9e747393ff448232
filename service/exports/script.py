"""The script of an exported configuration: without Thawline where the task can write one, else one that runs `thaw train`."""

from typing import Any

from service.domain.errors import NoScript
from service.domain.export import Exported
from trainer.tasks.capabilities import ExportedRun, TrainingScript
from trainer.tasks.registry import spec_of

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
