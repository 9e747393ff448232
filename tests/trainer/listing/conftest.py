"""Folders of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service import inspection as inspected_data
from tests.trainer.listing.data import Tree
from trainer.tasks.images.config import IMAGE_SUFFIXES


@pytest.fixture(autouse=True)
def _each_look_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspected_data, "KEPT_SECONDS", 1e-9)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes files in a folder; each image has a content of its own."""
    random = np.random.default_rng(0)

    def tree(*names: str, root: str = "data") -> Path:
        for name in names:
            file = tmp_path / root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix in IMAGE_SUFFIXES:
                Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file, format="PNG")
            else:
                file.write_text(name)
        return tmp_path / root

    return tree
