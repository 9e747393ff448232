"""The Task of text multi-label classification: texts, and a set of labels for each."""

from trainer.targets.labels.target import LabelsTarget
from trainer.tasks.text.task import TextTask
from trainer.tasks.text_multilabel.spec import SPEC


class TextMultilabelTask(LabelsTarget, TextTask):
    """Texts with a set of labels each."""


TASK = TextMultilabelTask(SPEC)
