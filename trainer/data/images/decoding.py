"""One image file's bytes into the square of RGB pixels that the model sees."""

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
from trainer.tasks.image_classification.config import DEFAULT_MEGAPIXELS, HIGHEST_MEGAPIXELS, ImageData

VERSION = 1  # to be raised when other pixels come out; part of the key of what is cached

Image.init()
with suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()
FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "HEIF")
    if name in Image.OPEN  # an older Pillow, or no pillow-heif
)
"""What is decoded. Formats that run another program (EPS), have no magic number (TGA) or are documents stay out."""
DEEP_VERSION = 1  # the same for images of more than 8 bits a sample
LARGEST_FILE = 512 * 2**20  # bytes, where max_pixels does not allow for more
TEXT_BYTES = 64 * 2**20  # of a PNG's text chunk or colour profile, unpacked; all text of a file may take four times as much

# Pillow's own limits refuse sound images: text above 1 MiB, and pixels above 90 million. The limits of this module take their place.
PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = TEXT_BYTES, 4 * TEXT_BYTES
Image.MAX_IMAGE_PIXELS = HIGHEST_MEGAPIXELS * 1_000_000
warnings.simplefilter("error", Image.DecompressionBombWarning)  # of every thread that decodes

Scale = tuple[float, float]
"""The samples that become 0 and 255 in an image of more than 8 bits a sample; what lies beyond is clipped."""


class Undecodable(Exception):
    """The bytes are no image that can be trained on; the text is the reason, without the file's name."""


ROUGHLY = 4  # times the size that is wanted, to which a JPEG is decoded at least when it need not be exact
PNG_DEPTH = 24  # where a PNG's header has the number of bits a sample
REDUCED, MASK = 1, 4  # bits of TIFF's NewSubfileType: pages that only repeat or mask another one
MOST_PAGES = 100  # that are looked at
ROWS = 256  # that are scaled at a time, so that their float64 copy stays small


@dataclass(frozen=True, slots=True)
class Decoder:
    """What pixels follow from besides the bytes, for all images of a data set."""

    max_pixels: int = DEFAULT_MEGAPIXELS * 1_000_000  # by the header, before anything is decoded
    scale: Scale | None = None  # of images of more than 8 bits; None takes their upper 8 bits, as version 0.1 did
    own_range: bool = False  # in place of `scale`, each such image's own range: for comparing images, before a scale is known

    @classmethod
    def of(cls, data: ImageData, scale: Scale | None = None, *, own_range: bool = False) -> "Decoder":
        """With the data set's limit."""
        return cls(round(data.max_megapixels * 1_000_000), scale, own_range)

    @property
    def max_file_bytes(self) -> int:
        """Larger files are not read: eight bytes a pixel are 16-bit RGBA without compression."""
        return max(LARGEST_FILE, 10 * self.max_pixels)

    @property
    def key(self) -> Mapping[str, JSON]:
        """What cached pixels follow from besides the content and the size. Without a scale the key is that of version 0.1."""
        codecs = {name: features.version(name) for name in ("jpg", "zlib", "webp", "libtiff")}
        return {"decoding": VERSION, "pillow": PIL.__version__, "codecs": codecs, **self.scale_key}

    @property
    def scale_key(self) -> Mapping[str, JSON]:
        """The part of `key` that is about images of more than 8 bits a sample."""
        if self.scale is None and not self.own_range:
            return {}
        return {"scale": "own" if self.own_range or self.scale is None else list(self.scale), "deep": DEEP_VERSION}

    def square(self, content: bytes, size: int, *, roughly: bool = False) -> NDArray[np.uint8]:
        """RGB pixels [size, size, 3]: upright by EXIF, first frame, transparency dropped, shorter side resized, centre cut.

        The centre square is resized in one step (antialiased, bilinear), so that a very long image never grows on the way.
        `roughly` makes large JPEGs several times as fast. Raises Undecodable.
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
        """The image, once its header is within the limits. Raises Undecodable for whatever goes wrong, in the block too."""
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > self.max_pixels:
                    raise Undecodable(_bomb(f"{image.width} x {image.height} pixels", self.max_pixels))
                _refuse_pages(image)
                yield image
        except Undecodable:
            raise
        except MemoryError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise Undecodable(_bomb("its header says far more", self.max_pixels)) from None
        except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
            raise Undecodable(_damage(content, error)) from None

    def _rgb(self, image: ImageFile.ImageFile, content: bytes) -> Image.Image:
        deep = None if self.scale is None and not self.own_range else _deep_samples(image, content)
        if deep is not None:
            low, high = self.scale or (float(deep.min()), float(deep.max()))
            return _with_exif(Image.fromarray(scaled(deep, low, high)).convert("RGB"), image)
        if image.mode == "F":
            _deep_samples(image, content)  # NaN is the more precise reason
            raise Undecodable("floating-point pixels, for which the study has no range")
        if image.mode.startswith("I"):  # 16 bits a pixel; Pillow would cut off what is above 255
            upper = np.clip(np.asarray(image).astype(np.int64), 0, 65_535) >> 8
            return _with_exif(Image.fromarray(upper.astype(np.uint8)).convert("RGB"), image)
        if "transparency" in image.info:
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")


def may_be_deep(start: bytes) -> bool:
    """Whether a file that begins with these 32 bytes may hold more than 8 bits a sample."""
    if start[:3] == b"\xff\xd8\xff" or start[:4] in (b"GIF8", b"RIFF") or start[:2] == b"BM":
        return False
    return not (start[:4] == b"\x89PNG" and start[PNG_DEPTH] <= 8) if len(start) > PNG_DEPTH else True


def scaled(samples: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Samples of any kind → uint8, with `low` at 0 and `high` at 255, rounded to even, clipped."""
    found, factor = np.empty(samples.shape, np.uint8), 255 / (high - low) if high > low else 1.0
    for first in range(0, len(samples), ROWS):
        part = (samples[first : first + ROWS].astype(np.float64) - low) * factor
        found[first : first + ROWS] = np.rint(np.clip(part, 0, 255))
    return found


