"""JSON Schema of study files for editors. It describes files as written, before presets are expanded and defaults filled in."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from search_spaces import presets
from service.domain.errors import InvalidInput
from service.domain.fault_messages import unknown_task
from service.domain.spec import NOT_SEARCHED, StudySpec
from trainer.tasks.base import TaskSpec
from trainer.tasks.capabilities import ExternalRunner
from trainer.tasks.registry import spec_of, specs

Schema = dict[str, Any]
DESCRIPTIONS: Mapping[str, str] = {
    "name": "Unique on the server; no slash, and no space at its ends.",
    "task": "An installed task. The fields of data, model and search_space depend on it.",
    "data": "The examples. A relative path is relative to this file.",
    "model": "The model and its weights.",
    "search_space": "Hyperparameters that vary, each a float, an int or a categorical; with a preset, those that differ from the preset.",
    "sampler": "The algorithm that suggests the parameters of trials.",
    "pruner": "The rule by which trials end before their last epoch.",
    "baseline": "Parameters of trial 0, for comparison; a parameter that is left out takes its default.",
}
REPLACE: Schema = {
    "type": "boolean",
    "default": False,
    "description": "Take the name of a study that has ended, which is renamed.",
}


def document_schema(task: str) -> Schema:
    """The schema of study files of an installed task, draft 2020-12. `service.domain.parsing.parse_study` checks more than the schema.

    Raises InvalidInput for a task that is not installed.
    """
    if task not in specs():
        raise InvalidInput([unknown_task(("task",))])
    schema = StudySpec.of_task(task).model_json_schema()
    sections, definitions, spec = schema["properties"], schema["$defs"], spec_of(task)
    _require_tags(schema)
    _target(sections["budget"], definitions)["anyOf"] = [{"required": ["trials"]}, {"required": ["hours"]}]
    sections["replace"] = REPLACE
    if isinstance(spec, ExternalRunner):
        del sections["preset"]
        given: list[Schema] = [{"required": ["search_space"]}]
    else:
        _describe_hyperparameters(spec, sections, definitions)
        given = [{"required": ["search_space"]}, {"required": ["preset"], "properties": {"preset": {"type": "string"}}}]
    for name, description in DESCRIPTIONS.items():
        if name in sections:
            sections[name]["description"] = description
    required = [name for name in schema["required"] if name != "search_space"]
    title = f"Thawline study, {task}"
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": title, "required": required, "anyOf": given}


def _describe_hyperparameters(spec: TaskSpec, sections: Schema, definitions: Schema) -> None:
    """Restrict names and values to those of the task."""
    hyperparameters = _hyperparameters(spec, definitions)
    searched = {name: one for name, one in hyperparameters.items() if name not in NOT_SEARCHED}
    sections["search_space"] = _search_space(searched, definitions.pop("SearchSpace"))
    sections["fixed"] = _values(sections["fixed"], hyperparameters)
    sections["baseline"]["anyOf"][0] = _values(sections["baseline"]["anyOf"][0], searched)
    _limit(sections["preset"]["anyOf"][0], presets.names(spec.name))
    _limit(_target(sections["model"], definitions)["properties"]["name"], sorted(spec.models()))
    objective = _target(sections["objective"], definitions)["properties"]
    _limit(objective["metric"], list(spec.metrics))
    del objective["range"]  # the task defines it


def _hyperparameters(spec: TaskSpec, definitions: Schema) -> Mapping[str, Schema]:
    """The schema of each hyperparameter's values, by name. `frozen_layers` also accepts `all`."""
    schema = spec.Hyperparameters.model_json_schema()
    definitions.update(schema.get("$defs", {}))
    values = dict(schema["properties"])
    if (frozen := values.get("frozen_layers")) is not None:
        outer = {key: frozen.pop(key) for key in ("title", "description", "default") if key in frozen}
        values["frozen_layers"] = {"anyOf": [frozen, {"const": "all"}], **outer}
    if (precision := values.get("precision")) is not None:
        values["precision"] = {**precision, "default": "auto"}  # of a new study: see `StudySpec.with_precision`
    return values


def _search_space(searched: Mapping[str, Schema], space: Schema) -> Schema:
    """The schema of the search space: one property for each hyperparameter, with its description."""
    parameter = space.pop("additionalProperties")
    named = {name: {**parameter, **{key: values[key] for key in ("description",) if key in values}} for name, values in searched.items()}
    return {**space, "properties": named, "additionalProperties": False}


def _values(section: Schema, hyperparameters: Mapping[str, Schema]) -> Schema:
    return {**section, "properties": dict(hyperparameters), "additionalProperties": False}


def _limit(schema: Schema, names: Collection[str]) -> None:
    """Restrict a text to these names, if there are any."""
    if names:
        schema["enum"] = list(names)


def _target(section: Schema, definitions: Schema) -> Schema:
    target: Schema = definitions[section["$ref"].rpartition("/")[2]]
    return target


def _require_tags(node: object) -> None:
    """Require the tag of each union (`name` of a sampler, `type` of a parameter), for which the models have a default."""
    if isinstance(node, list):
        for item in node:
            _require_tags(item)
    elif isinstance(node, dict):
        if (union := node.pop("discriminator", None)) is not None:
            tag = union["propertyName"]
            node["required"] = [tag]
            node["properties"] = {tag: {"enum": sorted(union["mapping"])}}
        for item in list(node.values()):
            _require_tags(item)
