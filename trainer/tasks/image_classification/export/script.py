"""The stand-alone training script: one readable file that needs torch and torchvision alone, made for one configuration."""

import re
from collections.abc import Iterator

from trainer.configuration import LoadedWeights
from trainer.tasks.image_classification.config import ImageTrainConfig
from trainer.tasks.image_classification.export import constants, network
from trainer.tasks.image_classification.export.constants import Run
from trainer.tasks.image_classification.export.parts import part

IMPORTS = (
    "import argparse", "import base64", "import csv",
    "import hashlib", "import io", "import json", "import math", "import os", "import re", "import sys",
    "from concurrent.futures import ThreadPoolExecutor", "from pathlib import Path", "from pathlib import Path, PurePosixPath",
    "from urllib.parse import unquote, urlparse", "",
    "import numpy as np", "import torch", "import torch.distributed as dist", "import torch.nn.functional as F",
    "from PIL import Image, ImageOps, PngImagePlugin", "from pillow_heif import register_heif_opener",
    "from torch import nn", "from torchvision import models",
    "from torchvision.models.vision_transformer import interpolate_embeddings", "from torchvision.transforms import v2 as transforms",
)  # fmt: skip


def script(run: Run) -> str:
    """A Python file that trains this configuration, on one device or under torchrun. What a user wrote is in it as literals only."""
    config = run.config
    functions = "\n\n\n".join([part("start"), *_data(run), *_model(run), *_training(config), *_ending(run)])
    body = f"{constants.block(run, functions)}\n\n{functions}"
    return f"{constants.head(run)}\n\n{_imports(body)}\n\n{body}\n"


def _data(run: Run) -> Iterator[str]:
    config = run.config
    listing = run.info.listing
    if listing is not None and listing.heic:
        yield part("heic")
    if config.data.is_table:
        yield part("split_table" if listing is not None and "split" in listing.columns else "table")
    else:
        yield part("folder")
    yield from _found(run)
    if constants.is_given(run):
        yield part("given_split")
    else:
        yield part("split" if constants.packed_parts(run) is None else "packed_split")
    yield part("upper_bits" if run.info.pixel_range is None else "scaled_bits")
    yield part("decode")
    if config.augmentation != "none":
        yield part("view")
    if config.augmentation in ("flip", "crop"):
        yield part("draws")
    yield part(config.augmentation)


def _found(run: Run) -> Iterator[str]:
    """Where the study left out unreadable files, the script looks for them too: its images must be those of the fingerprint."""
    if run.config.data.unreadable == "refuse":
        yield part("find")
        return
    yield part("readable")
    yield part("find").replace("labelled_files(Path(data))", "readable(labelled_files(Path(data)))")


def _model(run: Run) -> Iterator[str]:
    config = run.config
    if config.model.name == "small_cnn":
        yield part("small_cnn")
    if config.model.pretrained:
        yield part("checked")
        yield part(_reader(config.model.weights_file, run.info.weights))
    yield network.build(config, run.info.weights)
    yield network.set_training(config)
    yield part(constants.precision_of(run))


def _reader(weights_file: str | None, loaded: LoadedWeights | None) -> str:
    if weights_file is None:
        return "named_weights"
    is_safetensors = weights_file.lower().endswith(".safetensors") if loaded is None else loaded.format == "safetensors"
    return "safetensors" if is_safetensors else "state_dict"


def _training(config: ImageTrainConfig) -> Iterator[str]:
    yield constants.optimizer(config)
    yield constants.schedule(config)
    yield part("score")
    yield part("drawn_evenly" if config.sampling == "balanced" else "shuffled")
    yield part("weighted_loss" if config.class_weights == "balanced" else "plain_loss")
    yield part("train")


def _ending(run: Run) -> Iterator[str]:
    yield part("unconfirmed" if run.single_run is None else "confirmed")
    yield part("main")


def _imports(body: str) -> str:
    """Those of IMPORTS whose name the body uses."""
    lines = [line for line in IMPORTS if not line or _is_used(line, body)]
    if "from pathlib import Path, PurePosixPath" in lines:
        lines.remove("from pathlib import Path")
    return "\n".join(lines)


def _is_used(line: str, body: str) -> bool:
    """By the last word of an import: the name that it gives."""
    name = line.replace(".", " ").split()[-1]
    return re.search(rf"\b{name}\b", body) is not None
