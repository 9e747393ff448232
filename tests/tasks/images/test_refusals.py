"""Data that cannot be learned is refused before training: by the server with a pointer and a remedy, and by the check of a worker."""

from pathlib import Path
from typing import Any

import pytest
import torch

from service.domain.errors import InvalidInput
from service.inspection import checked_study
from tests.narrowed import training
from tests.tasks.images.conftest import Table
from trainer.cache import Cache
from trainer.configuration import DataConfig, DatasetInfo, TrainConfig
from trainer.data.examples import BadData, Look
from trainer.preparation import inspect
from trainer.protocol import Checked
from trainer.tasks.capabilities import InspectedData, InspectsData
from trainer.tasks.image_multilabel.config import ImageMultilabelData, ImageMultilabelInfo
from trainer.tasks.image_regression.config import ImageRegressionInfo
from trainer.tasks.images.config import ImageTableData
from trainer.tasks.registry import spec_of

MODEL = {"name": "small_cnn", "weights": "random"}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "image_regression": {"metric": "rmse", "direction": "minimize"},
    "image_multilabel": {"metric": "f1", "direction": "maximize"},
}


def study(task: str, path: Path, **data: Any) -> dict[str, Any]:
    return {
        "name": "one", "task": task, "data": {"path": str(path), **data}, "model": MODEL, "objective": OBJECTIVES[task],
        "search_space": {"lr": {"type": "float", "low": 1e-4, "high": 0.1}}, "fixed": {"image_size": 16, "batch_size": 8, "epochs": 1},
        "budget": {"trials": 1},
    }  # fmt: skip


def checked(task: str, path: Path, **data: Any) -> Checked:
    """What a worker finds in the data."""
    document = {"task": task, "data": {"path": str(path), **data}, "model": MODEL, "image_size": 16, "batch_size": 8}
    config = TrainConfig.model_validate(document)
    return inspect(config, torch.device("cpu"), Cache.none())


def refused(task: str, path: Path, **data: Any) -> tuple[str, str, str, str]:
    """Pointer, code and text of the server's only fault, and the text of the worker's."""
    with pytest.raises(InvalidInput) as by_server:
        checked_study(study(task, path, **data))
    (fault,) = by_server.value.faults
    with pytest.raises(BadData) as by_worker:
        checked(task, path, **data)
    return fault.pointer, fault.code, fault.message, str(by_worker.value)


