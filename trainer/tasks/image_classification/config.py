"""Models of image classification: those of images, and those of classes. Imports no torch."""

from typing import Literal

from pydantic import Field

from trainer.targets.classes.config import ClassHyperparameters, ClassInfo
from trainer.tasks.images.config import ImageDatasetInfo, ImageHyperparameters, ImageTrainConfig

# The order of the bases is the order of the fields in JSON, from right to left.


class ImageClassificationHyperparameters(ImageHyperparameters, ClassHyperparameters):
    """Hyperparameters of image classification."""


class ImageClassificationConfig(ImageClassificationHyperparameters, ImageTrainConfig):
    """The complete configuration of one run of image classification."""

    task: Literal["image_classification"] = "image_classification"


class ImageClassificationInfo(ImageDatasetInfo, ClassInfo):
    """Facts about images with one label each, and about weights."""

    task: Literal["image_classification"] = Field(default="image_classification", exclude_if=lambda task: True)  # as in version 0.1
