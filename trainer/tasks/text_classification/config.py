"""Models of text classification: those of texts, and those of classes. Imports no torch."""

from typing import Literal

from trainer.targets.classes.config import ClassHyperparameters, ClassInfo
from trainer.tasks.text.config import TextDatasetInfo, TextHyperparameters, TextTrainConfig


class TextClassificationHyperparameters(TextHyperparameters, ClassHyperparameters):
    """Hyperparameters of text classification."""


class TextClassificationConfig(TextClassificationHyperparameters, TextTrainConfig):
    """The complete configuration of one run of text classification."""

    task: Literal["text_classification"] = "text_classification"


class TextClassificationInfo(TextDatasetInfo, ClassInfo):
    """Facts about texts with one label each, and about weights."""

    task: Literal["text_classification"] = "text_classification"
