"""The TaskSpec of text regression. Imports no torch."""

from trainer.targets.numbers.spec import NumbersSpec
from trainer.tasks.text.spec import TextSpec
from trainer.tasks.text_regression.config import TextRegressionHyperparameters


class TextRegression(NumbersSpec, TextSpec):
    """Texts with a number each."""

    name = "text_regression"
    Hyperparameters = TextRegressionHyperparameters


SPEC = TextRegression()
