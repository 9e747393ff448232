"""From a document to a spec: the sentences that bad input gets, and what people write is understood."""

import copy
from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import InvalidInput
from service.domain.parsing import parse_params, parse_study
from service.domain.spec import StudySpec
from tests.narrowed import trained, training
from trainer.configuration import resolve_paths
from trainer.tasks.registry import spec_of

STUDY: dict[str, Any] = {
    "name": "sign-digits",
    "task": "image_classification",
    "data": {"path": "/data/sign-digits", "validation": 0.2, "test": 0.2},
    "model": {"name": "squeezenet1_1", "weights": "/weights/squeezenet1_1.safetensors"},
    "search_space": {
        "lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
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


def changed(**changes: Any) -> dict[str, Any]:
    """The study with values put at `part__key__key`; None removes."""
    study = copy.deepcopy(STUDY)
    for where, value in changes.items():
        *parents, last = where.split("__")
        section = study
        for parent in parents:
            section = section[parent]
        if value is None:
            del section[last]
        else:
            section[last] = value
    return study


def faults(document: object) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        parse_study(document)
    assert all(len(fault.message) > 15 for fault in caught.value.faults)
    return {fault.pointer: fault.code for fault in caught.value.faults}


def test_the_study_of_the_design_is_accepted() -> None:
    spec = parse_study(STUDY)
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec
    assert trained(spec.config_for({"lr": 0.01, "frozen_layers": 3}, 7)).frozen_layers == 3


@pytest.mark.parametrize("task", ["poetry", 7, None, ["image_classification"]])
def test_a_task_that_is_not_installed_is_named_with_those_that_are(task: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_study({**STUDY, "task": task})
    [fault] = caught.value.faults
    assert (fault.pointer, fault.code) == ("#/task", "unknown_task") and "choose one of image_classification" in fault.message


@pytest.mark.parametrize(
    ("document", "pointer", "code"),
    [
        (
            changed(search_space__learning_rate={"type": "float", "low": 0.1, "high": 1.0}),
            "#/search_space/learning_rate",
            "unknown_parameter",
        ),
        (changed(objective__metric="gini"), "#/objective/metric", "unknown_metric"),
        (changed(search_space__lr__low=1.0), "#/search_space/lr/low", "low_above_high"),
        (changed(search_space__lr__low=0.0), "#/search_space/lr/low", "log_from_zero"),
        (changed(search_space__lr__low=-1.0, search_space__lr__log=False), "#/search_space/lr/low", "greater_than"),
        (changed(search_space__momentum__when={"optimiser": ["sgd"]}), "#/search_space/momentum/when/optimiser", "unknown_condition"),
        (changed(search_space__momentum__when={"optimizer": ["lion"]}), "#/search_space/momentum/when/optimizer/0", "impossible_condition"),
        (changed(search_space__frozen_layers__high=10), "#/search_space/frozen_layers/high", "too_many_stages"),
        (changed(search_space__optimizer__choices=["sgd", "rmsprop", "lion"]), "#/search_space/optimizer/choices/2", "literal_error"),
        (changed(search_space__batch_size__choices=[16, "32"]), "#/search_space/batch_size/choices/1", "int_type"),
        (changed(search_space__batch_size={"type": "float", "low": 16, "high": 32}), "#/search_space/batch_size/low", "int_type"),
        (changed(search_space={}), "#/search_space", "empty_search_space"),
        (changed(search_space__lr__type="double"), "#/search_space/lr", "union_tag_invalid"),
        (changed(search_space__epochs={"type": "int", "low": 1}), "#/search_space/epochs/high", "missing"),
        (changed(fixed__lr=0.1), "#/fixed/lr", "fixed_and_varied"),
        (changed(fixed__epoch=3), "#/fixed/epoch", "unknown_parameter"),
        (changed(fixed__epochs=0), "#/fixed/epochs", "greater_than_equal"),
        (changed(fixed__image_size=8), "#/fixed/image_size", "image_too_small"),
        (changed(fixed__image_size="64"), "#/fixed/image_size", "int_type"),
        (
            changed(search_space__frozen_layers={"type": "categorical", "choices": [1, "2"]}),
            "#/search_space/frozen_layers/choices/1",
            "int_type",
        ),
        (changed(budget__trials=0), "#/budget/trials", "greater_than_equal"),
        (changed(budget={}), "#/budget", "endless"),
        (changed(objective={"metric": "loss", "direction": "maximize"}), "#/objective/direction", "direction_contradicts_metric"),
        (changed(search_space__lr__high=float("nan")), "#/search_space/lr/high", "not_finite"),
        (changed(fixed__epochs=float("inf")), "#/fixed/epochs", "not_finite"),
        (changed(name="a\x00b"), "#/name", "invalid_text"),
        (changed(name="\u202ename"), "#/name", "invalid_text"),
        (changed(name=" name"), "#/name", "invalid_name"),
        (changed(name=".."), "#/name", "invalid_name"),
        (changed(name=""), "#/name", "string_too_short"),
        (changed(name="x" * 129), "#/name", "string_too_long"),
        (changed(name=None), "#/name", "missing"),
        (changed(search_space__optimizer__choices=[]), "#/search_space/optimizer/choices", "too_short"),
        (changed(search_space__frozen_layers={"type": "int", "low": 10}), "#/search_space/frozen_layers/low", "too_many_stages"),
        (
            changed(search_space__frozen_layers={"type": "int", "low": 0, "log": True}),
            "#/search_space/frozen_layers/low",
            "log_from_zero",
        ),
        (changed(model__name="resnet19"), "#/model/name", "unknown_model"),
        (changed(model__weights="IMAGENET22K"), "#/model/weights", "unknown_weights"),
        (changed(data__validation=0.9, data__test=0.2), "#/data", "value_error"),
        (changed(data__validation=0), "#/data/validation", "greater_than"),
        (changed(colour="red"), "#/colour", "extra_forbidden"),
        (changed(sampler={"name": "grid"}), "#/sampler/name", "endless_grid"),
        (changed(sampler={"name": "tpe", "n_startup": 3}), "#/sampler/n_startup", "extra_forbidden"),
        (changed(pruner={"name": "threshold"}), "#/pruner", "no_bound"),
        (changed(preset="nlp"), "#/preset", "unknown_preset"),
        (changed(baseline={"lr": 7.0}), "#/baseline/lr", "out_of_range"),
        (changed(baseline={"momentum": 0.5, "optimizer": "adam"}), "#/baseline/momentum", "inactive_parameter"),
        ([], "#", "not_a_mapping"),
        ("study", "#", "not_a_mapping"),
    ],
)
def test_bad_input_is_named_with_its_place(document: object, pointer: str, code: str) -> None:
    assert faults(document).get(pointer) == code


def test_all_faults_are_told_at_once() -> None:
    assert {"#/budget/trials", "#/objective/direction", "#/search_space/lr/low"} <= set(
        faults(changed(budget__trials=0, objective__direction="minimize", search_space__lr__low=1.0))
    )


def test_a_fault_never_repeats_the_value() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_study(changed(search_space__optimizer__choices=["secretword"], sampler={"name": "secretword"}))
    assert "secretword" not in str(caught.value)


def test_unknown_parameters_and_what_else_is_wrong_are_told_together() -> None:
    speed = {"type": "float", "low": 0.0, "high": 1.0}
    assert faults(changed(name="..", search_space__speed=speed, fixed__rate=1, budget__trials=0)) == {
        "#/name": "invalid_name",
        "#/search_space/speed": "unknown_parameter",
        "#/fixed/rate": "unknown_parameter",
        "#/budget/trials": "greater_than_equal",
    }


def messages(document: object) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        parse_study(document)
    return {fault.pointer: fault.message for fault in caught.value.faults}


LISTED = "write `lora_targets: attention`, `lora_targets: mlp` or `lora_targets: all` under fixed"
SCALAR = "one value is expected here; write a number, a text, true or false"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fixed": {"lora_targets": ["query"]}}, {"#/fixed/lora_targets": f"this has one value; {LISTED}"}),
        (
            {"fixed": {"target_modules": ["q", "v"]}},
            {"#/fixed/target_modules": f"the trainer calls this lora_targets, which has one value; {LISTED}"},
        ),
        ({"baseline": {"lr": [1, 2]}}, {"#/baseline/lr": SCALAR}),
        ({"search_space__optimizer__choices": [["adam"], "sgd"]}, {"#/search_space/optimizer/choices/0": SCALAR}),
        (
            {"baseline": {"lora_alpha": 16}},
            {
                "#/baseline/lora_alpha": "a baseline gives values only to parameters of the search space; "
                "write lora_alpha under fixed, or remove it"
            },
        ),
        ({"preset": "text_head"}, {"#/preset": "this preset is not for image_classification; choose one of image_augmented, "}),
        ({"preset": "nlp"}, {"#/preset": "no such preset ships with Thawline; choose one of image_augmented, "}),
        ({"task": "image-classification"}, {"#/task": "no such task is installed; did you mean image_classification?"}),
    ],
)
def test_a_fault_has_one_message_with_the_lines_to_write(changes: dict[str, Any], expected: dict[str, str]) -> None:
    found = messages(changed(**changes))
    assert {pointer: text for pointer, text in found.items() if not text.startswith(expected.get(pointer, "-"))} == {}
    assert found.keys() == expected.keys()


def test_the_other_sections_are_checked_as_those_of_the_task_with_nearly_this_name() -> None:
    document = changed(task="Text-Classification", model={"name": "owner/name"}, data={"path": "/data/a.csv", "location": "workers"})
    document |= {"search_space": {"lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}}, "fixed": {"max_length": 3}}
    assert faults(document) == {"#/task": "unknown_task", "#/fixed/max_length": "greater_than_equal"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"validation": "lots"}, {"#/data/validation": "a number is expected here; write one without quotes, such as `validation: 0.2`"}),
        ({"test": "20 %"}, {"#/data/test": "a number is expected here; write one without quotes, such as `test: 0.2`"}),
        ({"path": 5}, {"#/data/path": "a text is expected here; write one, in quotes if it looks like a number"}),
    ],
)
def test_a_fault_of_the_data_brings_no_second_one_about_the_test_part(data: dict[str, Any], expected: dict[str, str]) -> None:
    document = changed(confirm={"top": 3, "seeds": 5}, **{f"data__{name}": value for name, value in data.items()})
    assert messages(document) == expected


