"""One image file's bytes into the square of RGB pixels that the model sees."""

import io
from collections.abc import Mapping

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from trainer.cache import JSON

VERSION = 1  # to be raised when other pixels come out; part of the key of what is cached
MAX_PIXELS = 50_000_000  # by the header, before anything is decoded
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")


class Undecodable(Exception):
    """The bytes are no image that can be trained on; the text is the reason, without the file's name."""


ROUGHLY = 4  # times the size that is wanted, to which a JPEG is decoded at least when it need not be exact


def versions() -> Mapping[str, JSON]:
    """What pixels follow from besides the content and the size."""
    codecs = {name: features.version(name) for name in ("jpg", "zlib", "webp", "libtiff")}
    return {"decoding": VERSION, "pillow": PIL.__version__, "codecs": codecs}


def decode(content: bytes, size: int, *, roughly: bool = False) -> NDArray[np.uint8]:
    """RGB pixels [size, size, 3]: upright by EXIF, first frame, transparency dropped, shorter side resized, centre cut.

    The centre square is resized in one step (antialiased, bilinear), so that a very long image never grows on the way.
    `roughly` makes large JPEGs several times as fast. Raises Undecodable.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Undecodable(_bomb(f"{image.width} x {image.height} pixels"))
            if roughly:
                image.draft(None, (ROUGHLY * size, ROUGHLY * size))
            upright = ImageOps.exif_transpose(_rgb(image))
        short = min(upright.size)
        left, top = (upright.width - short) / 2, (upright.height - short) / 2
        square = upright.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + short, top + short))
        return np.asarray(square, dtype=np.uint8)
    except Undecodable:
        raise
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Undecodable(_bomb("its header says far more")) from None
    except UnidentifiedImageError:
        raise Undecodable("not an image, or its header is damaged") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise Undecodable(f"damaged or truncated ({str(error) or type(error).__name__})") from None


def _bomb(found: str) -> str:
    return f"too large: {found}, at most {MAX_PIXELS // 1_000_000} megapixels are decoded"


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise Undecodable("floating-point pixels")
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow would cut off what is above 255
        deep = np.clip(np.asarray(image).astype(np.int64), 0, 65_535)
        return _with_exif(Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB"), image)
    if "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _with_exif(made: Image.Image, source: Image.Image) -> Image.Image:
    made.info["exif"] = source.getexif().tobytes()
    return made
