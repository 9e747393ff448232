"""Data of the tests of listings, and what server and trainer say of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.inspection import inspect_study
from trainer.data.examples import BadData
from trainer.data.images.dataset import ImageDataset, find
from trainer.tasks.images.config import ImageData

Tree = Callable[..., Path]


def config(path: Path, **options: Any) -> ImageData:
    return ImageData(path=str(path), **options)


def left_out(path: Path, **options: Any) -> dict[str, tuple[int, tuple[str, ...]]]:
    """By reason; the same for server and trainer."""
    facts = find(config(path, **options)).listing
    return {one.reason: (one.count, one.examples) for one in facts.left_out}


def refused(path: Path, **options: Any) -> tuple[str, str]:
    """The code and text with which the server refuses the data; the trainer refuses it too."""
    with pytest.raises(BadData):
        find(config(path, **options))
    with pytest.raises(InvalidInput) as caught:
        inspect_study(parse_study(study(path, **options)))
    [fault] = caught.value.faults
    return fault.code, fault.message


def study(path: Path, **options: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "data": {"path": str(path), "validation": 0.3, **options},
        "model": {"name": "small_cnn", "weights": "random"},
        "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1.0}},
        "fixed": {"batch_size": 2},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "budget": {"trials": 1},
    }


def numbered(folder: str, count: int, suffix: str = ".png") -> Iterator[str]:
    return (f"{folder}/{number}{suffix}" for number in range(count))


def parts(found: ImageDataset) -> dict[str, str]:
    return {file.name: content.part for content in found.contents for file in content.files}