def test_shares_that_leave_no_training_examples_bring_no_second_fault_about_the_test_part() -> None:
    assert set(messages(changed(confirm={"top": 3, "seeds": 5}, data__validation=0.6, data__test=0.6))) == {"#/data"}


def test_a_missing_test_part_is_reported_beside_another_fault_of_the_data() -> None:
    found = faults(changed(confirm={"top": 3, "seeds": 5}, data__validation="lots", data__test=None))
    assert found == {"#/data/validation": "float_parsing", "#/data/test": "nothing_to_confirm_on"}


@pytest.mark.parametrize("section", ["fixed", "baseline"])
def test_an_unknown_model_brings_no_second_fault_about_frozen_layers(section: str) -> None:
    document = changed(model__name="resnet19", search_space__frozen_layers=None, **{section: {"frozen_layers": "all"}})
    if section == "baseline":
        document["search_space"]["frozen_layers"] = {"type": "int", "low": 1, "high": 9}
    assert faults(document) == {"#/model/name": "unknown_model"}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet19", "did you mean resnet18, resnet101 or resnet152? "),
        ("efficientnet", "did you mean efficientnet_b0, efficientnet_b1 or efficientnet_b2? "),
        ("vit", "did you mean vit_b_16, vit_b_32 or vit_h_14? "),
        ("gpt4", ""),
    ],
)
def test_an_unknown_model_gets_the_nearest_names_and_where_all_are_listed(name: str, nearest: str) -> None:
    listed = f"`thaw study schema` and GET /api/v1/models list all {len(spec_of('image_classification').models())}"
    assert messages(changed(model__name=name)) == {"#/model/name": f"the catalogue has no such model; {nearest}{listed}"}


