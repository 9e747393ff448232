"""Files that hold no image that can be decoded: refused by name, or left out by every run alike."""

import io
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from tests.trainer.narrowed import image_info
from trainer.cache import Cache
from trainer.data.examples import BadData, MissingData
from trainer.data.images import reading
from trainer.data.images.dataset import listed
from trainer.data.images.decoding import Decoder, Undecodable
from trainer.preparation import Expected, inspect, prepare
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    reading._known.clear()


def config_of(root: Path, **changes: Any) -> ImageClassificationConfig:
    return ImageClassificationConfig(
        data=ImageData(path=str(root), **changes), model=ImageModel(name="small_cnn"), image_size=16, batch_size=4, epochs=1
    )


def photograph(side: int = 64, format: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(5).integers(0, 256, (side, side, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


def damage(root: Path, count: int = 1) -> Path:
    """Spoil so many images: one cut off, one empty, the others no images."""
    spoilt = [photograph()[:900], b"", *(f"text {number}".encode() for number in range(count))]
    for number, content in enumerate(spoilt[:count]):
        (root / "red" / f"bad-{number}.jpg").write_bytes(content)
    return root


def test_a_refusal_names_all_files_with_the_total_and_the_line_to_write(paint: Any) -> None:
    with pytest.raises(BadData) as reported:
        inspect(config_of(damage(paint(), 3)), CPU, Cache.none())
    text = str(reported.value)
    assert text.startswith("3 of 63 images cannot be used: red/bad-0.jpg: truncated") and "unreadable: skip" in text
    assert "bad-1.jpg: the file is empty" in text and "bad-2.jpg: not an image" in text


def test_a_refusal_lists_a_bounded_number_of_names(paint: Any) -> None:
    root = paint()
    for number in range(30):
        (root / "red" / f"bad-{number:02}.jpg").write_bytes(f"text {number}".encode())
    with pytest.raises(BadData, match=r"30 of 90 images cannot be used: .*bad-19\.jpg.*and 10 more\. .*unreadable: skip under data"):
        inspect(config_of(root), CPU, Cache.none())


def test_skipped_files_are_counted_and_named(paint: Any) -> None:
    reported = image_info(inspect(config_of(damage(paint(), 1), unreadable="skip"), CPU, Cache.none()).facts)
    assert reported.unreadable is not None and reported.unreadable.count == 1 and sum(reported.images.values()) == 60
    assert reported.unreadable.examples[0].startswith("red/bad-0.jpg: truncated")
    assert any("1 image is left out" in note and "red/bad-0.jpg: truncated" in note for note in reported.notes)


def test_a_skipped_file_is_not_part_of_fingerprint_split_and_manifest(paint: Any) -> None:
    sound = inspect(config_of(paint()), CPU, Cache.none())
    root = paint(name="copies")
    skipping = inspect(config_of(damage(root), unreadable="skip"), CPU, Cache.none())
    assert skipping.facts.fingerprint == sound.facts.fingerprint and skipping.facts.split == sound.facts.split
    assert skipping.manifest == sound.manifest


def test_more_than_the_limit_are_refused(paint: Any) -> None:
    root = damage(paint(), 3)
    with pytest.raises(
        BadData, match=r"3 of 63 images cannot be used, and data\.unreadable_limit, 1 %, lets 1 be skipped; .*raise unreadable_limit"
    ):
        inspect(config_of(root, unreadable="skip"), CPU, Cache.none())
    reported = image_info(inspect(config_of(root, unreadable="skip", unreadable_limit=0.05), CPU, Cache.none()).facts)
    assert reported.unreadable is not None and reported.unreadable.count == 3


def test_equal_unreadable_files_of_two_classes_are_skipped_not_called_contradictory(paint: Any) -> None:
    root = paint()
    for colour in ("red", "blue"):
        (root / colour / "empty.png").write_bytes(b"")
    reported = image_info(inspect(config_of(root, unreadable="skip", unreadable_limit=0.1), CPU, Cache.none()).facts)
    assert reported.unreadable is not None and reported.unreadable.count == 2
    with pytest.raises(BadData, match=r"2 of 62 images cannot be used.*the file is empty"):
        inspect(config_of(root), CPU, Cache.none())


def test_every_process_and_machine_skips_the_same_files(paint: Any, tmp_path: Path, nothing_decoded: None) -> None:
    config, cache = config_of(damage(paint()), unreadable="skip"), Cache(tmp_path / "cache", 10**9)
    reported = image_info(inspect(config, CPU, cache).facts)
    expected = Expected(reported)
    for place in (cache, Cache(tmp_path / "other", 10**9), Cache.none()):
        reading._known.clear()  # as a new process
        task = prepare(config, CPU, expected, place)
        info = image_info(task.info)
        assert info.unreadable == reported.unreadable and info.images == reported.images


def test_what_is_unreadable_is_found_in_the_cache(paint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, cache = config_of(damage(paint()), unreadable="skip"), Cache(tmp_path / "cache", 10**9)
    listed(config.data, cache)
    reading._known.clear()
    tried, before = list[int](), reading.undecodable

    def counting(contents: Any, decoder: Decoder) -> Any:
        tried.append(len(contents))
        return before(contents, decoder)

    monkeypatch.setattr(reading, "undecodable", counting)
    assert listed(config.data, cache).unreadable and tried == [1], "only the one that was flagged, for its reason"


def test_an_image_that_breaks_after_the_check_is_a_change_not_skipped(paint: Any) -> None:
    config = config_of(paint(), unreadable="skip")
    reported = inspect(config, CPU, Cache.none())
    (Path(config.data.path) / "red" / "3.png").write_bytes(b"broken")
    expected = Expected(reported.facts, reported.manifest)
    with pytest.raises(BadData, match=r"missing: 1 of the 60 that were expected; left out as unreadable: 1"):
        prepare(config, CPU, expected, Cache.none())


def test_a_row_of_a_table_without_its_file_can_be_skipped(paint: Any) -> None:
    root = paint()
    rows = [f"{file.relative_to(root)},{file.parent.name}" for file in sorted(root.rglob("*.png"))]
    (root / "table.csv").write_text("\n".join(["path,label", *rows, "red/gone.png,red", ""]))
    with pytest.raises(BadData, match=r"red/gone\.png: No such file"):
        inspect(config_of(root / "table.csv"), CPU, Cache.none())
    reported = image_info(inspect(config_of(root / "table.csv", unreadable="skip"), CPU, Cache.none()).facts)
    assert reported.unreadable is not None and reported.unreadable.examples == ("red/gone.png: No such file or directory",)


def test_a_failing_disk_is_never_skipped(paint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.data import contents

    def fail(path: Path, most_bytes: int) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(contents, "open_regular", fail)
    contents._digests.clear()
    with pytest.raises(MissingData, match=r"60 of 60 files cannot be read: .*Input/output error; and 57 more$") as caught:
        listed(ImageData(path=str(paint()), unreadable="skip", unreadable_limit=1.0))
    assert str(caught.value).count("Input/output error") == 3


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_cut_file_is_called_truncated_or_damaged(format: str, share: float) -> None:
    content = photograph(format=format)
    with pytest.raises(
        Undecodable, match="truncated" if format in ("JPEG", "PNG", "WEBP", "BMP", "GIF") else "truncated|damaged|not an image"
    ):
        Decoder().square(content[: int(share * len(content))], 16)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_png_with_a_large_text_is_read(zipped: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * (8 * 2**20), zip=zipped)
    assert np.array_equal(Decoder().square(photograph(format="PNG", pnginfo=info), 64), Decoder().square(photograph(format="PNG"), 64))


def test_a_png_whose_text_is_a_bomb_is_refused_for_it() -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"zTXt", b"bomb\0\0" + zlib.compress(b"\0" * (200 * 2**20)))
    with pytest.raises(Undecodable, match=r"text chunks .* take more than 64 MB"):
        Decoder().square(photograph(format="PNG", pnginfo=info), 16)


def test_the_limit_of_pixels_is_a_setting_that_the_refusal_names(paint: Any, bomb: Any) -> None:
    root = paint(side=40)
    with pytest.raises(BadData, match=r"0\.png: too large: 40 x 40 pixels, at most 0\.001 megapixels are decoded; .*data\.max_megapixels"):
        inspect(config_of(root, max_megapixels=0.001), CPU, Cache.none())
    with pytest.raises(Undecodable, match="truncated"):
        Decoder.of(ImageData(path="x", max_megapixels=400)).square(bomb(14_000, 14_000), 16)


def test_one_bad_file_of_a_real_upload_is_skipped(shared_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "digits"
    shutil.copytree(shared_data / "sign-digits", root)
    image = sorted(root.rglob("*.*"))[5]
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    reported = image_info(inspect(config_of(root, unreadable="skip"), CPU, Cache.none()).facts)
    assert reported.unreadable is not None and reported.unreadable.count == 1 and "truncated" in reported.unreadable.examples[0]
