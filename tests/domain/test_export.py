"""The exported file says all, and reading it gives the same bits."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from search_spaces import Fault
from service.domain.errors import InvalidInput, NoResult
from service.domain.export import Confirmed, Exported, Origin, Point, Reached, read_export
from service.domain.parsing import parse_study
from service.domain.records import ReportedMetric, Study, Trial
from service.domain.states import StudyState, TrialState, ValueKind
from service.domain.verdict import Compared, Estimate, Optimism, Price
from service.exports.configuration import Known, requirements
from service.exports.configuration import export as made
from tests.narrowed import trained
from trainer.targets.classes.card import ByClass, ClassSummary, Mistake
from trainer.tasks.image_classification.config import ImageClassificationInfo
from trainer.tasks.images.config import NearDuplicates

SPEC = parse_study(
    {
        "name": "1e5",
        "data": {"path": "/data/pets: the 'best'"},
        "model": {"name": "resnet18"},
        "search_space": {"lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True}},
        "fixed": {"image_size": 64},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "budget": {"trials": 3},
    }
)
FACTS = ImageClassificationInfo(
    classes=("no", "yes", "0123", "12e4"),
    images={"train": 9, "validation": 3, "test": 0},
    fingerprint="1e" * 32,
    split="0" * 64,
    weights_sha256=None,
)


def study(facts: ImageClassificationInfo | None = FACTS) -> Study:
    return Study(
        id="12e4567890123456", name="1e5", state=StudyState.COMPLETE, reason=None, spec=SPEC, facts=facts, created=3, seq=9,
        created_at=0.0, started_at=0.0, finished_at=1.0,
    )  # fmt: skip


def trial(value: float | None = 0.1 + 0.2, duplicate_of: int | None = None) -> Trial:
    return Trial(
        id=5, study="12e4567890123456", number=2, state=TrialState.COMPLETE, params={"lr": 1.2345678901234567e-05}, value=value,
        value_kind=ValueKind.FINITE, metrics={"accuracy": 0.1 + 0.2, "loss": float("nan")}, step=5, attempt=1, reason=None, detail=None,
        worker="w", duplicate_of=duplicate_of, source="sampler", changed=9, checkpoints=(), result={"environment": {"threads": "2"}},
        queued_at=0.0, started_at=0.0, finished_at=1.0,
    )  # fmt: skip


def export(of: Study, best: Trial, **known: Any) -> Exported:
    return made(of, best, Known(**{"note": "Not confirmed: a test.", **known}))


@pytest.mark.parametrize("write", [Exported.to_yaml, Exported.to_json])
def test_reading_the_file_gives_the_same_bits(write: object) -> None:
    exported = export(study(), trial())
    assert callable(write)
    assert read_export(write(exported)) == exported
    assert trained(exported.config).lr == 1.2345678901234567e-05
    assert exported.reached.value == 0.1 + 0.2


def test_what_was_read_in_place_of_being_computed_is_in_the_file() -> None:
    read = replace(trial(), result={"reuse": {"pixels": "cached", "depth": 5, "validation_depth": 9, "place": "disk", "lanes": 1}})
    assert export(study(), read).depths == (5, 9)
    assert export(study(), trial()).depths is None


def test_the_seed_is_that_of_the_trial_that_was_trained() -> None:
    assert export(study(), trial()).config.seed == SPEC.seed_of(2)
    assert export(study(), trial(duplicate_of=1)).config.seed == SPEC.seed_of(1)


def test_numbers_that_are_not_finite_are_left_out() -> None:
    assert export(study(), trial()).reached.metrics == {"accuracy": 0.1 + 0.2}


def test_without_a_result_there_is_nothing_to_export() -> None:
    with pytest.raises(NoResult):
        export(study(), trial(value=None))
    with pytest.raises(NoResult):
        export(study(facts=None), trial())


def faults(text: str) -> list[Fault]:
    with pytest.raises(InvalidInput) as caught:
        read_export(text)
    return list(caught.value.faults)


def test_another_file_is_told_apart_from_a_damaged_one() -> None:
    assert [fault.code for fault in faults("name: a study")] == ["not_an_export"]
    damaged = export(study(), trial()).to_yaml().replace("batch_size: 32", "batch_size: 0")
    assert [fault.pointer for fault in faults(damaged)] == ["#/config/batch_size"]
    assert [fault.code for fault in faults("a: [")] == ["malformed_yaml"]


def test_every_field_is_documented() -> None:
    documented = {"summary"} | set(re.findall(r"`([a-z_0-9]+)`", (Path(__file__).parents[2] / "docs" / "export.md").read_text()))
    models: list[type[BaseModel]] = [
        Exported,
        Origin,
        Reached,
        ClassSummary,
        ByClass,
        Mistake,
        Point,
        Confirmed,
        Compared,
        Optimism,
        Price,
        Estimate,
        ImageClassificationInfo,
        NearDuplicates,
    ]
    assert {name for model in models for name in model.model_fields} <= documented


def test_a_file_of_the_first_schema_is_read_and_says_that_nothing_is_known_of_a_confirmation() -> None:
    added = {"note", "confirmed", "lock", "cost", "curve", "summary", "manifest"}
    old = export(study(), replace(trial(), result={"environment": {"torch": "2.14.1+cu130", "threads": "2"}}))
    document = {**json.loads(old.model_dump_json(exclude=added)), "schema_version": 1}
    read = read_export(json.dumps(document))
    assert read.config == old.config and read.reached == old.reached and read.depths == old.depths
    assert read.confirmed is None and "schema version 1, which records no confirmation" in read.note
    assert read.lock == {"torch": "2.14.1"}
    assert [fault.pointer for fault in faults(json.dumps({**document, "schema_version": 3}))]


def test_what_is_not_known_yet_stands_at_the_top() -> None:
    lines = export(study(), trial()).to_yaml().splitlines()
    assert lines[0] == "# Not confirmed: a test."
    assert [line.partition(":")[0] for line in lines[2:6]] == ["kind", "schema_version", "note", "confirmed"]


def test_a_learning_curve_holds_what_is_finite_and_64_epochs_at_most() -> None:
    metrics = [ReportedMetric(step=step, name=name, value=step / 500, attempt=1) for step in range(1, 501) for name in ("accuracy", "loss")]
    metrics += [
        ReportedMetric(step=501, name="accuracy", value=float("nan"), attempt=1),
        ReportedMetric(step=501, name="loss", value=0.5, attempt=1),
    ]
    curve = export(study(), trial(), metrics=metrics).curve
    assert len(curve) <= 64 and (curve[0].step, curve[-1].step) == (1, 500)
    assert curve[0].metrics == {"accuracy": 0.002, "loss": 0.002}


def test_classes_fare_as_the_confusion_matrix_says() -> None:
    matrix = ((5, 1, 0, 0), (3, 1, 0, 0), (0, 0, 2, 0), (0, 0, 0, 0))
    summary = export(study(), replace(trial(), result={"confusion_matrix": matrix})).summary
    assert isinstance(summary, ClassSummary)
    found = summary.by_class
    assert found is not None and found.confusion_matrix == matrix
    assert found.recall == {"no": 5 / 6, "yes": 0.25, "0123": 1.0, "12e4": 0.0}
    assert [(one.actual, one.predicted, one.images) for one in found.mistakes] == [("yes", "no", 3), ("no", "yes", 1)]


def test_a_matrix_of_other_classes_is_left_out() -> None:
    summary = export(study(), replace(trial(), result={"confusion_matrix": ((5, 1), (3, 1))})).summary
    assert isinstance(summary, ClassSummary)
    assert summary.by_class is None


def test_the_lock_is_a_requirements_file_whatever_a_file_says() -> None:
    environment = {
        "torch": "2.14.1+cu130",
        "numpy": "2.4.6",
        "pillow": "1\n--index-url http://evil.example",
        "python": "3.11.7",
        "thawline": "0.1",
    }
    lines = requirements(export(study(), replace(trial(), result={"environment": environment}))).splitlines()
    assert "torch==2.14.1" in lines and "numpy==2.4.6" in lines
    assert all(re.fullmatch(r"#.*|[a-z]+==[\w.!-]+", line) for line in lines), lines
