"""Models of image regression: those of images, and those of numbers. Imports no torch."""

from typing import Literal

from trainer.targets.numbers.config import NumberHyperparameters, NumberInfo
from trainer.tasks.images.config import ImageDatasetInfo, ImageHyperparameters, ImageTableData, ImageTrainConfig

# The order of the bases is the order of the fields in JSON, from right to left.


class ImageRegressionHyperparameters(ImageHyperparameters, NumberHyperparameters):
    """Hyperparameters of image regression."""


class ImageRegressionConfig(ImageRegressionHyperparameters, ImageTrainConfig):
    """The complete configuration of one run of image regression."""

    task: Literal["image_regression"] = "image_regression"
    data: ImageTableData


class ImageRegressionInfo(ImageDatasetInfo, NumberInfo):
    """Facts about images with a number each, and about weights."""

    task: Literal["image_regression"] = "image_regression"
