"""The Task of text classification: texts, and one class for each."""

from trainer.targets.classes.target import ClassesTarget
from trainer.tasks.text.task import TextTask
from trainer.tasks.text_classification.spec import SPEC


class TextClassificationTask(ClassesTarget, TextTask):
    """Texts with one label each."""


TASK = TextClassificationTask(SPEC)
