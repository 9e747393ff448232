"""The training script of an exported configuration, which its task makes."""

from service.domain.errors import NoScript
from service.domain.export import Exported
from trainer.tasks.base import ExportedRun, TrainingScript
from trainer.tasks.registry import spec_of


def script(exported: Exported) -> str:
    """A Python file that trains this configuration without Thawline. Raises NoScript for a task that makes none."""
    task = spec_of(exported.config.task)
    if not isinstance(task, TrainingScript):
        raise NoScript(task.name)
    confirmed = exported.confirmed
    single_run = confirmed.single_run if confirmed is not None else None
    return task.script(
        ExportedRun(
            config=exported.config,
            info=exported.facts,
            study=exported.origin.study_name,
            trial=exported.origin.trial,
            metric=exported.reached.objective.metric,
            reached=exported.reached.value,
            expected=confirmed.expected.value if confirmed is not None else None,
            single_run=(single_run.low, single_run.high) if single_run is not None else None,
            environment=exported.environment,
            lock=exported.lock,
            manifest=exported.manifest,
        )
    )
