"""From an image's bytes to the square of RGB pixels."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from trainer.data.images.decoding import Decoder, Undecodable

Bomb = Callable[[int, int], bytes]


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_every_format_becomes_a_square_of_rgb(format: str) -> None:
    pixels = Decoder().square(encoded(gradient(40, 20), format), 10)
    assert pixels.shape == (10, 10, 3) and pixels.dtype == np.uint8


def test_the_shorter_side_is_resized_and_the_centre_cut() -> None:
    wide, high = gradient(60, 20), gradient(20, 60)
    resized = wide.resize((30, 10), Image.Resampling.BILINEAR).crop((10, 0, 20, 10)), high.resize((10, 30), Image.Resampling.BILINEAR)
    assert np.array_equal(Decoder().square(encoded(wide), 10), np.asarray(resized[0]))
    assert np.array_equal(Decoder().square(encoded(high), 10), np.asarray(resized[1].crop((0, 10, 10, 20))))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_of_grey_comes_out_the_same(mode: str) -> None:
    grey = Image.new("L", (8, 8), 255) if mode == "1" else Image.new("L", (8, 8), 100)
    image = Image.fromarray(np.full((8, 8), 100 * 256 + 7, np.uint16)) if mode == "I;16" else grey.convert(mode)
    pixels = Decoder().square(encoded(image, "TIFF" if mode == "CMYK" else "PNG"), 8)
    assert np.ptp(pixels) == 0 and pixels[0, 0, 0] == (255 if mode == "1" else 100)


def test_an_image_is_turned_upright_by_its_exif() -> None:
    image = Image.new("RGB", (20, 20), "red")
    image.paste("blue", (0, 0, 20, 10))  # blue above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    pixels = Decoder().square(encoded(image, exif=exif), 20)
    assert tuple(pixels[10, 18]) == (0, 0, 255) and tuple(pixels[10, 1]) == (255, 0, 0)


@pytest.mark.parametrize(("width", "height"), [(7_100, 7_100), (12_000, 12_000), (100_000, 100_000)])
def test_an_image_bomb_is_refused_by_its_header(bomb: Bomb, width: int, height: int) -> None:
    with pytest.raises(Undecodable, match=r"too large: .*at most 50 megapixels"):
        Decoder().square(bomb(width, height), 16)


def test_a_header_within_the_limit_is_decoded_and_found_truncated(bomb: Bomb) -> None:
    with pytest.raises(Undecodable, match="truncated: the file ends before its image does"):
        Decoder().square(bomb(1_000, 1_000), 16)


def test_a_very_long_image_does_not_grow() -> None:
    assert Decoder().square(encoded(Image.new("RGB", (40_000, 1), "red")), 224).shape == (224, 224, 3)


def test_a_format_that_is_not_listed_is_not_opened() -> None:
    with pytest.raises(Undecodable, match="not an image"):
        Decoder().square(encoded(gradient(8, 8), "ICO"), 8)
