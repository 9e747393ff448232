"""The TaskSpec of text multi-label classification. Imports no torch."""

from trainer.targets.labels.spec import LabelsSpec
from trainer.tasks.text.spec import TextSpec
from trainer.tasks.text_multilabel.config import TextMultilabelHyperparameters


class TextMultilabel(LabelsSpec, TextSpec):
    """Texts with a set of labels each."""

    name = "text_multilabel"
    Hyperparameters = TextMultilabelHyperparameters


SPEC = TextMultilabel()
