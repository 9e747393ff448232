"""Models of image multi-label classification: those of images, and those of labels. Imports no torch."""

from typing import Literal

from pydantic import Field

from trainer.targets.labels.config import LabelHyperparameters, LabelInfo
from trainer.tasks.images.config import ImageDatasetInfo, ImageHyperparameters, ImageTableData, ImageTrainConfig

# The order of the bases is the order of the fields in JSON, from right to left.


class ImageMultilabelData(ImageTableData):
    """Images with a set of labels each: a table (.csv, .tsv) of paths and label names joined by a separator."""

    label_separator: str = Field(
        default="|", min_length=1, max_length=10, description="between the names in the target column; an empty cell is the empty set"
    )


class ImageMultilabelHyperparameters(ImageHyperparameters, LabelHyperparameters):
    """Hyperparameters of image multi-label classification."""


class ImageMultilabelConfig(ImageMultilabelHyperparameters, ImageTrainConfig):
    """The complete configuration of one run of image multi-label classification."""

    task: Literal["image_multilabel"] = "image_multilabel"
    data: ImageMultilabelData


class ImageMultilabelInfo(ImageDatasetInfo, LabelInfo):
    """Facts about images with a set of labels each, and about weights."""

    task: Literal["image_multilabel"] = "image_multilabel"
