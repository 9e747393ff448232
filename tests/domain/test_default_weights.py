"""A study without weights takes the model's pretrained ones; random values are asked for, and none of their stages is frozen."""

import copy
from typing import Any

import pytest

import trainer.tasks.images.catalogue as catalogue
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.spec import StudySpec
from tests.narrowed import trained, training
from trainer.tasks.images.config import IMAGENET_MEAN, ImageModel

STUDY: dict[str, Any] = {
    "name": "pets", "data": {"path": "/data"}, "model": {"name": "resnet18"},
    "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1.0}},
    "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 1},
}  # fmt: skip


def study(model: dict[str, Any], frozen: Any = None, fixed: Any = None, **changes: Any) -> dict[str, Any]:
    document = copy.deepcopy(STUDY) | {"model": model} | changes
    if frozen is not None:
        document["search_space"]["frozen_layers"] = frozen
    if fixed is not None:
        document["fixed"] = {"frozen_layers": fixed}
    return document


def faults(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        parse_study(document)
    return {fault.pointer: (fault.code, fault.message) for fault in caught.value.faults}


@pytest.mark.parametrize("model", [{"name": "resnet18"}, {"name": "resnet18", "weights": None}])
@pytest.mark.parametrize("frozen", [None, {"type": "int", "low": 0}])
def test_without_weights_the_pretrained_ones_are_taken(model: dict[str, Any], frozen: Any) -> None:
    spec = parse_study(study(model, frozen))
    assert training(spec).model.weights == "DEFAULT" and training(spec).model.pretrained
    assert trained(spec.config_for({"lr": 0.1}, 0)).model.weights == "DEFAULT"
    assert parse_study(spec.model_dump(mode="json")) == spec


def test_frozen_stages_of_the_default_weights_are_accepted() -> None:
    assert parse_study(study({"name": "resnet18"}, fixed="all")).fixed["frozen_layers"] == len(catalogue.load("resnet18").stages)


def test_random_values_are_asked_for() -> None:
    spec = parse_study(study({"name": "resnet18", "weights": "random"}))
    assert not training(spec).model.pretrained and training(spec).model.weights_file is None
    assert parse_study(spec.model_dump(mode="json")) == spec, "what the server answers can be posted again"


@pytest.mark.parametrize("model", [{"name": "small_cnn"}, {"name": "small_cnn", "weights": None}])
def test_a_model_without_published_weights_says_what_to_write(model: dict[str, Any]) -> None:
    [(pointer, (code, message))] = faults(study(model)).items()
    assert (pointer, code) == ("#/model/weights", "no_default_weights")
    assert "weights: random" in message and "weights file" in message
    assert not training(parse_study(study({**model, "weights": "random"}))).model.pretrained


@pytest.mark.parametrize(
    ("changes", "pointer", "remedy"),
    [
        ({"fixed": 3}, "#/fixed/frozen_layers", "remove it"),
        ({"fixed": "all"}, "#/fixed/frozen_layers", "remove it"),
        ({"frozen": {"type": "int", "low": 0}}, "#/search_space/frozen_layers", "fixed: {frozen_layers: 0}"),
        ({"frozen": {"type": "int", "low": 0, "high": 4, "step": 2}}, "#/search_space/frozen_layers", "fixed: {frozen_layers: 0}"),
        ({"frozen": {"type": "categorical", "choices": [0, 9]}}, "#/search_space/frozen_layers/choices/1", "fixed: {frozen_layers: 0}"),
        ({"preset": "image_classification"}, "#/search_space/frozen_layers", "fixed: {frozen_layers: 0}"),
    ],
)
def test_a_frozen_stage_of_random_values_is_refused(changes: dict[str, Any], pointer: str, remedy: str) -> None:
    found = faults(study({"name": "resnet18", "weights": "random"}, **changes))
    assert found.keys() == {pointer}
    code, message = found[pointer]
    assert code == "frozen_random" and remedy in message and "model.weights" in message
    parse_study(study({"name": "resnet18"}, **changes))


def test_no_frozen_stage_of_random_values_is_accepted() -> None:
    random = {"name": "resnet18", "weights": "random"}
    parse_study(study(random, fixed=0))
    parse_study(study(random, frozen={"type": "categorical", "choices": [0]}))
    parse_study(study(random, fixed=0, preset="image_classification"))


def test_a_spec_of_version_0_1_keeps_its_meaning() -> None:
    """It has null for random values, and states the normalisation; some froze random stages."""
    spec = parse_study(study({"name": "resnet18"}, fixed=3)).model_dump(mode="json")
    spec["model"] = {"name": "resnet18", "weights": None, "mean": list(IMAGENET_MEAN), "std": [0.5, 0.5, 0.5]}
    stored = StudySpec.model_validate(spec)
    assert training(stored).model == ImageModel(name="resnet18", weights="random", mean=IMAGENET_MEAN, std=(0.5, 0.5, 0.5))
    assert trained(stored.config_for({"lr": 0.1}, 0)).frozen_layers == 3
    assert stored.demand(0) == {}
