"""What a server finds in files of texts before it accepts a study: pointers, remedies, and nothing of files that are no data set."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from service import inspection as inspected_data
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.inspection import checked_study, inspect_study
from tests.narrowed import trained, training
from trainer.configuration import resolve_paths
from trainer.tasks.text.data import TextData

Write = Callable[..., Path]
ROWS = ("text,label", *(f"text {number},{'ab'[number % 2]}" for number in range(20)))


@pytest.fixture(autouse=True)
def _each_look_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspected_data, "KEPT_SECONDS", 1e-9)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, *lines: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines))
        return file

    return write


def study(path: Path, **fields: Any) -> dict[str, Any]:
    return {
        "name": "texts",
        "task": "text_classification",
        "data": {"path": str(path), **fields},
        "model": {"name": "owner/model"},
        "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1.0}},
        "fixed": {"batch_size": 4},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "budget": {"trials": 1},
    }


def faults(document: Mapping[str, Any], *roots: Path) -> list[tuple[str, str, str]]:
    try:
        inspect_study(parse_study(document), roots)
    except InvalidInput as error:
        return [(fault.pointer, fault.code, fault.message) for fault in error.faults]
    return []


def test_sound_files_are_accepted(write: Write) -> None:
    train, test = write("train.csv", *ROWS), write("test.csv", "text,label", "other,a", "another,b")
    assert faults(study(train)) == faults(study(train, test=str(test))) == faults(study(train, validation=str(test), test=0.2)) == []


@pytest.mark.parametrize(
    ("lines", "fields", "pointer", "code"),
    [
        (ROWS, {"text": "sentence"}, "#/data/text", "missing_column"), (ROWS, {"target": "intent"}, "#/data/target", "missing_column"),
        (("text,label", "secret,a", "other,a"), {}, "#/data/target", "one_target"), 
        (("text,label", ",a", "b,b"), {}, "#/data/path", "empty_texts"),
        ((*ROWS, "secret text"), {}, "#/data/path", "unfit_rows"), ((*ROWS, "secret,c"), {}, "#/data/path", "class_too_small"),
        ((*ROWS, "secret,A"), {}, "#/data/target", "similar_labels"), (ROWS, {"split": "given"}, "#/data/split", "no_given_split"),
    ],
)  # fmt: skip
def test_faults_name_their_field_and_no_text(write: Write, lines: tuple[str, ...], fields: dict[str, Any], pointer: str, code: str) -> None:
    [(place, found, message)] = faults(study(write("train.csv", *lines), **fields))
    assert (place, found) == (pointer, code) and ";" in message and "secret" not in message


def test_faults_of_a_separate_file_name_its_field(write: Write, tmp_path: Path) -> None:
    train = write("train.csv", *ROWS)
    [(place, code, message)] = faults(study(train, validation=str(tmp_path / "dev.csv")))
    assert (place, code) == ("#/data/validation", "missing_data") and str(tmp_path) not in message
    [(place, code, message)] = faults(study(train, test=str(write("test.csv", "text,label", "hello,secret"))))
    assert (place, code) == ("#/data/target", "label_missing_in_train") and "secret" not in message
    assert message.endswith("; `thaw data inspect FILE` on the server's machine shows the names")


def test_each_file_must_lie_in_a_root(write: Write, tmp_path: Path) -> None:
    train, dev = write("inside/train.csv", *ROWS), write("outside/dev.csv", "text,label", "hello,a", "you,b")
    root = tmp_path / "inside"
    assert faults(study(train), root) == []
    [(place, code, _)] = faults(study(train, validation=str(dev)), root)
    assert (place, code) == ("#/data/validation", "outside_data_roots")
    (root / "dev.csv").symlink_to(dev)
    assert [code for _, code, _ in faults(study(train, validation=str(root / "dev.csv")), root)] == ["outside_data_roots"]


def test_a_test_file_is_a_test_part_for_the_confirmation(write: Write) -> None:
    train, test = write("train.csv", *ROWS), write("test.csv", "text,label", "other,a", "another,b")
    confirmed = {**study(train, test=str(test)), "confirm": {"top": 1, "seeds": 2}}
    assert faults(confirmed) == []
    with pytest.raises(InvalidInput, match="confirm scores"):
        parse_study({**study(train), "confirm": {"top": 1, "seeds": 2}})


def test_relative_paths_of_files_are_those_beside_the_study(tmp_path: Path) -> None:
    document = study(Path("train.csv"), validation="dev.csv", test=0.2)
    resolved = resolve_paths(document, tmp_path / "bad" / "..")  # no such folder: nothing to follow
    assert isinstance(resolved, dict) and resolved["data"] == {
        "path": f"{tmp_path}/train.csv",
        "validation": f"{tmp_path}/dev.csv",
        "test": 0.2,
    }


def test_a_study_keeps_its_paths(write: Write) -> None:
    spec = parse_study(study(write("train.csv", *ROWS), validation="/data/dev.csv"))
    again = type(spec).model_validate_json(spec.model_dump_json())
    assert again == spec and isinstance(data := training(again).data, TextData) and data.validation_path == "/data/dev.csv"
    assert trained(spec.config_for({"lr": 0.5}, 0)).data == training(spec).data


def test_nothing_is_said_of_a_model_folder_outside_the_roots(write: Write, tmp_path: Path) -> None:
    train, root = write("inside/train.csv", *ROWS), tmp_path / "inside"
    outer = write("outside/model/config.json", '{"model_type": "secret"}').parent
    for folder in (outer, tmp_path / "outside" / "absent"):
        with pytest.raises(InvalidInput) as refused:
            checked_study({**study(train), "model": {"name": str(folder)}}, [root])
        [fault] = refused.value.faults
        assert (fault.pointer, fault.code) == ("#/model/name", "outside_data_roots") and "secret" not in fault.message
