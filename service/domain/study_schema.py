"""JSON Schema of study files, for editors: what a person writes, before presets are expanded and open values are filled in."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from search_spaces import presets
from service.domain.errors import InvalidInput
from service.domain.fault_messages import unknown_task
from service.domain.spec import NOT_SEARCHED, StudySpec
from trainer.tasks.registry import spec_of, specs

Schema = dict[str, Any]
DESCRIPTIONS: Mapping[str, str] = {
    "name": "Unique on the server; no slash, and no space at its ends.",
    "task": "An installed task; it decides what data, model and search_space may hold.",
    "data": "The examples. A relative path is relative to this file.",
    "model": "The model and its weights.",
    "search_space": "Hyperparameters that vary, each a float, an int or a categorical; with a preset, those that replace the preset's.",
    "sampler": "How the parameters of the next trial are chosen.",
    "pruner": "Which trials end before their last epoch.",
    "baseline": "Parameters of trial 0, to compare with; a parameter that is left out has its default.",
}
REPLACE: Schema = {
    "type": "boolean",
    "default": False,
    "description": "Take the name of an ended study, which is renamed.",
}


def document_schema(task: str) -> Schema:
    """Of the study files of an installed task, in draft 2020-12. The parser checks more: see `service.domain.parsing.parse_study`.

    Raises InvalidInput for a task that is not installed.
    """
    if task not in specs():
        raise InvalidInput([unknown_task(("task",))])
    schema = StudySpec.of_task(task).model_json_schema()
    sections, definitions, spec = schema["properties"], schema["$defs"], spec_of(task)
    _require_tags(schema)
    hyperparameters = _hyperparameters(task, definitions)
    searched = {name: one for name, one in hyperparameters.items() if name not in NOT_SEARCHED}
    sections["search_space"] = _search_space(searched, definitions.pop("SearchSpace"))
    sections["fixed"] = _values(sections["fixed"], hyperparameters)
    sections["baseline"]["anyOf"][0] = _values(sections["baseline"]["anyOf"][0], searched)
    _limit(sections["preset"]["anyOf"][0], presets.names(task))
    _limit(_target(sections["model"], definitions)["properties"]["name"], sorted(spec.models()))
    _limit(_target(sections["objective"], definitions)["properties"]["metric"], list(spec.metrics))
    _target(sections["budget"], definitions)["anyOf"] = [{"required": ["trials"]}, {"required": ["hours"]}]
    sections["replace"] = REPLACE
    for name, description in DESCRIPTIONS.items():
        sections[name]["description"] = description
    required = [name for name in schema["required"] if name != "search_space"]
    given = [{"required": ["search_space"]}, {"required": ["preset"], "properties": {"preset": {"type": "string"}}}]
    title = f"Thawline study, {task}"
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": title, "required": required, "anyOf": given}


def _hyperparameters(task: str, definitions: Schema) -> Mapping[str, Schema]:
    """By name, their values. `frozen_layers` may be written as `all`."""
    schema = spec_of(task).Hyperparameters.model_json_schema()
    definitions.update(schema.get("$defs", {}))
    values = dict(schema["properties"])
    if (frozen := values.get("frozen_layers")) is not None:
        outer = {key: frozen.pop(key) for key in ("title", "description", "default") if key in frozen}
        values["frozen_layers"] = {"anyOf": [frozen, {"const": "all"}], **outer}
    return values


def _search_space(searched: Mapping[str, Schema], space: Schema) -> Schema:
    """Each hyperparameter by its name, with its own description beside the range or choices."""
    parameter = space.pop("additionalProperties")
    named = {name: {**parameter, **{key: values[key] for key in ("description",) if key in values}} for name, values in searched.items()}
    return {**space, "properties": named, "additionalProperties": False}


def _values(section: Schema, hyperparameters: Mapping[str, Schema]) -> Schema:
    return {**section, "properties": dict(hyperparameters), "additionalProperties": False}


def _limit(schema: Schema, names: Collection[str]) -> None:
    """Accept these texts only. A task without any is left as it is."""
    if names:
        schema["enum"] = list(names)


def _target(section: Schema, definitions: Schema) -> Schema:
    target: Schema = definitions[section["$ref"].rpartition("/")[2]]
    return target


def _require_tags(node: object) -> None:
    """The models have a default for the tag of a union (`name` of a sampler, `type` of a parameter), but a document must have it."""
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
