"""The exported file says all, and reading it gives the same bits."""

from dataclasses import replace
from typing import Any

import pytest

from search_spaces import Fault
from service.domain.errors import InvalidInput, NoResult
from service.domain.export import Exported, read_export
from service.domain.parsing import parse_study
from service.domain.records import Study, Trial
from service.domain.states import StudyState, TrialState, ValueKind
from service.export.making import Known
from service.export.making import export as made
from trainer.contract import Facts

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
FACTS = Facts(
    classes=("no", "yes", "0123", "12e4"),
    images={"train": 9, "validation": 3, "test": 0},
    fingerprint="1e" * 32,
    split="0" * 64,
    weights_sha256=None,
)


def study(facts: Facts | None = FACTS) -> Study:
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
    assert exported.config.lr == 1.2345678901234567e-05
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
