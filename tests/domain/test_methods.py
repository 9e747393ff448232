"""Methods of fine-tuning in a study: what applies with which method, and how many stages their trials freeze."""

from typing import Any

import pytest

from service.domain.batched_runs import may_share, shared_key
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.spec import StudySpec
from tests.narrowed import trained, training
from trainer.checkpoints import digest
from trainer.tasks.image_classification.config import ImageClassificationInfo

LR = {"type": "float", "low": 1e-4, "high": 1e-1}
METHODS = {"type": "categorical", "choices": ["full", "lora"]}
RANKS: dict[str, Any] = {"type": "categorical", "choices": [4, 8]}
STAGES = 13  # of vit_b_16


def study(space: dict[str, Any] | None = None, fixed: dict[str, Any] | None = None, **changes: Any) -> StudySpec:
    return parse_study(
        {
            "name": "methods",
            "data": {"path": "/data"},
            "model": {"name": "vit_b_16", "weights": "DEFAULT"},
            "search_space": {"lr": LR, **(space or {})},
            "fixed": {"epochs": 10, **(fixed or {})},
            "objective": {"metric": "accuracy", "direction": "maximize"},
            "budget": {"trials": 20},
            **changes,
        }
    )


def faults(space: dict[str, Any] | None = None, fixed: dict[str, Any] | None = None, **changes: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        study(space, fixed, **changes)
    return {fault.pointer: fault.message for fault in caught.value.faults}


def test_what_varies_needs_a_condition_on_the_method_that_it_applies_to() -> None:
    assert faults({"method": METHODS, "lora_r": RANKS}) == {
        "#/search_space/lora_r": "lora_r applies only where method is lora or dora; add when: {method: [lora, dora]}"
    }
    assert faults({"method": METHODS, "frozen_layers": {"type": "int", "low": 0}}) == {
        "#/search_space/frozen_layers": "frozen_layers applies only where method is full; add when: {method: [full]}"
    }
    assert faults({"method": METHODS, "lora_r": {**RANKS, "when": {"method": ["full", "lora"]}}}) == {
        "#/search_space/lora_r/when/method": "lora_r applies only where method is lora or dora; add when: {method: [lora, dora]}"
    }


def test_what_varies_without_a_method_has_the_method_to_write_as_its_remedy() -> None:
    assert faults({"lora_r": RANKS}) == {
        "#/search_space/lora_r": "lora_r applies only where method is lora or dora; remove it, or write fixed: {method: lora}"
    }
    assert faults({"adapter_size": RANKS}, {"method": "lora"}) == {
        "#/search_space/adapter_size": "adapter_size applies only where method is adapter; remove it, or write fixed: {method: adapter}"
    }


@pytest.mark.parametrize(
    ("space", "fixed", "name"),
    [
        ({}, {"lora_r": 4}, "lora_r"),
        ({}, {"method": "bitfit", "lora_alpha": 4}, "lora_alpha"),
        ({}, {"method": "lora", "frozen_layers": 3}, "frozen_layers"),
        ({}, {"method": "lora", "reinit_layers": 3}, "reinit_layers"),
        ({"method": METHODS}, {"adapter_size": 8}, "adapter_size"),
        ({}, {"lora_r": 8}, "lora_r"),  # the default
    ],
)
def test_a_fixed_value_that_applies_to_no_trial_is_refused(space: dict[str, Any], fixed: dict[str, Any], name: str) -> None:
    (pointer, message), *others = faults(space, fixed).items()
    assert pointer == f"#/fixed/{name}" and not others
    assert message.startswith(f"{name} applies only where method is ") and message.endswith("; remove it, or change method")


@pytest.mark.parametrize(
    "space",
    [
        {"method": METHODS, "lora_r": {**RANKS, "when": {"method": ["lora"]}}},
        {"method": METHODS, "frozen_layers": {"type": "int", "low": 0, "when": {"method": ["full"]}}},
        {
            "method": METHODS,
            "lora_targets": {"type": "categorical", "choices": ["all", "mlp"], "when": {"method": ["lora"]}},
            "lora_r": {**RANKS, "when": {"lora_targets": ["mlp"]}},
        },
    ],
)
def test_a_condition_on_the_method_also_counts_through_another_parameter(space: dict[str, Any]) -> None:
    assert study(space).search_space.root.keys() == {"lr", *space}


def test_what_does_not_apply_has_its_default_in_the_config_of_a_trial() -> None:
    spec = study({"method": METHODS}, {"lora_r": 4, "frozen_layers": 3})
    full, lora = (spec.config_for({"lr": 0.01, "method": method}, 0) for method in ("full", "lora"))
    assert (trained(full).frozen_layers, full.model_dump().get("lora_r"), full.model_dump().get("method")) == (3, None, None)
    assert (trained(lora).frozen_layers, lora.model_dump()["lora_r"], lora.model_dump()["method"]) == (0, 4, "lora")


@pytest.mark.parametrize(
    ("model", "method", "message"),
    [
        ("resnet18", "lora", "resnet18 cannot be trained with this method; write full, or choose a transformer"),
        ("vit_b_16", "prompt", "vit_b_16 cannot be trained with this method; choose one of full, lora, dora, bitfit, adapter"),
    ],
)
def test_a_method_that_the_model_does_not_support_is_refused(model: str, method: str, message: str) -> None:
    named = {"name": model, "weights": "DEFAULT"}
    assert faults(fixed={"method": method}, model=named) == {"#/fixed/method": message}
    varied = {"type": "categorical", "choices": ["full", method]}
    assert faults({"method": varied}, model=named) == {"#/search_space/method/choices/1": message}


def test_more_layers_than_stages_are_refused() -> None:
    assert faults(fixed={"method": "lora", "lora_layers": 14}) == {
        "#/fixed/lora_layers": "the model has 13 stages; lower this to 13 or less"
    }


def test_a_method_that_keeps_random_values_is_refused() -> None:
    assert faults({"method": METHODS}, model={"name": "vit_b_16", "weights": "random"}) == {
        "#/search_space/method/choices/1": "model.weights is random, and with method lora stages keep their random values; "
        "choose another method, or name pretrained weights in model.weights"
    }


@pytest.mark.parametrize(
    ("space", "fixed", "demand"),
    [
        ({}, {"method": "lora"}, {1: 200.0}),
        ({}, {"method": "lora", "lora_layers": 4}, {9: 200.0}),
        ({}, {"method": "bitfit"}, {}),
        ({"method": METHODS}, {"lora_layers": 4, "frozen_layers": 9}, {9: 200.0}),
        (
            {
                "method": METHODS,
                "frozen_layers": {"type": "categorical", "choices": [0, 9], "when": {"method": ["full"]}},
                "lora_layers": {"type": "categorical", "choices": [2, 4], "when": {"method": ["lora"]}},
            },
            {},
            {9: 100.0, 11: 50.0},
        ),
    ],
)
def test_trials_of_both_methods_share_the_stored_output_of_equal_depths(
    space: dict[str, Any], fixed: dict[str, Any], demand: dict[int, float]
) -> None:
    assert study(space, fixed).demand(0) == pytest.approx(demand)


def test_the_repeats_of_a_confirmed_configuration_ask_for_its_depth() -> None:
    spec = study(fixed={"method": "lora", "lora_layers": 4}, data={"path": "/data", "test": 0.2}, confirm={"seeds": 5})
    assert spec.demand_of_repeats({"lr": 0.01}, 2) == {9: 40}


def test_only_trials_of_the_head_alone_train_together() -> None:
    spec = study({"method": METHODS}, {"frozen_layers": STAGES, "lora_layers": 1})
    assert may_share(training(spec), None)
    assert shared_key(spec, None, {"lr": 0.1, "method": "full"}) is not None
    assert shared_key(spec, None, {"lr": 0.1, "method": "lora"}) is None


def test_a_config_without_a_method_keeps_its_digest() -> None:
    """As computed before the methods existed."""
    info = ImageClassificationInfo(classes=("a", "b"), images={"train": 2}, fingerprint="0" * 64, split="1" * 64, weights_sha256=None)
    digest_before = "bac92ad75b4f3df0d6a0341f1607545182bed69dc41a9fc6945f4d39c0eeb682"
    assert digest(trained(study().config_for({"lr": 0.01}, 0)), info) == digest_before
