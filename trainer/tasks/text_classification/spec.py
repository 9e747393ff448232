"""The TaskSpec of text classification. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from trainer.targets.classes.spec import ClassesSpec
from trainer.tasks.text.spec import TextSpec, lines, stand_ins
from trainer.tasks.text_classification.config import TextClassificationHyperparameters


class TextClassification(TextSpec):
    """Texts with one label each, as `trainer.tasks.base.TaskSpec`."""

    name = "text_classification"
    target = ClassesSpec(TextSpec.example)
    Hyperparameters = TextClassificationHyperparameters
    stand_ins: Mapping[str, Any] = stand_ins("accuracy", "maximize")
    lines: Mapping[str, str] = lines(name, "accuracy", "maximize")


SPEC = TextClassification()
