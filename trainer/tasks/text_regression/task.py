"""The Task of text regression: texts, and a number for each."""

from trainer.targets.numbers.target import NumbersTarget
from trainer.tasks.text.task import TextTask
from trainer.tasks.text_regression.spec import SPEC


class TextRegressionTask(NumbersTarget, TextTask):
    """Texts with a number each."""


TASK = TextRegressionTask(SPEC)
