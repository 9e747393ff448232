"""The TaskSpec of image regression. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from trainer.targets.numbers.spec import NumbersSpec
from trainer.tasks.image_regression.config import ImageRegressionHyperparameters
from trainer.tasks.images.spec import ImageSpec

STUDY: Mapping[str, Any] = {
    "name": "blood-cells",
    "task": "image_regression",
    "data": {"path": "data/bccd/counts.csv", "validation": 0.2, "test": 0.2},
    "model": {"name": "mobilenet_v2", "weights": "DEFAULT"},
    "search_space": {
        "lr": {"type": "float", "low": 1.0e-5, "high": 0.01, "log": True},
        "loss": {"type": "categorical", "choices": ["mse", "l1", "huber"]},
        "huber_delta": {"type": "float", "low": 0.2, "high": 2.0, "log": True, "when": {"loss": ["huber"]}},
        "frozen_layers": {"type": "int", "low": 0},
    },
    "fixed": {"epochs": 12, "image_size": 224},
    "objective": {"metric": "rmse", "direction": "minimize"},
    "sampler": {"name": "tpe", "seed": 0},
    "budget": {"trials": 30},
}
STUDY_YAML = """\
name: blood-cells
task: image_regression
data: {path: data/bccd/counts.csv, validation: 0.2, test: 0.2}
model: {name: mobilenet_v2}
preset: image_regression
objective: {metric: rmse, direction: minimize}
budget: {trials: 30}
"""


class ImageRegression(NumbersSpec, ImageSpec):
    """Images with a number each."""

    name = "image_regression"
    Hyperparameters = ImageRegressionHyperparameters
    example_study = STUDY
    example_study_yaml = STUDY_YAML


SPEC = ImageRegression()
