"""What the server sees of data and weights before it accepts a study."""

import json
import random
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from PIL import Image

import service.inspection
from search_spaces import Fault
from service import inspection
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.inspection import checked_study, inspect_study
from tests.narrowed import trained, training
from trainer.data.examples import BadData
from trainer.data.images.dataset import listed
from trainer.data.images.listing import scan
from trainer.tasks.images import spec
from trainer.tasks.images.config import ImageData


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


def test_a_new_study_gets_the_precision_of_the_device_unless_it_names_one(folder: Path) -> None:
    made = checked_study(study(folder))
    assert made.fixed == {"image_size": 64, "precision": "auto"} and trained(made.config_for({}, 0)).precision == "auto"
    assert checked_study(made.model_dump(mode="json")) == made, "what the server answers can be posted again"
    named = study(folder) | {"fixed": {"image_size": 64, "precision": "bfloat16"}}
    assert checked_study(named).fixed["precision"] == "bfloat16"
    varied = study(folder)
    varied["search_space"]["precision"] = {"type": "categorical", "choices": ["float32", "tf32"]}
    assert "precision" not in checked_study(varied).fixed


def test_a_stored_or_imported_study_that_names_no_precision_keeps_float32(folder: Path) -> None:
    stored = parse_study(study(folder))
    assert "precision" not in stored.fixed and trained(stored.config_for({}, 0)).precision == "float32"


def test_a_missing_folder_is_refused_unless_only_the_workers_see_it(folder: Path) -> None:
    assert codes(study(folder / "no")) == {("#/data/path", "missing_data")}
    inspect_study(parse_study(study(folder / "no", location="workers")))


ON_THE_SERVER = "does not exist on the server; correct {0}, or write data.location: workers if only the workers can see it"


def test_a_path_that_does_not_exist_is_named_by_its_field(folder: Path) -> None:
    table = folder / "labels.csv"
    table.write_text("path,label\n")
    cases = [
        (study(folder / "no"), "#/data/path", f"the folder that data.path names {ON_THE_SERVER.format('data.path')}"),
        (study(folder / "no.csv"), "#/data/path", f"the table that data.path names {ON_THE_SERVER.format('data.path')}"),
        (study(table, root=str(folder / "no")), "#/data/root", f"the folder that data.root names {ON_THE_SERVER.format('data.root')}"),
    ]
    for document, pointer, sentence in cases:
        assert [(place, message) for place, _, message in faults(document)] == [(pointer, sentence)]
    [(_, _, message)] = faults(study(folder, folder / "no.safetensors"))
    assert message == f"the file that model.weights names {ON_THE_SERVER.format('model.weights')}"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert codes(study(tmp_path)) == {("#/data/path", "empty_data")}


def test_a_file_that_is_no_table_is_refused(folder: Path) -> None:
    assert codes(study(folder / "cat" / "0.png")) == {("#/data/path", "not_a_folder")}


def test_a_folder_without_end_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "LOOK_SECONDS", -1.0)
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


def test_a_batch_size_of_a_preset_that_the_data_does_not_allow_is_attributed_to_the_preset(folder: Path, tmp_path: Path) -> None:
    document = study(folder) | {"preset": "image_head", "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1.0}}}
    with pytest.raises(InvalidInput) as caught:
        checked_study(document)
    found = {fault.pointer: fault.message for fault in caught.value.faults}
    assert set(found) == {f"#/search_space/batch_size/choices/{place}" for place in range(3)}
    assert found["#/search_space/batch_size/choices/0"].endswith(
        "lower it to 16 or less (batch_size is from the preset image_head; to override it, write batch_size under search_space or fixed)"
    )


def test_a_table_is_counted_by_label(folder: Path) -> None:
    table = folder / "labels.csv"
    table.write_text("path,label\n" + "".join(f"{name}/{index}.png,{name}\n" for name in ("cat", "dog") for index in range(10)))
    inspect_study(parse_study(study(table)))
    table.write_text("file,label\na,b\n")
    assert codes(study(table)) == {("#/data/path", "missing_column")}
    assert codes(study(folder / "none.csv")) == {("#/data/path", "missing_data")}


def safetensors(path: Path, shapes: dict[str, list[int]]) -> Path:
    entries, end = dict[str, Any](), 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * prod(shape)
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(end))
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


