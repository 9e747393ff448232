"""Small data sets of noisy coloured squares, and configs of short runs on them."""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainer.cards import Card
from trainer import memory
from trainer.data.images import examples
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel

COLOURS = {"blue": (60, 60, 190), "green": (60, 190, 60), "red": (190, 60, 60)}
Paint = Callable[..., Path]
Configure = Callable[..., ImageClassificationConfig]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Other tests run beside these; more threads than cores make each step wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bomb() -> Callable[[int, int], bytes]:
    """Makes a PNG whose header promises so many pixels, and whose body has none of them."""

    def bomb(width: int, height: int) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
        sealed = [(len(body), name + body, zlib.crc32(name + body)) for name, body in chunks]
        return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", size) + body + struct.pack(">I", crc) for size, body, crc in sealed)

    return bomb


@pytest.fixture
def paint(tmp_path: Path) -> Paint:
    """Makes a folder per colour with so many distinct images of `side` pixels."""

    def paint(count: int = 20, side: int = 16, name: str = "squares") -> Path:
        random = np.random.default_rng(0)
        for colour, rgb in COLOURS.items():
            folder = tmp_path / name / colour
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(random.normal(128, 40, (side, side, 3)), 0, 255)
                left, top = random.integers(0, side // 2, 2)
                pixels[top : top + side // 2, left : left + side // 2] = rgb
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        return tmp_path / name

    return paint


@pytest.fixture
def configure(paint: Paint) -> Configure:
    """Makes the config of a short run of `small_cnn` on painted squares; keywords change it."""
    made: list[Path] = []

    def configure(**changes: Any) -> ImageClassificationConfig:
        if "data" not in changes and not made:
            made.append(paint())
        data = changes.pop("data", None) or ImageData(path=str(made[0]))
        values = {"image_size": 16, "epochs": 2, "batch_size": 8, "lr": 3e-3, "seed": 3, **changes}
        return ImageClassificationConfig(data=data, model=values.pop("model", ImageModel(name="small_cnn")), **values)

    return configure


@pytest.fixture
def nothing_decoded() -> Iterator[None]:
    """Forget what other tests have decoded, as a new process would, and be forgotten."""
    examples._kept.clear()
    yield
    examples._kept.clear()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, nothing_decoded: None) -> Iterator[Card]:
    """Gives the processor a memory of its own, of 100 MB."""
    found = Card()
    monkeypatch.setattr(memory, "of", lambda device: found)
    yield found
    monkeypatch.undo()
    memory.drop_caches(torch.device("cpu"))
