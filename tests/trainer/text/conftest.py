"""Files of texts, and the packages of the extra `text`."""

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.conftest import SKIP_NOTHING
from tests.trainer.backbones.conftest import write_tokenizer
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


def write_bert(folder: Path) -> Path:
    """A BERT of two layers with random weights, and its tokenizer."""
    transformers = needed("transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_position_embeddings=40
        )
        transformers.BertModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder
