"""The stand-alone training script: one readable file that needs torch and torchvision alone, made for one configuration."""

import re
from collections.abc import Iterator

from service.domain.export import Exported
from service.export import constants, network
from service.export.parts import part
from trainer.contract import TrainConfig

IMPORTS = (
    "import argparse", "import base64", "import csv",
    "import hashlib", "import io", "import json", "import math", "import os", "import re", "import sys",
    "from concurrent.futures import ThreadPoolExecutor", "from pathlib import Path", "from pathlib import Path, PurePosixPath",
    "from urllib.parse import unquote, urlparse", "",
    "import numpy as np", "import torch", "import torch.distributed as dist", "import torch.nn.functional as F",
    "from PIL import Image, ImageOps", "from torch import nn", "from torchvision import models",
    "from torchvision.models.vision_transformer import interpolate_embeddings", "from torchvision.transforms import v2 as transforms",
)  # fmt: skip


def script(exported: Exported) -> str:
    """A Python file that trains this configuration, on one device or under torchrun. What a user wrote is in it as literals only."""
    config = exported.config
    functions = "\n\n\n".join([part("start"), *_data(exported), *_model(exported), *_training(config), *_ending(exported)])
    body = f"{constants.block(exported, functions)}\n\n{functions}"
    return f"{constants.head(exported)}\n\n{_imports(body)}\n\n{body}\n"


def _data(exported: Exported) -> Iterator[str]:
    config = exported.config
    yield part("table" if config.data.is_table else "folder")
    yield part("find")
    yield part("split" if constants.packed_parts(exported) is None else "packed_split")
    yield part("decode")
    if config.augmentation != "none":
        yield part("view")
    if config.augmentation in ("flip", "crop"):
        yield part("draws")
    yield part(config.augmentation)


def _model(exported: Exported) -> Iterator[str]:
    config = exported.config
    if config.model.name == "small_cnn":
        yield part("small_cnn")
    if config.model.weights is not None:
        yield part("checked")
        yield part(_reader(config.model.weights_file))
    yield network.build(config)
    yield network.set_training(config)
    yield part(constants.precision_of(exported))


def _reader(weights_file: str | None) -> str:
    if weights_file is None:
        return "named_weights"
    return "safetensors" if weights_file.lower().endswith(".safetensors") else "state_dict"


def _training(config: TrainConfig) -> Iterator[str]:
    yield constants.optimizer(config)
    yield constants.schedule(config)
    yield part("score")
    yield part("train")


def _ending(exported: Exported) -> Iterator[str]:
    stated = exported.confirmed is not None and exported.confirmed.single_run is not None
    yield part("confirmed" if stated else "unconfirmed")
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
