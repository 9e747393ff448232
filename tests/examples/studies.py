"""The study files in examples/, and where their tests run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GOOD_AND_POOR: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "keras": (
        {"lr": 0.01, "units": 32, "dropout": 0.0, "optimizer": "adam"},
        {"lr": 1e-4, "units": 16, "dropout": 0.6, "optimizer": "sgd"},
    ),
    "pytorch": ({"lr": 0.1, "hidden": 32, "momentum": 0.9}, {"lr": 1e-4, "hidden": 4, "momentum": 0.0}),
    "lightning": ({"lr": 0.02, "width": 32}, {"lr": 1e-4, "width": 4}),
    "transformers": ({"lr": 0.01, "layers": 1}, {"lr": 1e-5, "layers": 1}),
    "yaml_config": (
        {"optimizer.lr": 0.1, "optimizer.momentum": 0.5, "degree": 5},
        {"optimizer.lr": 1e-3, "optimizer.momentum": 0.0, "degree": 5},
    ),
}


def document(example: str) -> dict[str, Any]:
    """The study file of an example, with its folder as an absolute path."""
    read: dict[str, Any] = yaml.safe_load((EXAMPLES / example / "study.yaml").read_text())
    return read | {"workdir": str(EXAMPLES / example)}


@contextmanager
def own_home(folder: Path, **settings: str) -> Iterator[None]:
    """Servers and workers have their files in the folder, and these settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HOME": str(folder / "home"), **settings}.items():
            patch.setenv(f"THAW_{name}", value)
        patch.delenv("THAW_DATABASE_URL", raising=False)
        yield
