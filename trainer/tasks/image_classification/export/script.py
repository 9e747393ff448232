"""Generates the Python file that trains an exported configuration without Thawline."""

import re
from collections.abc import Iterator
from typing import Any, Literal, assert_never

import trainer.tasks.image_classification.catalogue as catalogue
from trainer.configuration import ListingFacts, LoadedWeights
from trainer.data.examples import PART_NAMES
from trainer.tasks.capabilities import ExportedRun
from trainer.tasks.image_classification.config import (
    HEIC_SUFFIXES,
    IMAGE_SUFFIXES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageDatasetInfo,
    ImageTrainConfig,
)
from trainer.tasks.image_classification.export.parts import part

WITHOUT_DROPOUT = frozenset({"resnet", "convnext", "shufflenet_v2", "small", "swin", "vit"})
"""Families whose networks have no dropout in the head; the trainer inserts one before the last layer."""


def frozen_prefixes(config: ImageTrainConfig) -> tuple[str, ...]:
    """Prefixes of the names of all frozen tensors; the prefix of a module ends with a dot."""
    prefixes = dict[str, None]()
    for stage in catalogue.load(config.model.name).stages[: config.frozen_layers]:
        for tensor in stage.tensors:
            prefixes[_prefix(tensor, stage.name)] = None
    return tuple(prefixes)


def _prefix(tensor: str, stage: str) -> str:
    """The stage if it is a module with the tensor, else the layer with the tensor, else the name of the tensor itself."""
    if tensor.startswith(f"{stage}."):
        return f"{stage}."
    owner, _, name = tensor.rpartition(".")
    return f"{owner}." if name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked") else tensor


def head_layers(config: ImageTrainConfig) -> tuple[str, ...]:
    """The layers of the head with parameters, in order; the last one is replaced for the task's classes."""
    return tuple(dict.fromkeys(tensor.rpartition(".")[0] for tensor in catalogue.load(config.model.name).head.tensors))


def last_layer(config: ImageTrainConfig) -> str:
    """The layer that is replaced for the task's classes."""
    return catalogue.load(config.model.name).classifier[0].rpartition(".")[0]


def build(config: ImageTrainConfig, loaded: LoadedWeights | None = None) -> str:
    """The function that makes the model; `loaded` states which part of the weights file is the model's."""
    lines = ["def build(weights, seed):", f'    """{_described(config)}"""', "    torch.manual_seed(seed)", f"    model = {_made(config)}"]
    if config.model.pretrained:
        lines += [part("loading" if loaded is None else "selecting"), *_adapted(config), _fresh(config), part("fitting")]
    lines += ["    torch.manual_seed(seed)"]
    layers = "HEAD" if not config.model.pretrained else "fresh"
    lines += [f"    for name in {layers}:", "        model.get_submodule(name).reset_parameters()", *_dropout(config)]
    if _normalises(config):
        lines.append(part("synchronised"))
    if config.frozen_layers:
        lines.append(part("freezing"))
    return "\n".join([*lines, "    return model.to(DEVICE)"])


def _described(config: ImageTrainConfig) -> str:
    weights = "its weights loaded" if config.model.pretrained else "random weights"
    stages = f", its first {config.frozen_layers} stages frozen" if config.frozen_layers else ""
    return f"The model with {weights}, a new last layer for these classes{stages}."


def _made(config: ImageTrainConfig) -> str:
    match catalogue.load(config.model.name).family:
        case "small":
            return "SmallCnn(len(CLASSES))"
        case "vit":
            return "models.get_model(MODEL, weights=None, num_classes=len(CLASSES), image_size=IMAGE_SIZE)"
        case _:
            return "models.get_model(MODEL, weights=None, num_classes=len(CLASSES))"


def _adapted(config: ImageTrainConfig) -> list[str]:
    """For a ViT: old names are replaced, and positions are interpolated to the image size."""
    if catalogue.load(config.model.name).family != "vit":
        return []
    return [part("vit_names")]


def _fresh(config: ImageTrainConfig) -> str:
    return part("fresh") if len(head_layers(config)) > 1 else "    fresh = HEAD  # the layer that no weights are for"


