"""Where pixels come from: the cache, this process's memory, or other processes' work. They are always the same pixels."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainer.cache import Cache, CacheKey
from trainer.data.examples import BadData
from trainer.data.images import dataset, examples
from trainer.data.images.dataset import ImageDataset
from trainer.data.images.examples import Resident
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData

CPU = torch.device("cpu")
PLENTY = 10**9
ROOT = Path(__file__).resolve().parents[2]
Paint = Callable[..., Path]
Configure = Callable[..., ImageClassificationConfig]


pytestmark = pytest.mark.usefixtures("nothing_decoded")


def find(path: Path, **options: float) -> ImageDataset:
    return dataset.find(ImageData(path=str(path), **options))


def load(dataset: ImageDataset, cache: Cache, size: int = 16) -> Resident:
    """As a process that has decoded nothing yet."""
    examples._kept.clear()
    images = examples.load(dataset, size, CPU, cache)
    assert isinstance(images, Resident)
    return images


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("pixels/*"))


def test_pixels_are_the_same_with_and_without_a_cache(paint: Paint, tmp_path: Path) -> None:
    dataset = find(paint(count=4))
    plain, built = load(dataset, Cache.none()), load(dataset, Cache(tmp_path / "cache", PLENTY))
    found = load(dataset, Cache(tmp_path / "cache", PLENTY))
    assert (plain.origin, built.origin, found.origin) == ("decoded", "decoded", "cached")
    assert torch.equal(plain.pixels, built.pixels) and torch.equal(plain.pixels, found.pixels)
    assert torch.equal(plain.keys, found.keys)


def test_what_is_cached_is_not_decoded_again(paint: Paint, tmp_path: Path) -> None:
    root = paint(count=4)
    dataset = find(root)
    before = load(dataset, Cache(tmp_path / "cache", PLENTY)).pixels
    shutil.rmtree(root)  # nothing is left to decode
    assert torch.equal(load(dataset, Cache(tmp_path / "cache", PLENTY)).pixels, before)


def test_the_second_run_of_a_process_is_told_that_nothing_was_decoded_for_it(paint: Paint) -> None:
    dataset = find(paint(count=4))
    assert [examples.load(dataset, 16, CPU).origin for _ in range(3)] == ["decoded", "cached", "cached"]


def test_rows_are_taken_in_the_order_asked_for(paint: Paint, tmp_path: Path) -> None:
    dataset = find(paint(count=4))
    rows = torch.tensor([11, 0, 3, 3])
    for images in (load(dataset, Cache.none()), load(dataset, Cache(tmp_path / "cache", PLENTY))):
        taken = images.take(rows)
        assert taken.dtype == torch.uint8 and torch.equal(taken, torch.stack([images.pixels[row] for row in rows.tolist()]))


def test_a_batch_that_is_changed_leaves_the_images_as_they_are(paint: Paint, tmp_path: Path) -> None:
    images = load(find(paint(count=4)), Cache(tmp_path / "cache", PLENTY))
    before = images.pixels.clone()
    images.take(torch.arange(12)).zero_()
    assert torch.equal(images.pixels, before)


def test_changed_data_and_another_size_are_other_entries(paint: Paint, tmp_path: Path) -> None:
    root, cache = paint(count=4), Cache(tmp_path / "cache", PLENTY)
    load(find(root), cache)
    load(find(root), cache, size=8)
    assert len(entries(tmp_path / "cache")) == 2
    shutil.copy(root / "red" / "1.png", root / "red" / "0.png")  # one content less
    changed = load(find(root), cache)
    assert changed.origin == "decoded" and len(changed.pixels) == 11 and len(entries(tmp_path / "cache")) == 3


def test_labels_split_and_names_are_not_part_of_what_pixels_are_known_by(paint: Paint, tmp_path: Path) -> None:
    root, cache = paint(count=4), Cache(tmp_path / "cache", PLENTY)
    load(find(root, seed=1), cache)
    (root / "red").rename(root / "crimson")
    assert load(find(root, seed=2, validation=0.5), cache).origin == "cached"


def test_a_damaged_entry_is_decoded_again(paint: Paint, tmp_path: Path) -> None:
    dataset = find(paint(count=4))
    before = load(dataset, Cache(tmp_path / "cache", PLENTY)).pixels.clone()
    (entry,) = entries(tmp_path / "cache")
    content = bytearray(entry.read_bytes())
    content[-100] ^= 255
    entry.write_bytes(content)
    again = load(dataset, Cache(tmp_path / "cache", PLENTY))
    assert again.origin == "decoded" and torch.equal(again.pixels, before)


def test_images_that_cannot_be_decoded_are_named_and_leave_no_entry(paint: Paint, tmp_path: Path) -> None:
    root = paint(count=4)
    (root / "red" / "1.png").write_bytes(b"no image at all")
    with pytest.raises(BadData, match=r"1 of [0-9]+ images cannot be used: red/1\.png: not an image"):
        load(find(root), Cache(tmp_path / "cache", PLENTY))
    assert entries(tmp_path / "cache") == []


def test_a_file_that_changes_while_it_is_read_is_named(paint: Paint, tmp_path: Path) -> None:
    root = paint(count=4)
    dataset = find(root)
    shutil.copy(root / "red" / "1.png", root / "red" / "0.png")
    with pytest.raises(BadData, match=r"red/0\.png: it changed while it was read"):
        load(dataset, Cache(tmp_path / "cache", PLENTY))


def test_a_cache_without_room_leaves_the_pixels_in_memory(paint: Paint, tmp_path: Path) -> None:
    dataset = find(paint(count=4))
    images = load(dataset, Cache(tmp_path / "cache", 5000))  # 12 images of 768 bytes, and a page
    assert images.origin == "decoded" and entries(tmp_path / "cache") == []


@pytest.mark.parametrize("completed", [True, False])
def test_what_another_process_is_building_is_waited_for(paint: Paint, tmp_path: Path, completed: bool) -> None:
    dataset = find(paint(count=4))
    theirs, expected = Cache(tmp_path / "cache", PLENTY), load(dataset, Cache.none()).pixels
    draft = theirs.begin(examples.key_of(dataset, 16), expected.shape, expected.dtype)
    assert draft is not None

    def build() -> None:
        with draft:
            time.sleep(0.2)
            draft.tensor.copy_(expected)
            if completed:
                draft.commit()

    builder = threading.Thread(target=build)
    builder.start()
    images = load(dataset, Cache(tmp_path / "cache", PLENTY))
    builder.join()
    assert images.origin == ("cached" if completed else "decoded") and torch.equal(images.pixels, expected)


def test_the_key_names_the_versions_that_decode(paint: Paint) -> None:
    key = examples.key_of(find(paint(count=4)), 16)
    assert {"contents", "size", "decoding", "pillow", "codecs"} == key.facts.keys()
    assert CacheKey(key.kind, {**key.facts, "pillow": "0"}).digest != key.digest


def test_a_trainer_keeps_its_cache_where_it_is_told(configure: Configure, tmp_path: Path) -> None:
    folder, config = tmp_path / "cache", configure().model_dump(mode="json")
    command = [sys.executable, "-m", "trainer", "--threads", "1", "--device", "cpu", "--cache", str(folder), "--cache-bytes", "1000000"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"order": "check", "config": config}) + "\n")
        process.stdin.flush()
        reported = [json.loads(process.stdout.readline())["kind"] for _ in range(3)]
        process.kill()
    assert reported == ["ready", "checked", "ready"] and len(entries(folder)) == 1
