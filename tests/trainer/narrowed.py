"""What a run of image classification has, by its own types: the training loop knows those of any task."""

from trainer.configuration import DatasetInfo
from trainer.tasks.base import Examples
from trainer.tasks.image_classification.config import ImageClassificationInfo
from trainer.tasks.images.task import ImageInputs


def image_info(info: DatasetInfo) -> ImageClassificationInfo:
    assert isinstance(info, ImageClassificationInfo)
    return info


def image_inputs(examples: Examples) -> ImageInputs:
    assert isinstance(examples, ImageInputs)
    return examples