def _dropout(config: ImageTrainConfig) -> list[str]:
    if catalogue.load(config.model.name).family not in WITHOUT_DROPOUT:
        return [
            "    for layer in model.classifier.modules():",
            "        if isinstance(layer, nn.Dropout):",
            "            layer.p = DROPOUT",
        ]
    if config.dropout == 0:
        return []
    return ["    model.get_submodule(LAST).register_forward_pre_hook(lambda layer, inputs: F.dropout(inputs[0], DROPOUT, layer.training))"]


def _normalises(config: ImageTrainConfig) -> bool:
    """Whether the trained part has a BatchNorm."""
    model = catalogue.load(config.model.name)
    trained = (*model.stages[config.frozen_layers :], model.head)
    return any(tensor.endswith("running_mean") for stage in trained for tensor in stage.tensors)


def set_training(config: ImageTrainConfig) -> str:
    """The function that puts the model into training mode."""
    return part("frozen_training") if config.frozen_layers else part("plain_training")


ScriptRun = ExportedRun[ImageTrainConfig, ImageDatasetInfo]

HEAD = '''#!/usr/bin/env python3
"""Trains one image classifier from beginning to end, as a trial of a Thawline study did.

    python train.py                                  # --data, --weights and --out say where things are, --seed takes another one
    torchrun --nproc-per-node 4 train.py             # the same on four GPUs: each batch is divided among them

Needs torch and torchvision{heic}, nothing else{versions}.
It refuses images or weights that are not those of the study, splits the images as the study did, trains, scores, and writes model.pt
and result.json. Exit code 0: as the study states; 1: the test score lies outside the stated interval; 2: refused.
"""'''
USUAL_KEYS = ("state_dict", "model", "model_state_dict")  # under which version 0.1 expected a state dict
LISTED = 100  # characters up to which a collection is written in one line


def head(run: ScriptRun) -> str:
    """The head of the file: description and usage."""
    versions = [f"{name} {run.lock[name]}" for name in ("torch", "torchvision") if _is_version(run.lock.get(name, ""))]
    heic = " (and pillow-heif for HEIC images)" if run.info.listing is not None and run.info.listing.heic else ""
    return HEAD.format(heic=heic, versions=f" (the study had {', '.join(versions)})" if versions else "")


def _is_version(text: str) -> bool:
    return bool(text) and all(character.isascii() and (character.isalnum() or character in ".+-") for character in text)


def precision_of(run: ScriptRun) -> Literal["float32", "bfloat16", "float16"]:
    """The precision of the trial's forward pass, with `auto` resolved."""
    match run.environment.get("precision") if run.config.precision == "auto" else run.config.precision:
        case "bfloat16" | "float16" as precision:
            return precision
        case _:
            return "float32"


NO_TF32 = "torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False"
TF32 = (
    "torch.backends.cudnn.deterministic = True\n"
    '        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "tf32"'
)
OPTIMIZED = "            (loss * weight).backward()\n            optimizer.step()\n"
SCALED = (
    "            scaler.scale(loss * weight).backward()\n"
    "            scaler.step(optimizer)  # skipped if a gradient overflows\n"
    "            scaler.update()\n"
)
MADE = "    for epoch in range(1, EPOCHS + 1):\n"
SCALER = "    scaler = torch.amp.GradScaler(DEVICE.type)  # small gradients would be 0 in float16\n"


def _trained(run: ScriptRun) -> str:
    """The training function, with loss scaling for float16."""
    text = part("train")
    if precision_of(run) != "float16":
        return text
    return text.replace(OPTIMIZED, SCALED).replace(MADE, SCALER + MADE, 1)


def _main(run: ScriptRun) -> str:
    """The main function, with TF32 if the run had it."""
    return part("main").replace(NO_TF32, TF32) if run.environment.get("tf32") == "on" else part("main")


def block(run: ScriptRun, body: str) -> str:
    """The constants that the body uses: paths, digests and hyperparameters. Values written by users are inserted as literals only."""
    groups = (_reached(run), _data_constants(run), _model_constants(run), _hyperparameters(run.config))
    used = [[_assigned(*one) for one in group if re.search(rf"\b{one[0]}\b", body)] for group in groups]
    return "\n\n".join("\n".join(lines) for lines in used)