def _deep_samples(image: ImageFile.ImageFile, content: bytes) -> NDArray[Any] | None:
    """The samples [H, W] or [H, W, 3] of an image of more than 8 bits a sample, without its transparency; None for other images."""
    if image.mode == "F" or image.mode.startswith("I"):
        samples = np.asarray(image)
        if not np.isfinite(samples).all():
            raise Undecodable("some pixels are NaN or infinite; replace them by numbers")
        return samples
    if (other := _other_byte(image)) is None:
        return None
    upper = np.asarray(image)
    with Image.open(io.BytesIO(content), formats=FORMATS) as again:
        if other == "RGBA":  # grey and transparency: Pillow gives the upper bytes L, L, L, A; read as RGBA, their bytes are L, l, A, a
            again.tile = [tile._replace(args=other) for tile in again.tile]
            both = np.asarray(again).astype(np.uint16)
            return np.asarray(both[..., 0] << 8 | both[..., 1])
        again.tile = [tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other) for tile in again.tile]
        lower = np.asarray(again)
    return np.asarray((upper[..., :3].astype(np.uint16) << 8) | lower[..., :3])


def _other_byte(image: ImageFile.ImageFile) -> str | None:
    """How Pillow reads the lower bytes of 16-bit colours, of which it gives the upper ones: as if their byte order were the other one."""
    if image.mode not in ("RGB", "RGBA") or not image.tile:
        return None
    args = {tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0] for tile in image.tile}
    kind, _, order = str(next(iter(args))).partition(";16")
    if len(args) != 1 or order not in ("B", "L", "N") or kind not in ("RGB", "RGBA", "RGBX", "LA"):
        return None
    native = "L" if sys.byteorder == "little" else "B"
    return "RGBA" if kind == "LA" else f"{kind};16{'B' if (native if order == 'N' else order) == 'L' else 'L'}"


def _refuse_pages(image: ImageFile.ImageFile) -> None:
    """A TIFF of several pages is several images. Smaller copies and masks of the first page do not count."""
    if image.format != "TIFF" or (pages := getattr(image, "n_frames", 1)) == 1:
        return
    for page in range(1, min(pages, MOST_PAGES)):
        image.seek(page)
        if not int(image.tag_v2.get(254, 0)) & (REDUCED | MASK):  # type: ignore[attr-defined]
            raise Undecodable(f"a TIFF of {pages} pages, and which of them is the image is not known; save each page as a file")
    image.seek(0)


def _bomb(found: str, max_pixels: int) -> str:
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
    """Whether the format's mark of the end is missing."""
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
