"""Editors accept what the parser accepts, refuse the common mistakes, and have names, defaults and descriptions to show."""

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from search_spaces import presets
from search_spaces.documents import from_yaml
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.spec import NOT_SEARCHED
from service.domain.study_schema import document_schema
from tests.domain.test_parsing import STUDY, changed
from trainer.configuration import FIRST_TASK
from trainer.tasks import registry
from trainer.tasks.capabilities import ExampleStudy
from trainer.tasks.registry import spec_of

SCHEMA = document_schema(FIRST_TASK)
EDITOR = jsonschema_rs.Draft202012Validator(SCHEMA)
README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
[IN_README] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
SPEC = spec_of(FIRST_TASK)


def test_it_is_a_schema_of_draft_2020_12() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(SCHEMA)


def test_the_study_of_the_readme_and_the_shown_ones_are_accepted() -> None:
    assert isinstance(SPEC, ExampleStudy)
    for document in (from_yaml(IN_README), SPEC.example_study, from_yaml(SPEC.example_study_yaml), STUDY):
        EDITOR.validate(document)


@pytest.mark.parametrize("preset", presets.names(FIRST_TASK))
def test_a_preset_takes_the_place_of_the_space(preset: str) -> None:
    model = {"name": "vit_b_16", "weights": "DEFAULT"}  # a model that all of them can train
    document = changed(search_space=None, fixed={"epochs": 2}, preset=preset, model=model)
    EDITOR.validate(document)
    parse_study(document)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"name": "resnet18"}},
        {"task": None},
        {"fixed": {"frozen_layers": "all"}, "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1}}},
        {"search_space__frozen_layers": {"type": "int", "low": 0}},
        {"budget": {"hours": 1.5}},
        {"pruner": {"name": "patient", "patience": 3, "wrapped": {"name": "median"}}},
        {"baseline": {"optimizer": "sgd"}, "confirm": {"top": 2, "seeds": 3}},
    ],
    ids=str,
)
def test_what_the_parser_accepts_is_accepted(changes: dict[str, Any]) -> None:
    document = changed(**changes)
    parse_study(document)
    EDITOR.validate(document)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"search_space": None}, []),
        ({"objective": None}, []),
        ({"epochs": 5}, []),
        ({"budget": {}}, ["budget"]),
        ({"budget": {"trials": "40"}}, ["budget", "trials"]),
        ({"preset": "image_bodies"}, ["preset"]),
        ({"model__name": "resnet19"}, ["model", "name"]),
        ({"objective__metric": "acuracy"}, ["objective", "metric"]),
        ({"sampler": {"seed": 1}}, ["sampler"]),
        ({"sampler": {"name": "tpe", "seeds": 1}}, ["sampler"]),
        ({"pruner": {"patience": 3}}, ["pruner"]),
        ({"search_space__learning": {"type": "float", "low": 0, "high": 1}}, ["search_space"]),
        ({"search_space__seed": {"type": "int", "low": 0, "high": 1}}, ["search_space"]),
        ({"search_space__lr": {"low": 0.1, "high": 1}}, ["search_space", "lr"]),
        ({"search_space__lr": {"type": "float", "low": 0.1}}, ["search_space", "lr"]),
        ({"fixed__augmentation": "flop"}, ["fixed", "augmentation"]),
        ({"fixed__epochs": 0}, ["fixed", "epochs"]),
        ({"fixed__frozen_layers": "none"}, ["fixed", "frozen_layers"]),
        ({"baseline": {"rate": 1}}, ["baseline"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_refused_at_its_place(changes: dict[str, Any], where: list[str]) -> None:
    document = changed(**changes)
    with pytest.raises(InvalidInput):
        parse_study(document)
    assert where in [list(error.instance_path) for error in EDITOR.iter_errors(document)]


def test_every_name_that_can_be_completed_is_there() -> None:
    sections, hyperparameters = SCHEMA["properties"], set(SPEC.Hyperparameters.model_fields)
    assert set(sections["fixed"]["properties"]) == hyperparameters
    assert set(sections["search_space"]["properties"]) == hyperparameters - NOT_SEARCHED
    assert set(SCHEMA["$defs"]["ImageModel"]["properties"]["name"]["enum"]) == set(SPEC.models())
    assert SCHEMA["$defs"]["Objective"]["properties"]["metric"]["enum"] == list(SPEC.metrics)
    assert sections["fixed"]["properties"]["optimizer"]["default"] == "adamw"
    assert sections["replace"]["default"] is False


def test_the_default_of_the_precision_is_that_of_a_new_study() -> None:
    assert SCHEMA["properties"]["fixed"]["properties"]["precision"]["default"] == "auto"


def test_every_section_is_described() -> None:
    described = {name for name, section in SCHEMA["properties"].items() if "description" in section}
    targets = {name for name, section in SCHEMA["properties"].items() if "$ref" in section}
    assert described | {name for name in targets if "description" in SCHEMA["$defs"][SCHEMA["properties"][name]["$ref"][8:]]} == set(
        SCHEMA["properties"]
    )


def test_a_task_that_is_not_installed_is_refused_with_the_names_of_those_that_are() -> None:
    with pytest.raises(InvalidInput) as refused:
        document_schema("poetry")
    listed = ", ".join(sorted(registry.SHIPPED))
    assert [fault.message for fault in refused.value.faults] == [f"no such task is installed; choose one of {listed}"]