def packed_parts(run: ScriptRun) -> str | None:
    """Each image's part of the split, from the manifest; None if the split follows from the contents alone, or without a manifest."""
    near, listing = run.info.near_duplicates, run.info.listing
    grouped = listing is not None and (bool(listing.given) or listing.groups is not None)
    if (near is None or near.groups == 0) and not grouped:
        return None
    return run.manifest.partition(".")[2] or None if run.manifest is not None else None


def is_given(run: ScriptRun) -> bool:
    """Whether the data's own split has every part."""
    listing = run.info.listing
    wanted = {"train", "validation"} | ({"test"} if run.config.data.test > 0 else set())
    return listing is not None and wanted <= set(listing.given)


ScriptConstant = tuple[str, Any, str]


def _reached(run: ScriptRun) -> Iterator[ScriptConstant]:
    yield "STUDY", run.study, ""
    yield "TRIAL", run.trial, ""
    yield "METRIC", run.metric, ""
    if run.single_run is not None:
        yield "EXPECTED", run.expected, "mean over seeds, on the test images"
        yield "SINGLE_RUN", run.single_run, "where one run with a fresh seed falls, 95 times of 100"
    else:
        yield "REACHED", run.reached, "by the trial, on the validation images; not confirmed"


def _data_constants(run: ScriptRun) -> Iterator[ScriptConstant]:
    data, facts = run.config.data, run.info
    yield "DATA", data.path, ""
    yield "FINGERPRINT", facts.fingerprint, "SHA-256 over content and label of every image"
    yield "SPLIT", facts.split, "SHA-256 over which image went where"
    yield from _reading(run)
    yield "PACKED_PARTS", packed_parts(run), "of the contents by SHA-256, two bits each, lowest first: the place in PARTS"
    yield "VALIDATION", data.validation, "share of each class"
    yield "TEST", data.test, "share that no trial of the search has seen"
    yield "SPLIT_SEED", data.seed, ""
    yield "PARTS", ("train", "validation", "test"), ""
    yield "CLASSES", facts.classes, "in the order of the model's outputs"
    if facts.pixel_range is not None:
        yield "PIXEL_RANGE", (facts.pixel_range.low, facts.pixel_range.high), "black and white, in images of more than 8 bits a sample"
    yield "MAX_PIXELS", round(data.max_megapixels * 1_000_000), "larger images were left out"
    yield "IMAGE_SIZE", run.config.image_size, "pixels"


def _reading(run: ScriptRun) -> Iterator[ScriptConstant]:
    listing = run.info.listing or ListingFacts()
    yield "SUFFIXES", tuple(sorted(IMAGE_SUFFIXES | (HEIC_SUFFIXES if listing.heic else frozenset()))), "of image files"
    yield "FOLDERS", listing.folders or (("", None),), "with the class folders, and the part of the split that each is"
    yield "ROOT", run.config.data.root, ""
    yield "SEPARATOR", listing.separator or ",", ""
    yield "PATH", listing.columns.get("path", "path"), "column"
    yield "LABEL", listing.columns.get("label", "label"), "column"
    yield "SPLIT_COLUMN", listing.columns.get("split"), ""
    yield "PART_NAMES", tuple(PART_NAMES.items()), "in the column, in lower case"


def _model_constants(run: ScriptRun) -> Iterator[ScriptConstant]:
    config = run.config
    yield "MODEL", config.model.name, ""
    yield "WEIGHTS", config.model.weights if config.model.pretrained else None, ""
    if config.model.pretrained:
        loaded = run.info.weights
        yield "WEIGHTS_SHA256", run.info.weights_sha256, ""
        yield "WEIGHTS_KEYS", USUAL_KEYS if loaded is None else loaded.container, "of the checkpoint, that lead to the state dict"
        yield "WEIGHTS_PREFIX", "" if loaded is None else loaded.prefix, "of the model's tensors in the file"
    yield "MEAN", config.model.mean or IMAGENET_MEAN, "of the RGB channels, on the scale 0 to 1"
    yield "STD", config.model.std or IMAGENET_STD, ""
    yield "HEAD", head_layers(config), "layers of the head"
    yield "LAST", last_layer(config), "the one that is made anew for these classes"
    if config.frozen_layers:
        yield "FROZEN", frozen_prefixes(config), f"the first {config.frozen_layers} stages"


