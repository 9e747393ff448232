"""The Task of text multi-label classification: texts, and a set of labels for each."""

from trainer.targets.labels.target import LabelsTarget
from trainer.tasks.base import Task
from trainer.tasks.text.task import TextTask
from trainer.tasks.text_multilabel.spec import SPEC

TASK: Task = TextTask(SPEC, LabelsTarget(SPEC.target))
