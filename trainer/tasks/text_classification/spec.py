"""The TaskSpec of text classification. Imports no torch."""

from trainer.targets.classes.spec import ClassesSpec
from trainer.tasks.text.spec import TextSpec
from trainer.tasks.text_classification.config import TextClassificationHyperparameters


class TextClassification(ClassesSpec, TextSpec):
    """Texts with one label each."""

    name = "text_classification"
    Hyperparameters = TextClassificationHyperparameters


SPEC = TextClassification()
