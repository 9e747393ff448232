"""The installed tasks by name."""

import logging
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from trainer.by_task import ByTask
from trainer.tasks.base import Task, TaskSpec

ENTRY_POINTS = "thawline.tasks"
"""Entry point group: task name to package. The package contains `spec.SPEC`, a TaskSpec, and `task.TASK`, a Task."""
SHIPPED: Mapping[str, str] = {
    "image_classification": "trainer.tasks.image_classification",
    "image_regression": "trainer.tasks.image_regression",
    "image_multilabel": "trainer.tasks.image_multilabel",
    "text_classification": "trainer.tasks.text_classification",
    "text_regression": "trainer.tasks.text_regression",
    "text_multilabel": "trainer.tasks.text_multilabel",
    "script": "trainer.tasks.script",
}
log = logging.getLogger(__name__)
RESULT_NAMES = frozenset(
    {
        "curve", "device_memory", "environment", "epochs", "evidence", "kind", "lane", "metrics", "pace", "peak_memory", "report", "reuse",
        "step", "test", "train_seconds", "trainable",
    }
)  # fmt: skip
"""Names that no field of a report may have: results store the report's fields beside these fields."""


@cache
def packages() -> Mapping[str, str]:
    """The package of each installed task, by the task's name."""
    return {**{one.name: one.value for one in entry_points(group=ENTRY_POINTS)}, **SHIPPED}


@cache
def spec_of(name: str) -> TaskSpec:
    """The TaskSpec of a task.

    Raises KeyError for a task that is not installed, and ValueError for a task whose report has a field in RESULT_NAMES.
    """
    spec: TaskSpec = import_module(f"{packages()[name]}.spec").SPEC
    if taken := sorted(RESULT_NAMES & (spec.Report.model_fields.keys() | spec.TestReport.model_fields.keys())):
        raise ValueError(f"the report of task {name} has fields named like those of every result: {', '.join(taken)}; rename them")
    return spec


@cache
def specs() -> Mapping[str, TaskSpec]:
    """The TaskSpecs of all installed tasks, by name. A task that cannot be imported is logged and left out."""
    found = dict[str, TaskSpec]()
    for name, package in packages().items():
        try:
            found[name] = spec_of(name)
        except Exception:  # an import of a foreign package may raise any exception
            log.exception("the task %s of the package %s cannot be used; repair the package, or uninstall it", name, package)
    return found


@cache
def report_fields() -> frozenset[str]:
    """The field names of the reports of all installed tasks."""
    return frozenset[str]().union(*(spec.Report.model_fields for spec in specs().values()))


@cache
def example_fields() -> frozenset[str]:
    """The field names of all installed tasks' test reports that contain a value for each example."""
    return frozenset[str]().union(*(spec.TestReport.model_fields for spec in specs().values())) - report_fields()


@cache
def task_of(name: str) -> Task:
    """The Task of a task; imports torch. Raises KeyError for a task that is not installed."""
    task: Task = import_module(f"{packages()[name]}.task").TASK
    return task


def _find(name: str) -> None:
    specs().get(name)  # importing a task defines its models


ByTask.find_task, ByTask.find_tasks = staticmethod(_find), staticmethod(specs)
