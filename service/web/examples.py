"""Request bodies for the OpenAPI document, with examples that are accepted as they stand."""

from collections.abc import Mapping
from typing import Any

from service.domain.parsing import MOST_QUEUED

STUDY: dict[str, Any] = {
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

STUDY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/StudySpec"}, "example": STUDY},
            "application/yaml": {"schema": {"type": "string"}, "example": STUDY_YAML},
        },
    }
}

ANY_STUDY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {}, "example": STUDY}, "application/yaml": {"schema": {}, "example": STUDY_YAML}},
    }
}
"""Whatever there is so far of a study."""


def _object_with(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object with this field and no other."""
    return {"type": "object", "required": [name], "properties": {name: schema}, "additionalProperties": False}


MANY = {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": MOST_QUEUED}

TRIAL_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_object_with("params", {"type": "object"}), _object_with("trials", MANY)]},
                "example": {"params": {"lr": 0.003, "batch_size": 32, "optimizer": "adam", "frozen_layers": 4}},
            }
        },
    }
}
