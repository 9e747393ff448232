"""The Task of image multi-label classification: images, and a set of labels for each."""

from trainer.targets.labels.target import LabelsTarget
from trainer.tasks.base import Task
from trainer.tasks.image_multilabel.spec import SPEC
from trainer.tasks.images.task import ImageTask

TASK: Task = ImageTask(SPEC, LabelsTarget(SPEC.target))
