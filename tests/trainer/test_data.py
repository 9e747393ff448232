"""What is read from folders and tables, how it is split, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainer import memory
from trainer.data.examples import BadData
from trainer.data.images import dataset, examples
from trainer.data.images.dataset import ImageDataset
from trainer.data.images.examples import Prefetched, Resident, load
from trainer.tasks.images.config import ImageData

CPU = torch.device("cpu")
Paint = Callable[..., Path]


def find(path: Path, **options: float) -> ImageDataset:
    return dataset.find(ImageData(path=str(path), **options))


def pixels_of(dataset: ImageDataset, size: int) -> torch.Tensor:
    images = load(dataset, size, CPU)
    assert isinstance(images, Resident)
    return images.pixels


def table_of(folder: Path, name: str = "all.csv") -> Path:
    rows = [f"{file.relative_to(folder).as_posix()},{file.parent.name}" for file in sorted(folder.rglob("*.png"))]
    table = folder / name
    table.write_text("\n".join(["path,label", *rows]) + "\n")
    return table


def names_by_part(dataset: ImageDataset) -> dict[str, set[str]]:
    parts: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for content in dataset.contents:
        parts[content.part] |= {file.name for file in content.files}
    return parts


def test_classes_are_sorted_and_what_is_hidden_or_no_image_is_passed_over(paint: Paint) -> None:
    root = paint(count=4)
    (root / "red" / ".hidden.png").write_bytes(b"no image")
    (root / "red" / "notes.txt").write_text("no image")
    (root / ".cache").mkdir()
    (root / "readme.png").write_bytes(b"beside the classes")
    (root / "red" / "more").mkdir()
    (root / "red" / "0.png").rename(root / "red" / "more" / "0.PNG")
    dataset = find(root)
    assert dataset.classes == ("blue", "green", "red")
    assert sum(dataset.counts.values()) == 12


def test_a_table_gives_the_same_data_set_as_the_folder(paint: Paint) -> None:
    root = paint(count=5)
    table, folder = find(table_of(root)), find(root)
    assert (table.fingerprint, table.split, table.classes) == (folder.fingerprint, folder.split, folder.classes)


def test_the_split_is_stratified_and_every_image_is_on_one_side(paint: Paint) -> None:
    dataset = find(paint(count=10), validation=0.2, test=0.1)
    assert dataset.counts == {"train": 21, "validation": 6, "test": 3}
    for label in range(3):
        own = [content.part for content in dataset.contents if content.label == label]
        assert (own.count("train"), own.count("validation"), own.count("test")) == (7, 2, 1)


def test_the_split_follows_from_content_and_seed_not_from_names(paint: Paint) -> None:
    root = paint(count=10)
    before = find(root, seed=1)
    for number, file in enumerate(sorted((root / "red").iterdir(), reverse=True)):
        file.rename(root / "red" / f"renamed-{number}.png")
    renamed, other = find(root, seed=1), find(root, seed=2)
    assert (renamed.split, renamed.fingerprint) == (before.split, before.fingerprint)
    assert other.split != before.split and other.fingerprint == before.fingerprint


def test_another_label_or_image_changes_the_fingerprint(paint: Paint) -> None:
    root = paint(count=4)
    before = find(root).fingerprint
    (root / "red" / "3.png").rename(root / "blue" / "moved.png")
    moved = find(root).fingerprint
    (root / "blue" / "moved.png").unlink()
    assert len({before, moved, find(root).fingerprint}) == 3


def test_copies_of_an_image_stay_on_one_side(paint: Paint) -> None:
    root = paint(count=4)
    for number in range(4):
        for copy in range(3):
            shutil.copy(root / "red" / f"{number}.png", root / "red" / f"{number}-copy{copy}.png")
    dataset = find(root, validation=0.25)
    assert dataset.counts == {"train": 3 + 3 + 12, "validation": 1 + 1 + 4, "test": 0}
    parts = names_by_part(dataset)
    sides = [{part for part, names in parts.items() if any(name.startswith(f"red/{number}") for name in names)} for number in range(4)]
    assert all(len(side) == 1 for side in sides)


def test_one_image_under_two_labels_is_refused_and_named(paint: Paint) -> None:
    root = paint(count=4)
    shutil.copy(root / "red" / "1.png", root / "blue" / "twin.png")
    with pytest.raises(BadData, match=r"different labels: blue/twin\.png = red/1\.png"):
        find(root)


def test_a_class_with_too_few_images_is_named(paint: Paint) -> None:
    root = paint(count=4)
    (root / "grey").mkdir()
    shutil.copy(root / "red" / "1.png", root / "grey" / "only.png")
    (root / "red" / "1.png").unlink()
    with pytest.raises(BadData, match=r"too few.*grey has 1"):
        find(root)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: None, "there is no folder"),
        (lambda root: root.mkdir(), "holds no images"),
        (lambda root: root.write_text("x"), "neither a folder"),
        (lambda root: (root / "only").mkdir(parents=True), "holds no images"),
    ],
)  # fmt: skip
def test_a_path_without_classes_is_refused(tmp_path: Path, make: Callable[[Path], object], sentence: str) -> None:
    make(tmp_path / "data")
    with pytest.raises(BadData, match=sentence):
        find(tmp_path / "data")


def test_a_single_class_is_refused(paint: Paint) -> None:
    root = paint(count=2)
    shutil.rmtree(root / "red")
    shutil.rmtree(root / "blue")
    with pytest.raises(BadData, match="one class only"):
        find(root)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("file,label\na.png,x", "no column path"),
        ("a,b\n1,2", "no column path and no column label"),
        ("path,label\na.png", "line 2: label is missing"),
        ("path,label\na.png,x\n,y", "line 3: path is missing"),
        ("path,label\na.png,x,more", "line 2: it has more fields"),
        ("path,label\nC:\\secret.png,x", "line 2: the path begins with a drive letter of Windows"),
        ("path,label\na.txt,x", r"line 2: the path is no image by its suffix \(.txt\)"),
        ('path,label\n"a.png,x', "cannot be read as a table in UTF-8"),
    ],
)  # fmt: skip
def test_an_unfit_row_is_named_with_its_line(tmp_path: Path, rows: str, sentence: str) -> None:
    (tmp_path / "table.csv").write_text(rows)
    with pytest.raises(BadData, match=sentence):
        find(tmp_path / "table.csv")


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes("path,label\nä.png,x".encode("latin-1"))
    with pytest.raises(BadData, match="cannot be read as a table in UTF-8"):
        find(tmp_path / "table.csv")


def test_a_file_that_a_table_names_in_vain_is_named(paint: Paint) -> None:
    root = paint(count=4)
    table = table_of(root)
    (root / "red" / "2.png").unlink()
    with pytest.raises(BadData, match=r"1 of 12 files that all\.csv names cannot be read: line 12: red/2\.png: No such file"):
        find(table)


def test_images_that_cannot_be_decoded_are_all_named(paint: Paint) -> None:
    root = paint(count=4)
    whole = (root / "red" / "0.png").read_bytes()
    (root / "red" / "0.png").write_bytes(whole[: len(whole) // 2])
    (root / "red" / "1.png").write_bytes(b"no image at all")
    (root / "blue" / "2.png").write_bytes(b"")
    with pytest.raises(BadData, match=r"3 of [0-9]+ images cannot be used") as caught:
        load(find(root), 16, CPU)
    reasons = ("red/0.png: truncated", "red/1.png: not an image", "blue/2.png: the file is empty")
    assert all(reason in str(caught.value) for reason in reasons)


def test_no_more_than_twenty_names_are_listed(paint: Paint) -> None:
    root = paint(count=20)
    for number in range(20):
        (root / "red" / f"{number}.png").write_bytes(b"broken %d" % number)
        (root / "blue" / f"{number}.png").write_bytes(b"broken too %d" % number)
    with pytest.raises(BadData, match=r"40 of [0-9]+ images cannot be used.*and 20 more") as caught:
        load(find(root), 16, CPU)
    assert str(caught.value).count(".png") == 20


def test_pixels_are_decoded_once_for_each_content_and_size(paint: Paint) -> None:
    root = paint(count=4)
    first = pixels_of(find(root), 16)
    assert pixels_of(find(root), 16) is first
    assert pixels_of(find(table_of(root)), 16) is first
    assert pixels_of(find(root), 8) is not first
    assert first.shape == (12, 3, 16, 16) and first.dtype == torch.uint8


def test_rows_of_pixels_belong_to_their_files(paint: Paint) -> None:
    dataset = find(paint(count=4))
    pixels = pixels_of(dataset, 16)
    for row, content in enumerate(dataset.contents):
        expected = np.asarray(Image.open(content.files[0].file)).transpose(2, 0, 1)
        assert np.array_equal(pixels[row].numpy(), expected)


@pytest.mark.gpu
def test_images_too_large_for_the_gpu_stay_on_the_host_and_drive_out_none(paint: Paint, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, dataset = torch.device("cuda:0"), find(paint(count=4))
    small = examples.load(dataset, 16, gpu)
    monkeypatch.setattr(memory, "CACHE_SHARE", 50_000 / torch.cuda.mem_get_info(gpu)[0])
    large = examples.load(dataset, 64, gpu)  # 12 images, 147 kB
    assert isinstance(small, Resident) and isinstance(large, Prefetched) and isinstance(large.images, Resident)
    pixels = large.images.pixels
    assert small.pixels.is_cuda and not pixels.is_cuda and not pixels.is_pinned()
    again, rows = examples.load(dataset, 16, gpu), torch.tensor([7, 0, 7])
    assert isinstance(again, Resident) and again.pixels is small.pixels
    assert large.take(rows).is_cuda and torch.equal(large.take(rows).cpu(), pixels[rows])