def with_targets(path: Path, targets: dict[int, str], *, split: dict[int, str] | None = None) -> Path:
    """The table with other targets in some rows, by number, and with a column `split` if parts are given (train where none is)."""
    lines = path.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    for number, target in targets.items():
        rows[number][1] = target
    if split is not None:
        rows = [[*row, split.get(number, "train")] for number, row in enumerate(rows)]
    path.write_text("\n".join([lines[0] + (",split" if split is not None else ""), *(",".join(row) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize(
    ("target", "reason"),
    [("many", "is not a number"), ("NaN", "NaN"), ("inf", "infinite"), ("", "empty"), ("1e999", "infinite"), ("1_000", "is not a number")],
)
def test_a_target_that_is_no_finite_number_is_refused_with_its_line(numbers: Table, target: str, reason: str) -> None:
    pointer, code, text, of_worker = refused("image_regression", with_targets(numbers(), {3: target}))
    assert (pointer, code) == ("#/data/path", "unfit_rows") and "line 5" in text and reason in text and "correct" in text
    assert "line 5" in of_worker and reason in of_worker


def test_equal_targets_are_refused(numbers: Table) -> None:
    pointer, code, text, of_worker = refused("image_regression", with_targets(numbers(), dict.fromkeys(range(80), "7.0")))
    assert (pointer, code) == ("#/data/path", "one_target") and "nothing to learn" in text and "every target is 7" in of_worker


def test_equal_targets_of_the_train_part_are_refused(numbers: Table) -> None:
    parts = {number: "validation" for number in range(20)} | {number: "test" for number in range(20, 40)}
    path = with_targets(numbers(), dict.fromkeys(range(40, 80), "7"), split=parts)
    assert refused("image_regression", path)[1] == "one_target"


def test_a_folder_is_refused(numbers: Table) -> None:
    pointer, code, text, _ = refused("image_regression", numbers().parent)
    assert (pointer, code) == ("#/data/path", "not_a_table") and "columns path and target" in text


def test_a_table_without_the_column_is_refused_with_the_usual_name(labels: Table) -> None:
    path = labels()
    path.write_text(path.read_text().replace("path,target", "path,labels", 1))
    pointer, code, text, _ = refused("image_multilabel", path)
    assert (pointer, code) == ("#/data/path", "missing_column") and "data.columns: {target: labels}" in text
    spec = training(checked_study(study("image_multilabel", path, columns={"target": "labels"})))
    assert spec.data.model_dump()["columns"]["target"] == "labels"


@pytest.mark.parametrize(("target", "found"), [("blue", "one label only (blue)"), ("", "no label")])
def test_fewer_than_two_labels_are_refused(labels: Table, target: str, found: str) -> None:
    pointer, code, text, of_worker = refused("image_multilabel", with_targets(labels(), dict.fromkeys(range(90), target)))
    assert (pointer, code) == ("#/data/path", "one_label") and "two or more" in text and found in of_worker


def test_a_label_in_test_that_train_never_has_is_refused(labels: Table) -> None:
    parts = {number: "validation" for number in range(20)} | {number: "test" for number in range(20, 40)}
    path = with_targets(labels(), {25: "blue|unicorn"}, split=parts)
    pointer, code, text, of_worker = refused("image_multilabel", path)
    assert (pointer, code) == ("#/data/path", "label_missing_in_part") and "unicorn" in of_worker and "train" in text


def test_an_empty_name_and_nearly_equal_names_are_refused(labels: Table) -> None:
    assert "empty label name" in refused("image_multilabel", with_targets(labels(), {0: "blue||red"}))[2]
    assert refused("image_multilabel", with_targets(labels(name="again"), {0: "Blue"}))[1] == "similar_labels"
    assert checked("image_multilabel", with_targets(labels(name="kept"), {0: "Blue", 1: "Blue", 2: "Blue"}), similar_labels="keep")


def info_of(found: DatasetInfo) -> tuple[str, ...]:
    assert isinstance(found, ImageMultilabelInfo)
    return found.labels


def test_another_separator_gives_the_same_labels_and_the_same_split(labels: Table) -> None:
    bars, commas = checked("image_multilabel", labels()), labels(name="semicolons", separator=";")
    other = checked("image_multilabel", commas, label_separator=";")
    assert info_of(bars.facts) == info_of(other.facts) == ("blue", "green", "red")
    assert (bars.facts.fingerprint, bars.facts.split) == (other.facts.fingerprint, other.facts.split)


def test_numbers_that_are_equal_are_one_target_however_they_are_written(numbers: Table) -> None:
    found = [checked("image_regression", with_targets(numbers(name=text), {0: text})).facts for text in ("12", "12.0", "1.2e1")]
    assert len({one.fingerprint for one in found}) == 1
    assert isinstance(found[0], ImageRegressionInfo) and found[0].numbers["train"].min == 12.0


def inspected(task: str, data: DataConfig) -> InspectedData:
    spec = spec_of(task)
    assert isinstance(spec, InspectsData)
    return spec.inspect_data(data, Look())


def test_the_inspection_of_data_shows_targets_and_labels_by_part(numbers: Table, labels: Table) -> None:
    parts = {number: "validation" for number in range(20)}
    data = ImageTableData(path=str(with_targets(numbers(4), {0: "-1", 1: "7.5", 2: "3", 3: "3"}, split={0: "validation"})))
    found = inspected("image_regression", data)
    assert (found.labels, found.measures) == ({}, {"target": [-1.0, 7.5, 3.0, 3.0]})
    path = with_targets(labels(40), {number: "blue|red" if number % 2 else "" for number in range(40)}, split=parts)
    found = inspected("image_multilabel", ImageMultilabelData(path=str(path)))
    assert found.labels == {name: {"train": 10, "validation": 10} for name in ("blue", "red")}
    assert sorted(found.measures["labels of an example"]) == [0.0] * 20 + [2.0] * 20


def test_rare_labels_are_merged_in_the_split_and_said(labels: Table) -> None:
    found = checked("image_multilabel", with_targets(labels(), {0: "blue|rare", 1: "rare", 2: "odd", 3: "odd|rare", 4: "odd"})).facts
    assert isinstance(found, ImageMultilabelInfo) and found.merged_strata == 2
    assert any("rarest labels of 2 strata are too rare" in note for note in found.notes)