def _hyperparameters(config: ImageTrainConfig) -> Iterator[ScriptConstant]:
    yield "SEED", config.seed, "of the initial values and of what the layers draw"
    yield "ORDER_SEED", config.order_seed, "of the images' order"
    yield "EPOCHS", config.epochs, ""
    yield "BATCH_SIZE", config.batch_size, "of all processes together"
    yield "LR", config.lr, "peak learning rate"
    yield "WEIGHT_DECAY", config.weight_decay, ""
    yield "DROPOUT", config.dropout, "before the last layer"
    yield "LABEL_SMOOTHING", config.label_smoothing, ""
    if config.augmentation != "none":
        yield "VIEWS", config.augmentation_views, "of each image; 0: a fresh one each epoch"


def _assigned(name: str, value: Any, why: str) -> str:
    """`NAME = value  # why`; long collections are broken into several lines."""
    written, comment = literal(value), f"  # {why}" if why else ""
    if not isinstance(value, tuple | str) or len(written) <= LISTED:
        return f"{name} = {written}{comment}"
    lines = _pieces(value) if isinstance(value, str) else _items(value)
    return "\n".join([f"{name} = ({comment}", *(f"    {line}" for line in lines), ")  # fmt: skip"])


def _pieces(text: str) -> Iterator[str]:
    for first in range(0, len(text), LISTED):
        yield literal(text[first : first + LISTED])


def _items(values: tuple[Any, ...]) -> Iterator[str]:
    line = ""
    for value in values:
        line = f"{line} {literal(value)}," if line else f"{literal(value)},"
        if len(line) > LISTED:
            yield line
            line = ""
    if line:
        yield line


def literal(value: Any) -> str:
    """The value as a Python literal in ASCII, text in double quotes."""
    match value:
        case tuple():
            items = [literal(item) for item in value]
            return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
        case str() if '"' not in value and "'" not in value:
            return f'"{ascii(value)[1:-1]}"'
        case _:
            return ascii(value)


def optimizer(config: ImageTrainConfig) -> str:
    """The function that makes the optimizer."""
    match config.optimizer:
        case "sgd":
            made = f"torch.optim.SGD(parameters, LR, momentum={config.momentum!r}, weight_decay=WEIGHT_DECAY)"
        case "rmsprop":
            made = f"torch.optim.RMSprop(parameters, LR, momentum={config.momentum!r}, weight_decay=WEIGHT_DECAY)"
        case "adam" | "adamw":
            kind = "Adam" if config.optimizer == "adam" else "AdamW"
            made = f"torch.optim.{kind}(parameters, LR, betas={(config.beta1, config.beta2)!r}, weight_decay=WEIGHT_DECAY, fused=True)"
        case _:
            assert_never(config.optimizer)
    return f"def make_optimizer(parameters):\n    return {made}"


def schedule(config: ImageTrainConfig) -> str:
    """The function that returns the learning rate of a batch, equal to `trainer.optimization.lr_at`."""
    lines = ["def lr_at(step, steps_per_epoch):", '    """The learning rate of the batch `step`, counted from 0 over all epochs."""']
    return "\n".join(lines + (_one_cycle(config) if config.schedule == "one_cycle" else _other(config)))


def _one_cycle(config: ImageTrainConfig) -> list[str]:
    return [
        "    steps = EPOCHS * steps_per_epoch",
        f"    rise = round({config.warmup_fraction or 0.3!r} * steps)",
        "    if step < rise:",
        "        return LR * (1 / 25 + (1 - 1 / 25) * step / rise)",
        "    fallen = 0.5 * (1 + math.cos(math.pi * ((step - rise) / (steps - rise))))  # from 1 to 0",
        "    return LR * (1 / 25 / 10_000 + (1 - 1 / 25 / 10_000) * fallen)",
    ]


