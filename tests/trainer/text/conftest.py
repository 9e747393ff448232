"""Files of texts, and the packages of the extra `text`."""

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import SKIP_NOTHING
from trainer.data.targets import TargetReader
from trainer.targets.labels.reader import LabelReader
from trainer.targets.numbers.spec import NumberReader

Write = Callable[..., Path]
READERS: Mapping[str, TargetReader | None] = {"label": None, "labels": LabelReader(), "number": NumberReader("text")}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes lines, or bytes, to a file in a folder of the test."""

    def write(name: str, *lines: str, raw: bytes | None = None) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes("".join(f"{line}\n" for line in lines).encode() if raw is None else raw)
        return file

    return write


def needed(module: str) -> ModuleType:
    """The module of the extra `text`; the test is skipped without it, except where nothing may be skipped."""
    if os.environ.get(SKIP_NOTHING):
        return importlib.import_module(module)
    found: ModuleType = pytest.importorskip(module)
    return found


@pytest.fixture(scope="session")
def parquet() -> ModuleType:
    """pyarrow.parquet."""
    return needed("pyarrow.parquet")


@pytest.fixture(scope="session")
def minilm(shared_data: Path) -> Path:
    """The folder of a BERT model with its tokenizer."""
    needed("tokenizers")
    return shared_data / "weights" / "minilm-l6-v2"
