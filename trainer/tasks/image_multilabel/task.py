"""The Task of image multi-label classification: images, and a set of labels for each."""

from trainer.targets.labels.target import LabelsTarget
from trainer.tasks.image_multilabel.spec import SPEC
from trainer.tasks.images.task import ImageTask


class ImageMultilabelTask(LabelsTarget, ImageTask):
    """Images with a set of labels each."""


TASK = ImageMultilabelTask(SPEC)
