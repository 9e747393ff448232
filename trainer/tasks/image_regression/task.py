"""The Task of image regression: images, and a number for each."""

from trainer.targets.numbers.target import NumbersTarget
from trainer.tasks.image_regression.spec import SPEC
from trainer.tasks.images.task import ImageTask


class ImageRegressionTask(NumbersTarget, ImageTask):
    """Images with a number each."""


TASK = ImageRegressionTask(SPEC)
