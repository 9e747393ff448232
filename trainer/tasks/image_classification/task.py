"""The Task of image classification: images, and one class for each."""

from trainer.targets.classes.target import ClassesTarget
from trainer.tasks.image_classification.spec import SPEC
from trainer.tasks.images.task import ImageTask


class ImageClassificationTask(ClassesTarget, ImageTask):
    """Images with one label each."""


TASK = ImageClassificationTask(SPEC)
