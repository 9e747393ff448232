"""The installed tasks by name."""

import logging
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from trainer.configuration import ByTask
from trainer.tasks.base import Task, TaskSpec

ENTRY_POINTS = "thawline.tasks"
"""Entry points of this group name a package by the task's name; `spec.SPEC` in it is the half without torch, `task.TASK` the other."""
SHIPPED: Mapping[str, str] = {"image_classification": "trainer.tasks.image_classification"}
log = logging.getLogger(__name__)
RESULT_NAMES = frozenset(
    {
        "environment", "epochs", "evidence", "kind", "lane", "metrics", "pace", "peak_memory", "report", "reuse", "step", "test",
        "train_seconds", "trainable",
    }
)  # fmt: skip
"""Names that no field of a report may have: the report's fields are stored beside these in a result."""


@cache
def packages() -> Mapping[str, str]:
    """The package of each installed task, by the task's name."""
    return {**{one.name: one.value for one in entry_points(group=ENTRY_POINTS)}, **SHIPPED}


@cache
def spec_of(name: str) -> TaskSpec:
    """The half without torch.

    Raises KeyError for a task that is not installed, ValueError for one whose report has a field of RESULT_NAMES.
    """
    spec: TaskSpec = import_module(f"{packages()[name]}.spec").SPEC
    if taken := sorted(RESULT_NAMES & (spec.Report.model_fields.keys() | spec.TestReport.model_fields.keys())):
        raise ValueError(f"the report of task {name} has fields named like those of every result: {', '.join(taken)}; rename them")
    return spec


@cache
def specs() -> Mapping[str, TaskSpec]:
    """The halves without torch of all installed tasks, by name. A task that cannot be imported is logged and left out."""
    found = dict[str, TaskSpec]()
    for name, package in packages().items():
        try:
            found[name] = spec_of(name)
        except Exception:  # whatever another package raises when it is imported
            log.exception("the task %s of the package %s cannot be used; repair the package, or uninstall it", name, package)
    return found


@cache
def report_fields() -> frozenset[str]:
    """The names of the fields of all installed tasks' reports."""
    return frozenset[str]().union(*(spec.Report.model_fields for spec in specs().values()))


@cache
def example_fields() -> frozenset[str]:
    """The names of those fields of all installed tasks' test reports that hold a value of each example."""
    return frozenset[str]().union(*(spec.TestReport.model_fields for spec in specs().values())) - report_fields()


@cache
def task_of(name: str) -> Task:
    """The half that needs torch. Raises KeyError for a task that is not installed."""
    task: Task = import_module(f"{packages()[name]}.task").TASK
    return task


def _find(name: str) -> None:
    specs().get(name)  # the models of a task exist once it is imported


ByTask.find_task, ByTask.find_tasks = staticmethod(_find), staticmethod(specs)
