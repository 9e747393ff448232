"""Images of more than 8 bits a sample: scaled by one range for all, which is found once."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.trainer.narrowed import image_info, image_inputs
from trainer.cache import Cache
from trainer.checkpoints import digest
from trainer.data.examples import BadData
from trainer.data.images import dataset, examples
from trainer.data.images.dataset import find
from trainer.data.images.decoding import Decoder, Undecodable
from trainer.data.images.examples import load
from trainer.preparation import Expected, inspect, prepare
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.images.config import ImageData, ImageModel, PixelRange

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(4)


def deep_png(samples: NDArray[np.uint16]) -> bytes:
    """A 16-bit PNG of grey [H, W], colours [H, W, 3], grey with transparency [H, W, 2] or colours with it [H, W, 4]."""
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    rows = samples.astype(">u2").reshape(len(samples), -1)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)


def tiff(samples: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(samples).save(stream, "TIFF", **options)
    return stream.getvalue()


def noise(side: int = 16, *, low: int = 0, high: int = 240, channels: int = 0) -> NDArray[np.uint16]:
    return RANDOM.integers(low, high + 1, (side, side, channels) if channels else (side, side)).astype(np.uint16)


def folder_of(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def dim(root: Path, count: int = 10, **options: int) -> Path:
    """Two classes of 16-bit images whose samples lie between 0 and 240."""
    files = {f"{name}/{number}.png": deep_png(noise(**options)) for name in ("a", "b") for number in range(count)}
    return folder_of(root, files)


def config_of(root: Path, **changes: Any) -> ImageClassificationConfig:
    return ImageClassificationConfig(
        data=ImageData(path=str(root), **changes), model=ImageModel(name="small_cnn"), image_size=16, batch_size=4, epochs=1
    )


def test_a_small_range_of_16_bits_fills_the_range_of_8_bits(tmp_path: Path) -> None:
    found = find(ImageData(path=str(dim(tmp_path))))
    assert found.pixel_range is not None and (found.pixel_range.low, found.pixel_range.high) == (0, 240)
    assert found.pixel_range.images == 20 and found.pixel_range.source == "training_images"
    pixels = load(found, 16, CPU).pixels  # type: ignore[union-attr]
    assert pixels.min() == 0 and pixels.max() == 255 and pixels.float().std() > 60


def test_the_range_is_that_of_the_training_images_and_others_are_clipped(tmp_path: Path) -> None:
    root = dim(tmp_path)
    first = find(ImageData(path=str(root)))
    outside = next(content for content in first.contents if content.part == "validation").files[0].file
    outside.write_bytes(deep_png(noise(high=60_000)))
    found = find(ImageData(path=str(root)))
    part = {content.files[0].name: content.part for content in found.contents}
    name = outside.relative_to(root).as_posix()
    assert found.pixel_range is not None
    if part[name] == "train":  # another content has another rank
        assert found.pixel_range.high > 50_000
    else:
        assert found.pixel_range.high <= 240 and found.pixel_range.clipped is not None
        assert found.pixel_range.clipped.count == 1 and found.pixel_range.clipped.examples == (name,)


def test_a_declared_depth_takes_the_place_of_the_range(tmp_path: Path) -> None:
    root = dim(tmp_path, low=100, high=5_000)
    found = find(ImageData(path=str(root), bit_depth=12))
    assert found.pixel_range is not None and (found.pixel_range.low, found.pixel_range.high) == (0, 4095)
    assert found.pixel_range.source == "bit_depth" and found.pixel_range.clipped is not None and found.pixel_range.clipped.count == 20
    assert any("clipped" in note for note in inspect(config_of(root, bit_depth=12), CPU, Cache.none()).facts.notes)


@pytest.mark.parametrize("channels", [0, 2, 3, 4])
def test_every_kind_of_16_bit_png_is_scaled(channels: int) -> None:
    samples = noise(high=4095, channels=channels)
    if channels in (2, 4):
        samples[..., -1] = 65_535
    decoder = Decoder(scale=(0, 4095))
    grey = channels in (0, 2)
    colours = np.repeat(samples[..., None] if channels == 0 else samples[..., :1], 3, axis=2)
    expected = np.rint((colours if grey else samples[..., :3]) * (255 / 4095))
    assert np.abs(decoder.square(deep_png(samples), 16) - expected).max() == 0
    assert decoder.sample_range(deep_png(samples)) is not None


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_every_kind_of_deep_tiff_is_scaled(kind: type[np.generic], compression: str) -> None:
    samples: np.ndarray[Any, Any] = noise(high=200).astype(kind) + (0 if kind is np.uint16 else -100)
    content = tiff(samples, compression=compression)
    low, high = float(samples.min()), float(samples.max())
    assert Decoder().sample_range(content) == (low, high)
    expected = np.rint((samples.astype(float) - low) * (255 / (high - low)))
    assert np.array_equal(Decoder(scale=(low, high)).square(content, 16)[..., 0], expected)


def test_a_deep_image_is_still_turned_upright() -> None:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 3  # by half a turn
    samples = noise(high=200)
    Image.fromarray(samples).save(stream, "PNG", exif=exif)
    assert np.array_equal(Decoder(scale=(0, 255)).square(stream.getvalue(), 16)[..., 0], samples[::-1, ::-1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_float_image_with_nan_is_refused_by_its_name(tmp_path: Path, bad: float) -> None:
    root = dim(tmp_path)
    samples = noise().astype(np.float32)
    samples[3, 3] = bad
    folder_of(root, {"a/broken.tif": tiff(samples)})
    with pytest.raises(BadData, match=r"1 of 21 images .*a/broken\.tif: some pixels are NaN or infinite"):
        inspect(config_of(root), CPU, Cache.none())


def test_a_tiff_of_several_pages_is_refused_by_its_name(tmp_path: Path, paint: Any) -> None:
    pages = [Image.fromarray(noise(channels=3).astype(np.uint8)) for _ in range(3)]
    pages[0].save(paint() / "red" / "stack.tiff", save_all=True, append_images=pages[1:])
    with pytest.raises(BadData, match=r"red/stack\.tiff: a TIFF of 3 pages"):
        find(ImageData(path=str(tmp_path / "squares")))


def test_a_smaller_copy_of_the_first_page_is_no_second_image() -> None:
    stream = io.BytesIO()
    large, small = Image.fromarray(noise(channels=3).astype(np.uint8)), Image.new("RGB", (8, 8))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    large.save(stream, "TIFF", save_all=True, append_images=[small])
    content = stream.getvalue()
    with Image.open(io.BytesIO(content)) as image:
        image.seek(1)
        if image.tag_v2.get(254) != 1:  # type: ignore[attr-defined]
            pytest.skip("this Pillow writes no NewSubfileType")
    assert np.array_equal(Decoder().square(content, 16), np.asarray(large))


def test_8_bit_images_beside_deep_ones_keep_their_pixels(tmp_path: Path) -> None:
    root = dim(tmp_path)
    plain = np.asarray(Image.fromarray(noise(channels=3).astype(np.uint8)))
    Image.fromarray(plain).save(root / "a" / "plain.png")
    reported = image_info(inspect(config_of(root), CPU, Cache.none()).facts)
    assert reported.pixel_range is not None and reported.pixel_range.images == 20
    assert any("The other 1 has 8 bits and is not changed" in note for note in reported.notes)
    found = find(ImageData(path=str(root)))
    row = next(row for row, content in enumerate(found.contents) if content.files[0].name == "a/plain.png")
    pixels = load(found, 16, CPU).take(torch.tensor([row]))[0]
    assert np.array_equal(pixels.permute(1, 2, 0), plain)


def test_data_sets_of_8_bits_keep_keys_and_facts_of_version_0_1(paint: Any) -> None:
    found = find(ImageData(path=str(paint())))
    assert found.pixel_range is None and set(found.decoder.key) == {"decoding", "pillow", "codecs"} and found.decoder.key["decoding"] == 1
    assert set(examples.key_of(found, 16).facts) == {"contents", "size", "decoding", "pillow", "codecs"}


def test_the_cache_key_has_the_scale(tmp_path: Path) -> None:
    root, cache = dim(tmp_path / "data"), Cache(tmp_path / "cache", 10**9)
    found = find(ImageData(path=str(root)), cache)
    declared = find(ImageData(path=str(root), bit_depth=16), cache)
    assert examples.key_of(found, 16).digest != examples.key_of(declared, 16).digest
    assert not torch.equal(load(found, 16, CPU, cache).take(torch.arange(4)), load(declared, 16, CPU, cache).take(torch.arange(4)))


def test_a_run_takes_the_range_of_the_facts_and_does_not_look_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(dim(tmp_path))
    facts = image_info(inspect(config, CPU, Cache.none()).facts)
    monkeypatch.setattr(Decoder, "sample_range", lambda self, content: pytest.fail("the range is known"))
    dataset._sample_ranges.cache_clear()
    given = PixelRange(low=0, high=1000, source="training_images")
    task = prepare(config, CPU, Expected(facts.model_copy(update={"pixel_range": given})), Cache.none())
    assert image_info(task.info).pixel_range == given
    assert 50 < image_inputs(task.examples).images.take(task.training).max() <= 62


def test_studies_of_version_0_1_keep_their_pixels(tmp_path: Path) -> None:
    """Their facts have no range, and earlier trials of such a study were trained on the upper 8 of 16 bits."""
    config = config_of(dim(tmp_path, low=0, high=60_000))
    facts = inspect(config, CPU, Cache.none()).facts.model_copy(update={"pixel_range": None})
    task = prepare(config, CPU, Expected(facts), Cache.none())
    content = find(config.data).contents[0]
    assert image_info(task.info).pixel_range is None
    pixels = image_inputs(task.examples).images.take(torch.tensor([0]))[0, 0]
    assert np.array_equal(pixels, np.asarray(Image.open(content.files[0].file)) >> 8)


def test_images_of_one_colour_are_named(tmp_path: Path, paint: Any) -> None:
    root = paint()
    Image.new("RGB", (16, 16), (7, 8, 9)).save(root / "red" / "blank.png")
    reported = image_info(inspect(config_of(root), CPU, Cache.none()).facts)
    assert reported.constant is not None and reported.constant.count == 1 and reported.constant.examples == ("red/blank.png",)
    assert any("1 image is of one colour throughout" in note and "red/blank.png" in note for note in reported.notes)


def test_a_deep_image_that_turns_black_is_named(tmp_path: Path) -> None:
    root = dim(tmp_path, low=0, high=60_000)
    folder_of(root, {"a/dark.png": deep_png(noise(high=50))})
    reported = image_info(inspect(config_of(root), CPU, Cache.none()).facts)
    assert reported.constant is not None and reported.constant.examples == ("a/dark.png",)


def test_streamed_images_find_those_of_one_colour_too(tmp_path: Path, paint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = paint()
    Image.new("RGB", (16, 16), (7, 8, 9)).save(root / "red" / "blank.png")
    examples._kept.clear()
    monkeypatch.setattr(examples, "_lacks", lambda needed: True)
    reported = image_info(inspect(config_of(root), CPU, Cache.none()).facts)
    examples._kept.clear()
    assert reported.constant is not None and reported.constant.examples == ("red/blank.png",)


def test_a_checkpoint_of_another_range_is_another_run(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    facts = ImageClassificationInfo(classes=("a", "b"), images={}, fingerprint="", split="", weights_sha256=None)
    ranged = [facts.model_copy(update={"pixel_range": PixelRange(low=0, high=high, source="bit_depth")}) for high in (240, 4095)]
    assert len({digest(config, one) for one in (facts, *ranged)}) == 3


def test_an_undecodable_scan_names_the_file() -> None:
    with pytest.raises(Undecodable, match="truncated"):
        Decoder().sample_range(deep_png(noise())[:200])
