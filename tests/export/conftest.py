"""Exported configurations of small runs, and their scripts as modules."""

import itertools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import trainer.tasks.images.catalogue as catalogue
from service.domain.export import Exported, Origin, Reached
from service.domain.spec import Objective
from service.exports.configuration import script
from trainer.configuration import ListingFacts
from trainer.data.dataset import manifest_of
from trainer.data.images.dataset import arrange, listed
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.image_classification.task import TASK
from trainer.tasks.images.config import IMAGENET_MEAN, IMAGENET_STD, ImageData, ImageModel, Normalisation
from trainer.tasks.images.networks.factory import load, normalisation_of, staged

SIZE = 32  # pixels
NOTHING = ImageClassificationInfo(
    classes=("a", "b", "c"), images={"train": 9, "validation": 3, "test": 3}, fingerprint="0" * 64, split="0" * 64, weights_sha256=None,
    listing=ListingFacts(), normalisation=Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD, source="default"),
)  # fmt: skip
MANIFEST = "AAAA.AEEk"  # of contents in every part


def exported_of(config: ImageClassificationConfig, facts: ImageClassificationInfo = NOTHING, **changes: Any) -> Exported:
    """The file of a trial with that config."""
    metric = changes.pop("metric", "accuracy")
    values: dict[str, Any] = {
        "note": "Not confirmed: this is a test.",
        "confirmed": None,
        "origin": Origin(study="0" * 16, study_name="a test", trial=3, params={}),
        "reached": Reached(objective=Objective(metric=metric, direction="maximize"), value=0.5, metrics={metric: 0.5}, steps=config.epochs),
        "config": config,
        "facts": facts,
        "environment": {},
        "manifest": MANIFEST,
    }
    return Exported(**(values | changes))


def found_of(config: ImageClassificationConfig) -> Exported:
    """The file with what a worker finds of the config's data and weights."""
    listing, loaded = listed(config.data), load(config.model)
    found = arrange(config.data, listing)
    facts = ImageClassificationInfo(
        **TASK.facts(found),
        images=found.counts,
        fingerprint=found.fingerprint,
        split=found.split,
        weights_sha256=loaded.sha256 if loaded else None,
        near_duplicates=found.near_duplicates,
        listing=found.listing,
        pixel_range=found.pixel_range,
        weights=loaded.loaded if loaded else None,
        normalisation=normalisation_of(config.model, loaded),
    )
    return exported_of(config, facts, manifest=manifest_of(listing, found))


def module_of(exported: Exported) -> types.ModuleType:
    """The script, loaded and not run. It decodes images in this process."""
    module = types.ModuleType("train")
    exec(compile(script(exported), "train.py", "exec"), module.__dict__)  # noqa: S102
    module.__dict__["WORKERS"] = 0
    return module


def weights_of(model: str, folder: Path, *, headless: bool, suffix: str = ".safetensors") -> Path:
    """A weights file with random values, with or without the head."""
    torch.manual_seed(7)
    known = catalogue.load(model)
    state = staged(model, 10, SIZE).network.state_dict()
    kept = {name: tensor.contiguous() for name, tensor in state.items() if not (headless and name in known.head.tensors)}
    file = folder / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(kept, file)
    else:
        torch.save(kept, file)
    return file


@pytest.fixture
def config() -> Callable[..., ImageClassificationConfig]:
    """Makes a config; keywords change it."""

    def config(**changes: Any) -> ImageClassificationConfig:
        values = {
            "data": ImageData(path="/nowhere", test=0.2),
            "model": ImageModel(name="shufflenet_v2_x0_5"),
            "image_size": SIZE,
            "epochs": 3,
            **changes,
        }
        return ImageClassificationConfig(**values)

    return config


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Noisy squares in three classes of different colours, some of them in a folder below, one of them twice, one hidden."""
    random, colours = np.random.default_rng(1), {"blue": (90, 90, 150), "green": (90, 150, 90), "red": (150, 90, 90)}
    for (label, colour), number in itertools.product(colours.items(), range(40)):
        file = tmp_path / "squares" / label / ("more" if number > 30 else "") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.normal(colour, 40, (SIZE, SIZE, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    (tmp_path / "squares" / "red" / "copy.png").write_bytes((tmp_path / "squares" / "red" / "1.png").read_bytes())
    (tmp_path / "squares" / "red" / ".hidden.png").write_bytes(b"")
    (tmp_path / "squares" / "red" / "notes.txt").write_bytes(b"")
    return tmp_path / "squares"
