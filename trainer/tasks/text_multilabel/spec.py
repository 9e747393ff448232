"""The TaskSpec of text multi-label classification. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from trainer.targets.labels.spec import LabelsSpec
from trainer.tasks.text.spec import TextSpec, lines, stand_ins
from trainer.tasks.text_multilabel.config import TextMultilabelHyperparameters


class TextMultilabel(TextSpec):
    """Texts with a set of labels each, as `trainer.tasks.base.TaskSpec`."""

    name = "text_multilabel"
    target = LabelsSpec(TextSpec.example)
    Hyperparameters = TextMultilabelHyperparameters
    stand_ins: Mapping[str, Any] = stand_ins("f1", "maximize")
    lines: Mapping[str, str] = lines(name, "f1", "maximize")


SPEC = TextMultilabel()