def test_faults_of_the_files_and_of_the_form_come_in_one_answer(folder: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_study(study(folder / "no", folder / "no.pth") | {"budget": {"trials": 0}, "colour": "red"})
    found = {(fault.pointer, fault.code) for fault in caught.value.faults}
    assert found == {
        ("#/data/path", "missing_data"), ("#/model/weights", "missing_weights"),
        ("#/budget/trials", "greater_than_equal"), ("#/colour", "extra_forbidden"),
    }  # fmt: skip


def test_a_batch_above_the_data_names_the_default_where_none_was_given(folder: Path) -> None:
    space = {"lr": {"type": "float", "low": 0.1, "high": 1.0}}
    (fault,) = faults(study(folder) | {"search_space": space})
    assert fault[:2] == ("#/fixed/batch_size", "batch_above_data")
    assert "its default of 32 is larger than the 16 training images; write `batch_size: 16` under fixed" in fault[2]
    inspect_study(parse_study(study(folder) | {"search_space": space, "fixed": {"image_size": 64, "batch_size": 16}}))


def test_many_looks_at_one_folder_are_one_look(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, begun, go_on = list[int](), threading.Event(), threading.Event()

    def slow(*asked: Any) -> Any:
        looks.append(1)
        begun.set()
        assert go_on.wait(60)
        return scan(*asked)

    monkeypatch.setattr(spec, "scan", slow)
    monkeypatch.setattr(inspection, "KEPT_SECONDS", 1e6)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(inspect_study, parse_study(study(folder))) for _ in range(8)]
        assert begun.wait(60)
        go_on.set()
        for answer in answers:
            answer.result()
    inspect_study(parse_study({**study(folder), "name": "other", "budget": {"trials": 5}}))
    assert len(looks) == 1


def test_a_changed_folder_is_looked_at_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "KEPT_SECONDS", 1e6)
    inspect_study(parse_study(study(folder)))
    for file in sorted((folder / "cat").iterdir())[1:]:
        file.unlink()
    assert ("#/data/path", "class_too_small") in codes(study(folder))


@pytest.mark.parametrize("name", ["two\nlines", "mark\u200f", "bell\x07", "iso\u2066late"])
def test_a_class_name_that_no_study_file_can_hold_is_refused_with_the_class_and_the_folder(folder: Path, name: str) -> None:
    (folder / "dog").rename(folder / name)
    assert ("#/data/path", "foul_class_names") in codes(study(folder))
    data = training(parse_study(study(folder))).data
    assert isinstance(data, ImageData)
    with pytest.raises(BadData, match="rename the folders or labels") as refused:
        listed(data)
    assert ascii(name) in str(refused.value) and str(folder) in str(refused.value)
    for index in range(10):
        Image.new("RGB", (8, 8), (index, 9, 9)).save(folder / name / f"{index}.png")
    listed(data, accepted=True)  # a study that was accepted before goes on


def test_a_class_name_beyond_the_bound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f"a.png,{label}\n" for label in ("b", "c" * 257)))
    assert ("#/data/path", "long_class_names") in codes(study(table))


@pytest.mark.parametrize(("look", "pointer"), [("data_faults", "#/data/path"), ("weights_faults", "#/model/weights")])
def test_a_path_that_never_answers_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch, look: str, pointer: str) -> None:
    """As a mount whose server is gone: the read blocks in the kernel."""
    answers = threading.Event()

    def never(*_: object) -> list[Fault]:
        answers.wait()
        return []

    monkeypatch.setattr(service.inspection, look, never)
    monkeypatch.setattr(service.inspection, "ANSWER_SECONDS", 5.0)
    other = "weights_faults" if look == "data_faults" else "data_faults"
    monkeypatch.setattr(service.inspection, other, lambda *_: [])
    [(found, _, message)] = faults(study(folder, folder / "w.pt"))
    assert found == pointer and "mount that does not respond" in message
    answers.set()
