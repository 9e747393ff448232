"""The Task of text classification: texts, and one class for each."""

from trainer.targets.classes.target import ClassesTarget
from trainer.tasks.base import Task
from trainer.tasks.text.task import TextTask
from trainer.tasks.text_classification.spec import SPEC

TASK: Task = TextTask(SPEC, ClassesTarget(SPEC.target))
