"""Exported configurations of small runs, and their scripts as modules."""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import trainer.tasks.image_classification.catalogue as catalogue
from service.domain.export import Exported, Origin, Reached
from service.domain.spec import Objective
from service.exports.script import script
from trainer.data.images.dataset import find
from trainer.tasks.image_classification.config import ImageData, ImageDatasetInfo, ImageModel, ImageTrainConfig
from trainer.tasks.image_classification.networks.factory import staged

SIZE = 32  # pixels
NOTHING = ImageDatasetInfo(
    classes=("a", "b", "c"), images={"train": 9, "validation": 3, "test": 3}, fingerprint="0" * 64, split="0" * 64, weights_sha256=None
)


def exported_of(config: ImageTrainConfig, facts: ImageDatasetInfo = NOTHING, **changes: Any) -> Exported:
    """The file of a trial with that config."""
    values: dict[str, Any] = {
        "note": "Not confirmed: this is a test.",
        "confirmed": None,
        "origin": Origin(study="0" * 16, study_name="a test", trial=3, params={}),
        "reached": Reached(
            objective=Objective(metric="accuracy", direction="maximize"), value=0.5, metrics={"accuracy": 0.5}, steps=config.epochs
        ),
        "config": config,
        "facts": facts,
        "environment": {},
    }
    return Exported(**(values | changes))


def facts_of(config: ImageTrainConfig, weights_sha256: str | None = None) -> ImageDatasetInfo:
    """What a worker finds of the config's data."""
    found = find(config.data)
    return ImageDatasetInfo(
        classes=found.classes,
        images=found.counts,
        fingerprint=found.fingerprint,
        split=found.split,
        weights_sha256=weights_sha256,
        listing=found.listing,
    )


def module_of(exported: Exported) -> types.ModuleType:
    """The script, loaded and not run."""
    module = types.ModuleType("train")
    exec(compile(script(exported), "train.py", "exec"), module.__dict__)  # noqa: S102
    return module


def weights_of(model: str, folder: Path, *, headless: bool) -> Path:
    """A weights file with random values, with or without the head."""
    torch.manual_seed(7)
    known = catalogue.load(model)
    state = staged(model, 10, SIZE).network.state_dict()
    kept = {name: tensor.contiguous() for name, tensor in state.items() if not (headless and name in known.head.tensors)}
    safetensors.torch.save_file(kept, folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.fixture
def config() -> Callable[..., ImageTrainConfig]:
    """Makes a config; keywords change it."""

    def config(**changes: Any) -> ImageTrainConfig:
        values = {
            "data": ImageData(path="/nowhere", test=0.2),
            "model": ImageModel(name="small_cnn"),
            "image_size": 16,
            "epochs": 3,
            **changes,
        }
        return ImageTrainConfig(**values)

    return config
