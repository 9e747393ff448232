"""Tables of painted images with numbers and with labels, and weights of a small network."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks.factory import build

COLOURS = {"blue": (40, 40, 220), "green": (40, 200, 40), "red": (220, 40, 40)}
Table = Callable[..., Path]


def picture(random: np.random.Generator, brightness: float = 0.0, colours: Sequence[str] = (), side: int = 16) -> Image.Image:
    """Noise of that mean brightness, with a square of each colour in its own corner."""
    pixels = np.clip(random.normal(110 + brightness, 25, (side, side, 3)), 0, 255)
    for place, (name, rgb) in enumerate(COLOURS.items()):
        top, left = side // 2 * (place // 2), side // 2 * (place % 2)
        if name in colours:
            pixels[top : top + side // 2, left : left + side // 2] = rgb
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def numbers(tmp_path: Path) -> Table:
    """Writes a table of images whose target follows their brightness: 1000 plus four times it."""

    def write(count: int = 80, name: str = "numbers") -> Path:
        folder, random = tmp_path / name, np.random.default_rng(1)
        folder.mkdir()
        with (folder / "table.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "target"])
            for number in range(count):
                brightness = float(random.uniform(-60, 60))
                picture(random, brightness).save(folder / f"{number}.png")
                rows.writerow([f"{number}.png", f"{1000 + 4 * brightness:.3f}"])
        return folder / "table.csv"

    return write


@pytest.fixture
def labels(tmp_path: Path) -> Table:
    """Writes a table of images with the set of their colours."""

    def write(count: int = 90, name: str = "labels", separator: str = "|") -> Path:
        folder, random = tmp_path / name, np.random.default_rng(2)
        folder.mkdir()
        with (folder / "table.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "target"])
            for number in range(count):
                own = [colour for colour, share in zip(COLOURS, (0.6, 0.4, 0.25), strict=True) if random.random() < share]
                picture(random, colours=own).save(folder / f"{number}.png")
                rows.writerow([f"{number}.png", separator.join(own)])
        return folder / "table.csv"

    return write


@pytest.fixture
def weights(tmp_path: Path) -> ImageModel:
    """A small network with weights that are the same each time."""
    file = tmp_path / "weights.pt"
    config = ImageClassificationConfig(data=ImageData(path="unread"), model=ImageModel(name="small_cnn"), image_size=16, seed=5)
    torch.save(build(config, 3).network.state_dict(), file)
    return ImageModel(name="small_cnn", weights=str(file))
