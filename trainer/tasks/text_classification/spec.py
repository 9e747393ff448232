"""Text classification: one class for each text. Imports no torch."""

from typing import Literal

from trainer.targets.classes.config import ClassHyperparameters, ClassInfo
from trainer.targets.classes.spec import ClassesSpec
from trainer.tasks.text.config import TextDatasetInfo, TextHyperparameters, TextTrainConfig
from trainer.tasks.text.spec import TextSpec


class TextClassificationHyperparameters(TextHyperparameters, ClassHyperparameters):
    """Hyperparameters of text classification."""


class TextClassificationConfig(TextClassificationHyperparameters, TextTrainConfig):
    """The complete configuration of one run of text classification."""

    task: Literal["text_classification"] = "text_classification"


class TextClassificationInfo(TextDatasetInfo, ClassInfo):
    """Facts about texts with one label each, and about weights."""

    task: Literal["text_classification"] = "text_classification"


class TextClassification(ClassesSpec, TextSpec):
    """Texts with one label each."""

    name = "text_classification"
    Hyperparameters = TextClassificationHyperparameters


SPEC = TextClassification()
