"""What the server sees of data and weights before it accepts a study."""

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from PIL import Image

from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.inspection import images, inspect_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "pets" / name / f"{index}.png")
    return tmp_path / "pets"


def study(path: Path, weights: Path | None = None, **data: Any) -> dict[str, Any]:
    return {
        "name": "pets",
        "data": {"path": str(path), "validation": 0.2, **data},
        "model": {"name": "squeezenet1_1", "weights": str(weights) if weights else None},
        "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1.0}, "batch_size": {"type": "categorical", "choices": [4, 16]}},
        "fixed": {"image_size": 64},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "budget": {"trials": 1},
    }


def faults(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    with pytest.raises(InvalidInput) as caught:
        inspect_study(parse_study(document))
    return ((fault.pointer, fault.code, fault.message) for fault in caught.value.faults)


def codes(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(pointer, code) for pointer, code, _ in faults(document)}


def test_a_sound_folder_is_accepted(folder: Path) -> None:
    inspect_study(parse_study(study(folder)))


def test_a_missing_folder_is_refused_unless_only_the_workers_see_it(folder: Path) -> None:
    assert codes(study(folder / "no")) == {("#/data/path", "missing_data")}
    inspect_study(parse_study(study(folder / "no", location="workers")))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert codes(study(tmp_path)) == {("#/data/path", "empty_data")}


def test_a_file_that_is_no_table_is_refused(folder: Path) -> None:
    assert codes(study(folder / "cat" / "0.png")) == {("#/data/path", "not_a_folder")}


def test_a_folder_without_end_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LOOK_SECONDS", -1.0)
    assert codes(study(folder)) == {("#/data/path", "slow_data")}


def test_a_class_with_too_few_images_is_named(folder: Path) -> None:
    (folder / "bird").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "bird" / "only.png")
    [(pointer, code, message)] = faults(study(folder))
    assert (pointer, code) == ("#/data/path", "class_too_small")
    assert "bird" in message


def test_one_class_is_no_classification(folder: Path) -> None:
    for file in (folder / "dog").iterdir():
        file.unlink()
    (folder / "dog").rmdir()
    assert codes(study(folder)) == {("#/data/path", "one_class")}


def test_a_batch_larger_than_the_training_images_is_refused(folder: Path) -> None:
    assert codes(study(folder, validation=0.4)) == {("#/search_space/batch_size/choices/1", "batch_above_data")}


def test_a_table_is_counted_by_label(folder: Path) -> None:
    table = folder / "labels.csv"
    table.write_text("path,label\n" + "".join(f"{name}/{index}.png,{name}\n" for name in ("cat", "dog") for index in range(10)))
    inspect_study(parse_study(study(table)))
    table.write_text("file,label\na,b\n")
    assert codes(study(table)) == {("#/data/path", "missing_column")}
    assert codes(study(folder / "none.csv")) == {("#/data/path", "missing_data")}


def safetensors(path: Path, shapes: dict[str, list[int]]) -> Path:
    header = json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_weights_of_the_model_are_accepted(folder: Path, shared_data: Path) -> None:
    inspect_study(parse_study(study(folder, shared_data / "weights" / "squeezenet1_1-imagenet-features.safetensors")))


def test_weights_of_another_network_are_refused_with_the_names(folder: Path, shared_data: Path) -> None:
    [(pointer, code, message)] = faults(study(folder, shared_data / "weights" / "mobilenet_v2-imagenet.safetensors"))
    assert (pointer, code) == ("#/model/weights", "unfit_weights")
    assert "features.0.weight" in message
    assert "missing" in message
    assert "unexpected" in message


def test_a_weights_file_that_is_missing_or_no_such_thing_is_refused(folder: Path, tmp_path: Path) -> None:
    assert codes(study(folder, tmp_path / "none.safetensors")) == {("#/model/weights", "missing_weights")}
    for name in ("a.safetensors", "a.pth"):
        (tmp_path / name).write_bytes(b"\xff" * 64)
        assert codes(study(folder, tmp_path / name)) == {("#/model/weights", "unreadable_weights")}


def test_a_tensor_of_another_shape_is_named(folder: Path, tmp_path: Path) -> None:
    [(_, code, message)] = faults(study(folder, safetensors(tmp_path / "w.safetensors", {"features.0.weight": [1, 2, 3]})))
    assert code == "unfit_weights"
    assert "1 of another shape (features.0.weight)" in message


def test_a_state_dict_is_read_without_running_what_it_holds(folder: Path, tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "good.pth")
    inspect_study(parse_study(study(folder, tmp_path / "good.pth")))

    class Malice:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "pwned",)

    torch.save({"features.0.weight": Malice()}, tmp_path / "bad.pth")
    assert codes(study(folder, tmp_path / "bad.pth")) == {("#/model/weights", "unreadable_weights")}
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_damaged_weights_file_is_a_fault_whatever_its_damage(folder: Path, tmp_path: Path, suffix: str) -> None:
    sound = tmp_path / f"sound.{suffix}"
    if suffix == "pth":
        torch.save({"features.0.weight": torch.zeros(1, 2), "features.0.bias": torch.zeros(1)}, sound)
    else:
        safetensors(sound, {"features.0.weight": [1, 2], "features.0.bias": [1]})
    content, chance, damaged = sound.read_bytes(), random.Random(7), tmp_path / f"damaged.{suffix}"  # noqa: S311  (the same each time)
    for _ in range(300):
        spoilt = bytearray(content[: chance.randrange(len(content))] if chance.random() < 0.3 else content)
        for _ in range(chance.randrange(1, 4) if spoilt else 0):
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
        damaged.write_bytes(spoilt)
        assert {pointer for pointer, _ in codes(study(folder, damaged))} == {"#/model/weights"}


@pytest.mark.parametrize(
    "header", [b'{"a": {"shape": [Infinity]}}', b'{"a": {"shape": 1}}', b"[1]", b"[" * 5_000, b'{"a": {"shape": ["x"]}}']
)
def test_a_safetensors_header_that_is_none_is_a_fault(folder: Path, tmp_path: Path, header: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert codes(study(folder, tmp_path / "w.safetensors")) == {("#/model/weights", "unreadable_weights")}


def test_a_weights_name_too_long_for_the_disk_is_a_missing_file(folder: Path) -> None:
    assert codes(study(folder, folder / f"{'w' * 400}.pt")) == {("#/model/weights", "missing_weights")}