def _other(config: ImageTrainConfig) -> list[str]:
    warm = config.warmup_fraction > 0
    lines = [f"    warmup = round({config.warmup_fraction!r} * EPOCHS * steps_per_epoch)"] if warm else []
    lines += ["    if step < warmup:", "        return LR * (step + 1) / warmup"] if warm else []
    match config.schedule:
        case "constant":
            last = ["    return LR"]
        case "step":
            last = [f"    return LR * {config.lr_gamma!r} ** (step // steps_per_epoch // {config.lr_step_epochs!r})"]
        case "cosine":
            done = "(step - warmup) / (EPOCHS * steps_per_epoch - warmup)" if warm else "step / (EPOCHS * steps_per_epoch)"
            last = [f"    return LR * (0.5 * (1 + math.cos(math.pi * ({done}))))"]
        case _:
            raise ValueError(config.schedule)
    return lines + last


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


def script(run: ScriptRun) -> str:
    """A Python file that trains this configuration, on one device or under torchrun. Values written by users are in it as literals only."""
    functions = "\n\n\n".join([part("start"), *_data(run), *_model(run), *_training(run), *_ending(run)])
    body = f"{block(run, functions)}\n\n{functions}"
    return f"{head(run)}\n\n{_imports(body)}\n\n{body}\n"


def _data(run: ScriptRun) -> Iterator[str]:
    config = run.config
    listing = run.info.listing
    if listing is not None and listing.heic:
        yield part("heic")
    if config.data.is_table:
        yield part("split_table" if listing is not None and "split" in listing.columns else "table")
    else:
        yield part("folder")
    yield from _found(run)
    if is_given(run):
        yield part("given_split")
    else:
        yield part("split" if packed_parts(run) is None else "packed_split")
    yield part("upper_bits" if run.info.pixel_range is None else "scaled_bits")
    yield part("decode")
    if config.augmentation != "none":
        yield part("view")
    if config.augmentation in ("flip", "crop"):
        yield part("draws")
    yield part(config.augmentation)


def _found(run: ScriptRun) -> Iterator[str]:
    """If the study left out unreadable files, the script does so too: its images must have the same fingerprint."""
    if run.config.data.unreadable == "refuse":
        yield part("find")
        return
    yield part("readable")
    yield part("find").replace("labelled_files(Path(data))", "readable(labelled_files(Path(data)))")


def _model(run: ScriptRun) -> Iterator[str]:
    config = run.config
    if config.model.name == "small_cnn":
        yield part("small_cnn")
    if config.model.pretrained:
        yield part("checked")
        yield part(_reader(config.model.weights_file, run.info.weights))
    yield build(config, run.info.weights)
    yield set_training(config)
    yield part(precision_of(run))


def _reader(weights_file: str | None, loaded: LoadedWeights | None) -> str:
    if weights_file is None:
        return "named_weights"
    is_safetensors = weights_file.lower().endswith(".safetensors") if loaded is None else loaded.format == "safetensors"
    return "safetensors" if is_safetensors else "state_dict"


def _training(run: ScriptRun) -> Iterator[str]:
    config = run.config
    yield optimizer(config)
    yield schedule(config)
    yield part("score")
    yield part("drawn_evenly" if config.sampling == "balanced" else "shuffled")
    yield part("weighted_loss" if config.class_weights == "balanced" else "plain_loss")
    yield _trained(run)


def _ending(run: ScriptRun) -> Iterator[str]:
    yield part("unconfirmed" if run.single_run is None else "confirmed")
    yield _main(run)


def _imports(body: str) -> str:
    """The lines of IMPORTS whose name the body uses."""
    lines = [line for line in IMPORTS if not line or _is_used(line, body)]
    if "from pathlib import Path, PurePosixPath" in lines:
        lines.remove("from pathlib import Path")
    return "\n".join(lines)


def _is_used(line: str, body: str) -> bool:
    """Whether the body uses the name that the import binds, which is the last one in the line."""
    name = line.replace(".", " ").split()[-1]
    return re.search(rf"\b{name}\b", body) is not None
