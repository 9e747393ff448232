"""An example that a report names, with its text or a small picture. Imports no torch."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from trainer.configuration import Frozen

MOST_WORST = 20  # examples that a report names
MOST_NAME = 400  # characters of a name
MOST_TEXT = 300  # characters of a text
MOST_READ = 10 * MOST_TEXT  # characters of a text in which its beginning is sought
MOST_SIDE = 96  # of a picture
MOST_BYTES = 3_072  # of a picture; its base64 has 4,096 characters, the limit of a text in a study file
LEFT_OUT = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)  # controls, direction overrides, surrogates


def excerpt(text: str) -> str:
    """The beginning of a text in one line, without control characters. It ends with … if the text is longer."""
    text = text.rstrip()
    words = " ".join(LEFT_OUT.sub(" ", text[:MOST_READ]).split())
    return words if len(words) <= MOST_TEXT and len(text) <= MOST_READ else f"{words[: MOST_TEXT - 1]}…"


def is_picture(raw: bytes) -> bool:
    """Whether these are the bytes of a WebP file with one lossy frame, at most MOST_SIDE wide and high.

    A browser decodes pictures of imported studies, so nothing else is accepted. Source: RFC 9649, section 2.5; RFC 6386, section 9.1.
    """
    if not 30 <= len(raw) <= MOST_BYTES or raw[:4] != b"RIFF" or raw[8:16] != b"WEBPVP8 " or raw[23:26] != b"\x9d\x01\x2a":
        return False
    file, chunk, width, height = (int.from_bytes(raw[first:last], "little") for first, last in ((4, 8), (16, 20), (26, 28), (28, 30)))
    whole = file == len(raw) - 8 and chunk + chunk % 2 == len(raw) - 20
    return whole and raw[20] & 1 == 0 and 1 <= width <= MOST_SIDE and 1 <= height <= MOST_SIDE  # the upper two bits of a side are its scale


def _picture(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not is_picture(raw):
        expected = f"a picture is base64 of a lossy WebP file of at most {MOST_BYTES} bytes and {MOST_SIDE} x {MOST_SIDE}; remove it"
        raise PydanticCustomError("not_a_picture", expected)
    return text


def _line(text: str) -> str:
    if LEFT_OUT.search(text):
        raise PydanticCustomError("invalid_text", "control characters are not accepted here; remove them")
    return text


Excerpt = Annotated[str, Field(max_length=MOST_TEXT), AfterValidator(_line)]


class NamedExample(Frozen):
    """An example in a report. Subclasses have its target and the prediction."""

    name: str = Field(max_length=MOST_NAME)
    text: Excerpt | None = Field(default=None, exclude_if=lambda text: text is None, description="its beginning; null: not stored")
    text_b: Excerpt | None = Field(default=None, exclude_if=lambda text: text is None, description="likewise, the second text of a pair")
    picture: Annotated[str, AfterValidator(_picture)] | None = Field(
        default=None, exclude_if=lambda picture: picture is None, description="base64 of a WebP file; null: not stored"
    )

    @property
    def answer(self) -> Mapping[str, str]:
        """Target and prediction as text, each with a heading."""
        return {}