@pytest.mark.parametrize("name", ["compile", "seed"])
def test_a_hyperparameter_that_a_study_can_only_fix_is_refused_in_the_search_space(name: str) -> None:
    document = changed(**{f"search_space__{name}": {"type": "categorical", "choices": [0, 1]}})
    assert messages(document) == {f"#/search_space/{name}": f"a study cannot vary {name}; write it under fixed, or leave it out"}


def test_a_study_can_fix_that_its_trials_are_compiled() -> None:
    spec = parse_study(changed(fixed__compile=True))
    assert spec.fixed["compile"] is True and trained(spec.config_for({"lr": 0.01}, 0)).compile
    plain = parse_study(changed()).config_for({"lr": 0.01}, 0)
    assert not trained(plain).compile and "compile" not in plain.model_dump()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("droput", "did you mean dropout or lora_dropout?"),
        ("weight", "did you mean weight_decay or class_weights?"),
        ("colour", "`thaw study schema` and GET /api/v1/study-schema list all 32"),
    ],
)
def test_an_unknown_parameter_gets_the_nearest_names_or_where_all_are_listed(name: str, remedy: str) -> None:
    document = changed(**{f"search_space__{name}": {"type": "float", "low": 0.1, "high": 0.2}})
    assert messages(document) == {f"#/search_space/{name}": f"the trainer has no such parameter; {remedy}"}


