"""The TaskSpec of image classification. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from trainer.targets.classes.spec import ClassesSpec
from trainer.tasks.capabilities import ExportedRun
from trainer.tasks.image_classification.config import ImageClassificationHyperparameters
from trainer.tasks.image_classification.script import obstacle, script
from trainer.tasks.images.spec import ImageSpec

STUDY: Mapping[str, Any] = {
    "name": "sign-digits",
    "data": {"path": "data/sign-digits", "validation": 0.2, "test": 0.2},
    "model": {"name": "squeezenet1_1", "weights": "weights/squeezenet1_1.safetensors"},
    "search_space": {
        "lr": {"type": "float", "low": 1.0e-5, "high": 0.1, "log": True},
        "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
        "frozen_layers": {"type": "int", "low": 0, "high": 9},
        "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
    },
    "fixed": {"epochs": 8, "image_size": 64},
    "objective": {"metric": "accuracy", "direction": "maximize"},
    "sampler": {"name": "tpe", "seed": 0},
    "pruner": {"name": "asha", "min_steps": 1, "reduction_factor": 3},
    "budget": {"trials": 40, "hours": 2},
}
STUDY_YAML = """\
name: sign-digits
data: {path: data/sign-digits, validation: 0.2, test: 0.2}
model: {name: squeezenet1_1, weights: weights/squeezenet1_1.safetensors}
preset: image_classification
fixed: {epochs: 8, image_size: 64}
objective: {metric: accuracy, direction: maximize}
budget: {trials: 40}
"""

PREPARING = "Writing the digits as images, and pretraining a small network on half of them ..."
HALF = (0.5, 0.5, 0.5)  # mean and deviation of the pretraining


def demo(data: str, weights: str, model: str) -> Mapping[str, Any]:
    """The demo's study of handwritten digits, without name and budget. Trial 0 is the default configuration, as the baseline."""
    return {
        "data": {"path": data, "validation": 0.5},
        "model": {"name": model, "weights": weights, "mean": HALF, "std": HALF},
        "search_space": {
            "lr": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
            "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
            "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
            "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
            "frozen_layers": {"type": "int", "low": 0},
        },
        "fixed": {"epochs": 8, "image_size": 16},
        "baseline": {"lr": 1e-3, "batch_size": 32, "optimizer": "adamw", "frozen_layers": 0},
        "objective": {"metric": "accuracy", "direction": "maximize"},
    }


class ImageClassification(ClassesSpec, ImageSpec):
    """Images with one label each."""

    name = "image_classification"
    Hyperparameters = ImageClassificationHyperparameters
    script_needs = "torch and torchvision"
    example_study = STUDY
    example_study_yaml = STUDY_YAML
    demo_preparing = PREPARING

    def demo(self, data: str, weights: str, model: str) -> Mapping[str, Any]:
        """A study of the digits that ship with scikit-learn."""
        return demo(data, weights, model)

    def script_obstacle(self, run: ExportedRun[Any, Any]) -> str | None:
        """See `script.obstacle`."""
        return obstacle(run)

    def script(self, run: ExportedRun[Any, Any]) -> str:
        """The training script, which needs only torch and torchvision."""
        return script(run)


SPEC = ImageClassification()
