"""Decodes the bytes of an image file into the square of RGB pixels that the model receives."""

import io
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError, features

from trainer.cache import JSON
from trainer.tasks.images.config import DEFAULT_MEGAPIXELS, HIGHEST_MEGAPIXELS, ImageData

VERSION = 1  # raise it when decoding gives other pixels; part of the cache key

Image.init()
with suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()
FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "HEIF")
    if name in Image.OPEN  # an older Pillow, or no pillow-heif
)
"""The formats that are decoded. Excluded are formats that run another program (EPS), have no magic number (TGA) or are documents."""
DEEP_VERSION = 1  # as VERSION, for images of more than 8 bits a sample
LARGEST_FILE = 512 * 2**20  # bytes, unless max_pixels allows more
TEXT_BYTES = 64 * 2**20  # of a PNG's text chunk or colour profile, decompressed; all text of a file may take four times as much

# Pillow's own limits refuse valid images: text above 1 MiB, and pixels above 90 million. The limits of this module replace them.
PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = TEXT_BYTES, 4 * TEXT_BYTES
Image.MAX_IMAGE_PIXELS = HIGHEST_MEGAPIXELS * 1_000_000
warnings.simplefilter("error", Image.DecompressionBombWarning)  # for the whole process: decoding runs in threads

Scale = tuple[float, float]
"""The samples that map to 0 and 255 in an image of more than 8 bits a sample; samples outside are clipped."""


class Undecodable(Exception):
    """The bytes are not a usable image; the text is the reason, without the file's name."""


ROUGHLY = 4  # a thumbnail's JPEG is decoded to at least this multiple of the wanted size
PNG_DEPTH = 24  # offset of the bits a sample in a PNG file
REDUCED, MASK = 1, 4  # bits of TIFF's NewSubfileType: pages that are a smaller copy or a mask of another one
MOST_PAGES = 100  # of a TIFF that are checked
ROWS = 256  # scaled at a time, which keeps the float64 copy small


@dataclass(frozen=True, slots=True)
class Decoder:
    """The settings of decoding, common to all images of a data set."""

    max_pixels: int = DEFAULT_MEGAPIXELS * 1_000_000  # checked in the header before anything is decoded
    scale: Scale | None = None  # of images of more than 8 bits; None takes their upper 8 bits, as version 0.1 did
    own_range: bool = False  # scale each such image by its own range in place of `scale`; used to compare images

    @classmethod
    def of(cls, data: ImageData, scale: Scale | None = None, *, own_range: bool = False) -> "Decoder":
        """The decoder with the data set's limit of pixels."""
        return cls(round(data.max_megapixels * 1_000_000), scale, own_range)

    @property
    def max_file_bytes(self) -> int:
        """Larger files are not read. The largest pixels, uncompressed 16-bit RGBA, take 8 bytes each."""
        return max(LARGEST_FILE, 10 * self.max_pixels)

    @property
    def key(self) -> Mapping[str, JSON]:
        """The part of the cache key of pixels besides content and size. Without a scale it equals that of version 0.1."""
        # Codecs are in the key since their versions decode the same JPEG to slightly different pixels.
        codecs = {name: features.version(name) for name in ("jpg", "zlib", "webp", "libtiff")}
        return {"decoding": VERSION, "pillow": PIL.__version__, "codecs": codecs, **self.scale_key}

    @property
    def scale_key(self) -> Mapping[str, JSON]:
        """The part of `key` for images of more than 8 bits a sample."""
        if self.scale is None and not self.own_range:
            return {}
        return {"scale": "own" if self.own_range or self.scale is None else list(self.scale), "deep": DEEP_VERSION}

    def square(self, content: bytes, size: int, *, roughly: bool = False) -> NDArray[np.uint8]:
        """The centre square as RGB pixels [size, size, 3]: first frame, rotated by EXIF, transparency dropped. Raises Undecodable.

        The centre square is cut and resized (antialiased, bilinear) in one step, so that a very long image needs no more memory. `roughly`
        decodes large JPEGs several times as fast, with slightly different pixels.
        """
        with self._opened(content) as image:
            if roughly:
                image.draft(None, (ROUGHLY * size, ROUGHLY * size))
            upright = ImageOps.exif_transpose(self._rgb(image, content))
            short = min(upright.size)
            left, top = (upright.width - short) / 2, (upright.height - short) / 2
            square = upright.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + short, top + short))
            return np.asarray(square, dtype=np.uint8)

    def sample_range(self, content: bytes) -> Scale | None:
        """The lowest and the highest sample of an image of more than 8 bits a sample; None for other images. Raises Undecodable."""
        if not may_be_deep(content):
            return None
        with self._opened(content) as image:
            samples = _deep_samples(image, content)
            return None if samples is None else (float(samples.min()), float(samples.max()))

    @contextmanager
    def _opened(self, content: bytes) -> Iterator[ImageFile.ImageFile]:
        """Open the image if its header is within the limits. Raises Undecodable for any error, also for one in the `with` block."""
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > self.max_pixels:
                    raise Undecodable(_too_large(f"{image.width} x {image.height} pixels", self.max_pixels))
                _refuse_pages(image)
                yield image
        except Undecodable:
            raise
        except MemoryError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise Undecodable(_too_large("its header states far more pixels", self.max_pixels)) from None
        except Exception as error:  # Pillow's decoders raise many kinds of exceptions for a damaged file
            raise Undecodable(_damage(content, error)) from None

    def _rgb(self, image: ImageFile.ImageFile, content: bytes) -> Image.Image:
        deep = None if self.scale is None and not self.own_range else _deep_samples(image, content)
        if deep is not None:
            low, high = self.scale or (float(deep.min()), float(deep.max()))
            return _with_exif(Image.fromarray(scaled(deep, low, high)).convert("RGB"), image)
        if image.mode == "F":
            _deep_samples(image, content)  # raises first, with the more precise reason, if there are NaN
            raise Undecodable("floating-point pixels, for which the study has no range")
        if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would clip samples above 255
            upper = np.clip(np.asarray(image).astype(np.int64), 0, 65_535) >> 8
            return _with_exif(Image.fromarray(upper.astype(np.uint8)).convert("RGB"), image)
        if "transparency" in image.info:
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")


