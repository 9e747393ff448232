"""Request bodies for the OpenAPI document, with examples that are accepted as they stand."""

from collections.abc import Mapping
from typing import Any

from service.domain.parsing import MOST_QUEUED
from trainer.configuration import FIRST_TASK
from trainer.tasks.base import ExampleStudy
from trainer.tasks.registry import spec_of

_TASK = spec_of(FIRST_TASK)
STUDY: Mapping[str, Any] = _TASK.example_study if isinstance(_TASK, ExampleStudy) else {}
STUDY_YAML = _TASK.example_study_yaml if isinstance(_TASK, ExampleStudy) else ""

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

BUDGET_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_object_with("budget", {"type": "object"}), _object_with("add", {"type": "object"})]},
                "examples": {"set": {"value": {"budget": {"trials": 60}}}, "add": {"value": {"add": {"trials": 20}}}},
            }
        },
    }
}
