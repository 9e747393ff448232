"""What only the facts of a check show: a metric that runs do not record, and values that do not fit a model of the hub."""

from typing import Any

import pytest

from service import operations
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.records import Study
from service.domain.states import StudyState
from service.operations import Searches
from service.store import Store
from tests.narrowed import trained
from tests.operations.driving import FACTS, claim_trials, kinds_of, spec_of, study_of
from trainer.tasks.text.config import FoundTextModel
from trainer.tasks.text_classification.spec import TextClassificationInfo

MANY = tuple(f"c{number:02}" for number in range(77))
MODEL = FoundTextModel(type="llama", stages=7, positions=512)
TEXTS = TextClassificationInfo(
    classes=("no", "yes"), rows={"train": 80, "validation": 20, "test": 20}, fingerprint="f" * 64, split="5" * 64, weights_sha256="0" * 64,
    model=MODEL, commit="a" * 40,
)  # fmt: skip


def of_hub(**changes: Any) -> dict[str, Any]:
    return {
        "name": "intents", "task": "text_classification", "data": {"path": "train.csv", "location": "workers"},
        "model": {"name": "owner/model"}, "search_space": {"lr": {"type": "float", "low": 1e-5, "high": 1e-3}},
        "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 4}, **changes,
    }  # fmt: skip


def checked(store: Store, **changes: Any) -> Study:
    """A study with a model of the hub, after its check."""
    return operations.pass_check(store, operations.create_study(store, parse_study(of_hub(**changes))).id, TEXTS)


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
@pytest.mark.parametrize(
    ("classes", "validation", "confirm", "reason"),
    [
        (64, 2_048, None, None),
        (65, 10, None, "is not recorded for 65 classes, only up to 64"),
        (64, 2_049, None, "is not recorded for 64 classes and 2,049 validation images, only up to 131,072 probabilities"),
        (64, 10, {"top": 1, "seeds": 2}, "is not recorded for 64 classes and 3,000 test images, only up to 131,072 probabilities"),
    ],
)
def test_an_objective_that_is_not_recorded_fails_the_check(
    store: Store, searches: Searches, metric: str, classes: int, validation: int, confirm: Any, reason: str | None
) -> None:
    data = {"path": "data/pets", "test": 0.2}
    document = spec_of(objective={"metric": metric, "direction": "maximize"}, data=data, confirm=confirm)
    sizes = {"train": 9_000, "validation": validation, "test": 3_000}
    facts = FACTS.model_copy(update={"classes": MANY[:classes], "images": sizes})
    study = operations.pass_check(store, operations.create_study(store, document).id, facts)
    if reason is None:
        assert study.sound and claim_trials(store, searches)
        return
    assert (study.state, kinds_of(store, study)[-1]) == (StudyState.FAILED, "study_failed")
    where, _, others = str(study.reason).partition("; choose one of ")
    assert where == f"#/objective/metric: {metric} {reason}" and others.startswith("accuracy, precision, ")
    assert "auroc" not in others and "create the study again" in others
    assert claim_trials(store, searches) == []


def test_a_study_that_failed_by_its_metric_goes_on_with_another_one(store: Store, searches: Searches) -> None:
    facts = FACTS.model_copy(update={"classes": MANY})
    document = spec_of(objective={"metric": "auroc", "direction": "maximize"})
    study = operations.pass_check(store, operations.create_study(store, document).id, facts)
    with pytest.raises(InvalidInput) as refused:
        operations.rerank_study(store, study.id, "average_precision")
    (fault,) = refused.value.faults
    assert (fault.pointer, fault.code) == ("#/metric", "not_recorded") and "77 classes" in fault.message
    operations.rerank_study(store, study.id, "f1")
    operations.resume_study(store, study.id)
    assert operations.pass_check(store, study.id, facts).sound and claim_trials(store, searches)


LORA = {"method": "lora"}


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"fixed": {**LORA, "lora_layers": 8}}, ["#/fixed/lora_layers: the model has 7 stages; lower this to 7 or less"]),
        ({"fixed": {"frozen_layers": 9}}, ["#/fixed/frozen_layers: the model has 7 stages to freeze; lower this to 7 or less"]),
        ({"fixed": {"reinit_layers": 8}}, ["#/fixed/reinit_layers: the model has 7 stages; lower this to 7 or less"]),
        ({"fixed": {"max_length": 513}}, ["#/fixed/max_length: the model has positions for 512 tokens; lower this to 512 or less"]),
        ({"fixed": {"method": "bitfit"}}, ["#/fixed/method: a model of type llama cannot be trained with this method; choose one of full"]),
        (
            {"search_space": {name: {"type": "int", "low": 0, "high": 12} for name in ("frozen_layers", "reinit_layers")}},
            ["#/search_space/frozen_layers/high: the model has 7 stages", "#/search_space/reinit_layers/high: the model has 7 stages"],
        ),
        (
            {"search_space": {"lora_layers": {"type": "categorical", "choices": [2, 12]}}, "fixed": LORA},
            ["#/search_space/lora_layers/choices/1: the model has 7 stages"],
        ),
        ({"fixed": {**LORA, "lora_layers": 7, "max_length": 512}}, []),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_a_model_of_the_hub_fail_the_check(store: Store, changes: dict[str, Any], faults: list[str]) -> None:
    study = checked(store, **changes)
    assert study.state is (StudyState.FAILED if faults else StudyState.ACTIVE)
    assert all(fault in str(study.reason) for fault in faults)


def test_frozen_layers_all_become_the_number_that_the_check_found(store: Store, searches: Searches) -> None:
    study = checked(store, fixed={"frozen_layers": "all"})
    assert study_of(store, study).spec.fixed["frozen_layers"] == 7
    (claim, *_) = claim_trials(store, searches)
    assert trained(claim.spec.config_for(claim.params, claim.lease.number)).frozen_layers == 7


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"search_space": {"frozen_layers": {"type": "int", "low": 0}}}, "#/search_space/frozen_layers/high"),
        ({"baseline": {"lr": 1e-4, "frozen_layers": "all"}, "fixed": {}}, "#/baseline/frozen_layers"),
    ],
)
def test_a_range_and_a_baseline_need_a_number(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_study(of_hub(**changes))
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, "unknown_stages")]