def may_be_deep(start: bytes) -> bool:
    """Whether a file that begins with these 32 bytes may have more than 8 bits a sample."""
    if start[:3] == b"\xff\xd8\xff" or start[:4] in (b"GIF8", b"RIFF") or start[:2] == b"BM":
        return False
    return not (start[:4] == b"\x89PNG" and start[PNG_DEPTH] <= 8) if len(start) > PNG_DEPTH else True


def scaled(samples: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Samples of any dtype → uint8: `low` maps to 0 and `high` to 255, clipped, rounded half to even."""
    found, factor = np.empty(samples.shape, np.uint8), 255 / (high - low) if high > low else 1.0
    for first in range(0, len(samples), ROWS):
        part = (samples[first : first + ROWS].astype(np.float64) - low) * factor
        found[first : first + ROWS] = np.rint(np.clip(part, 0, 255))
    return found


def _deep_samples(image: ImageFile.ImageFile, content: bytes) -> NDArray[Any] | None:
    """The samples [H, W] or [H, W, 3] of an image of more than 8 bits a sample, without transparency; None for other images."""
    if image.mode == "F" or image.mode.startswith("I"):
        samples = np.asarray(image)
        if not np.isfinite(samples).all():
            raise Undecodable("some pixels are NaN or infinite; replace them by numbers")
        return samples
    if (other := _other_byte(image)) is None:
        return None
    upper = np.asarray(image)
    with Image.open(io.BytesIO(content), formats=FORMATS) as again:
        # Grey and transparency of 16 bits: Pillow returns the upper bytes L, L, L, A. Read as 8-bit RGBA, a pixel's bytes are L, l, A, a:
        # the upper and the lower byte of each sample.
        if other == "RGBA":
            again.tile = [tile._replace(args=other) for tile in again.tile]
            both = np.asarray(again).astype(np.uint16)
            return np.asarray(both[..., 0] << 8 | both[..., 1])
        again.tile = [tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other) for tile in again.tile]
        lower = np.asarray(again)
    return np.asarray((upper[..., :3].astype(np.uint16) << 8) | lower[..., :3])


def _other_byte(image: ImageFile.ImageFile) -> str | None:
    """The raw mode with which Pillow returns the lower bytes of 16-bit colours; None for other images.

    Pillow has no 16-bit RGB mode: it keeps the upper byte of each sample. Read again with the opposite byte order, it keeps the lower one.
    """
    if image.mode not in ("RGB", "RGBA") or not image.tile:
        return None
    args = {tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0] for tile in image.tile}
    kind, _, order = str(next(iter(args))).partition(";16")
    if len(args) != 1 or order not in ("B", "L", "N") or kind not in ("RGB", "RGBA", "RGBX", "LA"):
        return None
    native = "L" if sys.byteorder == "little" else "B"
    return "RGBA" if kind == "LA" else f"{kind};16{'B' if (native if order == 'N' else order) == 'L' else 'L'}"


def _refuse_pages(image: ImageFile.ImageFile) -> None:
    """Raises Undecodable for a TIFF of several pages, since the intended page is unknown. Smaller copies and masks do not count."""
    if image.format != "TIFF" or (pages := getattr(image, "n_frames", 1)) == 1:
        return
    for page in range(1, min(pages, MOST_PAGES)):
        image.seek(page)
        if not int(image.tag_v2.get(254, 0)) & (REDUCED | MASK):  # type: ignore[attr-defined]
            raise Undecodable(f"a TIFF of {pages} pages, of which only one could be used; save each page as a file")
    image.seek(0)


def _too_large(found: str, max_pixels: int) -> str:
    return f"too large: {found}, at most {max_pixels / 1_000_000:g} megapixels are decoded; make it smaller, or raise data.max_megapixels"


def _damage(content: bytes, error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "MAX_TEXT" in text:
        return f"its text chunks or its colour profile take more than {TEXT_BYTES >> 20} MB; remove them"
    if not content:
        return "the file is empty"
    if "truncated" in text.lower() or isinstance(error, EOFError) or _lacks_end(content):
        return f"truncated: the file ends before its image does ({len(content):,} bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or its header is damaged"
    return f"damaged ({text})"


def _lacks_end(content: bytes) -> bool:
    """Whether the end marker of the format is missing."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in content[-4096:]
    if content.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in content[-4096:]
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return len(content) < 8 + int.from_bytes(content[4:8], "little")
    return False


def _with_exif(made: Image.Image, source: Image.Image) -> Image.Image:
    made.info["exif"] = source.getexif().tobytes()
    return made
