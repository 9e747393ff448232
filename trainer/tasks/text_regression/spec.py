"""Text regression: a number for each text. Imports no torch."""

from typing import Literal

from trainer.targets.numbers.config import NumberHyperparameters, NumberInfo
from trainer.targets.numbers.spec import NumbersSpec
from trainer.tasks.text.config import TextDatasetInfo, TextHyperparameters, TextTrainConfig
from trainer.tasks.text.spec import TextSpec


class TextRegressionHyperparameters(TextHyperparameters, NumberHyperparameters):
    """Hyperparameters of text regression."""


class TextRegressionConfig(TextRegressionHyperparameters, TextTrainConfig):
    """The complete configuration of one run of text regression."""

    task: Literal["text_regression"] = "text_regression"


class TextRegressionInfo(TextDatasetInfo, NumberInfo):
    """Facts about texts with a number each, and about weights."""

    task: Literal["text_regression"] = "text_regression"


class TextRegression(NumbersSpec, TextSpec):
    """Texts with a number each."""

    name = "text_regression"
    Hyperparameters = TextRegressionHyperparameters


SPEC = TextRegression()
