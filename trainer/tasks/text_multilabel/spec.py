"""Text multi-label classification: a set of labels for each text. Imports no torch."""

from typing import Literal

from trainer.targets.labels.config import LabelHyperparameters, LabelInfo
from trainer.targets.labels.spec import LabelsSpec
from trainer.tasks.text.config import TextDatasetInfo, TextHyperparameters, TextTrainConfig
from trainer.tasks.text.spec import TextSpec


class TextMultilabelHyperparameters(TextHyperparameters, LabelHyperparameters):
    """Hyperparameters of text multi-label classification."""


class TextMultilabelConfig(TextMultilabelHyperparameters, TextTrainConfig):
    """The complete configuration of one run of text multi-label classification."""

    task: Literal["text_multilabel"] = "text_multilabel"


class TextMultilabelInfo(TextDatasetInfo, LabelInfo):
    """Facts about texts with a set of labels each, and about weights."""

    task: Literal["text_multilabel"] = "text_multilabel"


class TextMultilabel(LabelsSpec, TextSpec):
    """Texts with a set of labels each."""

    name = "text_multilabel"
    Hyperparameters = TextMultilabelHyperparameters


SPEC = TextMultilabel()
