"""The TaskSpec of image multi-label classification. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from trainer.targets.labels.spec import LabelsSpec
from trainer.tasks.image_multilabel.config import ImageMultilabelHyperparameters
from trainer.tasks.images.spec import ImageSpec

STUDY: Mapping[str, Any] = {
    "name": "scenes",
    "task": "image_multilabel",
    "data": {"path": "data/scenes/labels.csv", "columns": {"target": "labels"}, "validation": 0.2, "test": 0.2},
    "model": {"name": "mobilenet_v2", "weights": "DEFAULT"},
    "search_space": {
        "lr": {"type": "float", "low": 1.0e-5, "high": 0.01, "log": True},
        "pos_weight": {"type": "categorical", "choices": ["none", "balanced"]},
        "frozen_layers": {"type": "int", "low": 0},
    },
    "fixed": {"epochs": 12, "image_size": 224},
    "objective": {"metric": "f1", "direction": "maximize"},
    "sampler": {"name": "tpe", "seed": 0},
    "budget": {"trials": 30},
}
STUDY_YAML = """\
name: scenes
task: image_multilabel
data: {path: data/scenes/labels.csv, columns: {target: labels}, validation: 0.2, test: 0.2}
model: {name: mobilenet_v2}
preset: image_multilabel
objective: {metric: f1, direction: maximize}
budget: {trials: 30}
"""


class ImageMultilabel(LabelsSpec, ImageSpec):
    """Images with a set of labels each."""

    name = "image_multilabel"
    Hyperparameters = ImageMultilabelHyperparameters
    example_study = STUDY
    example_study_yaml = STUDY_YAML


SPEC = ImageMultilabel()
