"""The Task of image regression: images, and a number for each."""

from trainer.targets.numbers.target import NumbersTarget
from trainer.tasks.base import Task
from trainer.tasks.image_regression.spec import SPEC
from trainer.tasks.images.task import ImageTask

TASK: Task = ImageTask(SPEC, NumbersTarget(SPEC.target))