def test_a_refused_value_of_a_preset_is_attributed_to_it_with_the_way_to_override_it() -> None:
    document = changed(preset="image_head", search_space=None, model__weights="random")
    assert messages(document)["#/fixed/frozen_layers"].endswith(
        " (frozen_layers is from the preset image_head; to override it, write frozen_layers under search_space or fixed)"
    )
    document["fixed"]["frozen_layers"] = 3
    assert "preset" not in messages(document)["#/fixed/frozen_layers"]
    document["fixed"]["frozen_layers"] = 0
    parse_study(document)


def test_frozen_layers_without_a_high_go_up_to_all_stages() -> None:
    spec = parse_study(changed(search_space__frozen_layers={"type": "int", "low": 2}))
    assert training(spec).extremes("frozen_layers")[-1] == (("search_space", "frozen_layers", "high"), 9)


def test_frozen_layers_all_freezes_every_stage() -> None:
    spec = parse_study(changed(search_space__frozen_layers=None, fixed__frozen_layers="all"))
    assert trained(spec.config_for({}, 0)).frozen_layers == 9


def test_a_preset_fills_the_space_and_the_study_may_change_it() -> None:
    study = changed(search_space={"batch_size": {"type": "categorical", "choices": [8]}}, fixed={"lr": 0.01, "image_size": 64})
    spec = parse_study({**study, "preset": "image_classification"})
    assert "lr" not in spec.search_space.root
    assert training(spec).extremes("batch_size") == ((("search_space", "batch_size", "choices", 0), 8),)
    assert spec.fixed["epochs"] == 8


def test_a_baseline_takes_defaults_for_what_it_does_not_name() -> None:
    spec = parse_study(changed(baseline={"lr": 0.01, "optimizer": "sgd"}))
    assert spec.baseline == {"lr": 0.01, "batch_size": 32, "optimizer": "sgd", "frozen_layers": 0, "momentum": 0.9}


def test_queued_parameters_are_checked() -> None:
    spec = parse_study(STUDY)
    good = {"lr": 0.01, "batch_size": 16, "optimizer": "adam", "frozen_layers": 9}
    assert parse_params(spec, good) == good
    with pytest.raises(InvalidInput) as caught:
        parse_params(spec, {**good, "lr": 5.0})
    assert [fault.pointer for fault in caught.value.faults] == ["#/params/lr"]


def test_relative_paths_are_relative_to_the_file_and_weights_names_stay() -> None:
    document = {"data": {"path": "data/x"}, "model": {"name": "resnet18", "weights": "IMAGENET1K_V1"}}
    assert resolve_paths(document, Path("/home/me")) == {
        "data": {"path": "/home/me/data/x"},
        "model": {"name": "resnet18", "weights": "IMAGENET1K_V1"},
    }
    assert resolve_paths({"model": {"weights": "w/a.pt"}}, Path("/b")) == {"model": {"weights": "/b/w/a.pt"}}
    assert resolve_paths({"data": {"path": "/abs"}}, Path("/b")) == {"data": {"path": "/abs"}}


def test_equal_studies_give_equal_seeds_and_trials_of_a_study_different_ones() -> None:
    spec = parse_study(STUDY)
    seeds = [spec.seed_of(number) for number in range(100)]
    assert seeds == [parse_study(changed(name="other")).seed_of(number) for number in range(100)]
    assert len(set(seeds)) == 100
    assert spec.seed_of(0) != parse_study(changed(sampler__seed=1)).seed_of(0)
