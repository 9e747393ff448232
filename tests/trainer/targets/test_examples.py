"""Examples that reports name: excerpts of texts, and which pictures are accepted."""

import base64
import io
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from trainer.targets.examples import MOST_BYTES, MOST_SIDE, MOST_TEXT, NamedExample, excerpt, is_picture
from trainer.tasks.capabilities import CardTable, NamesWrongExamples
from trainer.tasks.images.task import thumbnail
from trainer.tasks.registry import spec_of


def webp(width: int = 8, height: int = 8, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.effect_noise((width, height), 60).convert("RGB")
    image.save(file, "WEBP", **options)
    return file.getvalue()


def other(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


def animated() -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


HONEST = webp()
WIDE = HONEST[:26] + (MOST_SIDE + 1).to_bytes(2, "little") + HONEST[28:]
REFUSED = {
    "nothing": b"",
    "another format": other("PNG"),
    "a photograph": other("JPEG"),
    "markup": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "cut": HONEST[:-2],
    "more behind it": HONEST + b"<script>alert(1)</script>",
    "lossless": webp(lossless=True),
    "several frames": animated(),
    "too wide": webp(MOST_SIDE + 1, 8, quality=1),
    "a header that is too wide": WIDE,
    "a header that is scaled": HONEST[:26] + (8 | 1 << 14).to_bytes(2, "little") + HONEST[28:],
    "no height": HONEST[:28] + b"\0\0" + HONEST[30:],
    "too many bytes": webp(MOST_SIDE, MOST_SIDE, quality=100),
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_small_picture_is_refused(raw: bytes) -> None:
    assert not is_picture(raw)
    with pytest.raises(ValidationError, match="lossy WebP"):
        NamedExample(name="a", picture=base64.b64encode(raw).decode())


@pytest.mark.parametrize("text", ["", "é", "AAAA AAAA", base64.b64encode(HONEST).decode() + "\n"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="lossy WebP"):
        NamedExample(name="a", picture=text)


@pytest.mark.parametrize("size", [1, 16, 96, 224])
@pytest.mark.parametrize("detail", ["plain", "noise"])
def test_every_thumbnail_is_a_small_picture(size: int, detail: str) -> None:
    pixels = torch.full((3, size, size), 200, dtype=torch.uint8)
    if detail == "noise":
        pixels = torch.randint(0, 256, (3, size, size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    text = thumbnail(pixels)
    assert text is not None and NamedExample(name="a", picture=text).picture == text
    raw = base64.b64decode(text)
    with Image.open(io.BytesIO(raw)) as picture:
        assert picture.size == (min(size, MOST_SIDE),) * 2 and len(raw) <= MOST_BYTES
        if detail == "plain":
            assert all(abs(value - 200) < 6 for value in picture.convert("RGB").getpixel((0, 0)))  # type: ignore[union-attr]


def test_an_excerpt_is_one_line_without_control_characters() -> None:
    assert excerpt(" two\nlines\tand\x1b[31m a colour\u202e \ud800") == "two lines and [31m a colour"
    assert excerpt("") == excerpt(" \n ") == ""
    assert excerpt("word" + " " * 10_000) == "word"
    assert excerpt("word" + " " * 10_000 + "word") == "word…", "the rest is too far behind"
    cut = excerpt("word " * 1_000)
    assert len(cut) == MOST_TEXT and cut.startswith("word word ") and cut.endswith("…")
    assert NamedExample(name="a", text=cut).model_dump() == {"name": "a", "text": cut}, "fields without a value are left out"


@pytest.mark.parametrize("text", ["a\x1b[0m", "a\nb", "a\u202eb", "a" * (MOST_TEXT + 1)])
def test_a_text_that_is_no_excerpt_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        NamedExample(name="a", text=text)


@pytest.mark.parametrize(
    ("task", "report", "row"),
    [
        ("text_regression", {"worst_numbers": [{"target": 1.5, "predicted": -20000.0}]}, ("1.5", "-2e+04")),
        ("image_multilabel", {"worst_labels": [{"missing": ["a", "b"], "extra": [], "loss": 2.0}]}, ("a, b", "")),
    ],
)
def test_a_card_shows_target_and_prediction_of_each_target(task: str, report: dict[str, Any], row: tuple[str, ...]) -> None:
    spec = spec_of(task)
    assert isinstance(spec, NamesWrongExamples)
    (field, (wrong,)) = next(iter(report.items()))
    section = spec.card_examples({field: [{"name": "a.csv, line 2", "text": "left", "text_b": "right", **wrong}]})
    assert section is not None
    (table,) = section.blocks
    assert isinstance(table, CardTable) and table.heads[:3] == ("text", "text_b", "where it is") and len(table.heads) == 5
    assert table.rows == [("left", "right", "a.csv, line 2", *row)]
    assert spec.card_examples({field: [{"name": "a", **wrong}]}) is None and spec.card_examples({}) is None
