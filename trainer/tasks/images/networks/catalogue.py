"""Generates the catalogue of models, which the server reads without torch.

Run as `python -m trainer.tasks.images.networks.catalogue`.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from trainer.heads.stack import UnsupportedHead, split_head
from trainer.models import StagedModel
from trainer.tasks.images.catalogue import Model, Stage
from trainer.tasks.images.networks import factory
from trainer.tasks.images.networks.factory import staged
from trainer.tasks.images.networks.families import BY_MODEL

FOLDER = Path(__file__).parent.parent / "catalogue" / "models"
ORIGINAL_SIZE = 224  # pixels, of torchvision's position embeddings
LEAST_SIZE = 8  # pixels; the smallest image_size of a config


def describe(name: str) -> Model:
    """The catalogue's entry of the model, computed on the meta device. Raises KeyError for an unknown name."""
    family = BY_MODEL[name]
    with torch.device("meta"):
        model = staged(name, family.original_classes, ORIGINAL_SIZE)
        step = int(getattr(model.network, "patch_size", 1))  # a ViT's image size is a multiple of its patch size
        smallest = _smallest_image(model, name, step)
    return Model(
        name=name,
        family=family.name,
        stages=tuple(_stage(model, title, part) for title, part in zip(model.stage_names, model.stages, strict=True)),
        head=_stage(model, "head", model.head),
        classifier=family.classifier_tensors,
        weights=factory.names(name),
        smallest_image=smallest,
        image_step=step,
        lanes=_is_for_lanes(model),
        resizable=family.resizable,
    )


def _stage(model: StagedModel, name: str, part: nn.Module) -> Stage:
    return Stage(name=name, tensors={title: tuple(tensor.shape) for title, tensor in model.tensors_of(part).items()})


def _is_for_lanes(model: StagedModel) -> bool:
    try:
        split_head(model)
    except UnsupportedHead:
        return False
    return True


def _smallest_image(model: StagedModel, name: str, step: int) -> int:
    """The least image size at which a forward pass succeeds, by bisection: every larger multiple of the step succeeds too."""
    least, *larger = range(-(-LEAST_SIZE // step) * step, ORIGINAL_SIZE + 1, step)
    if _accepts(model, name, least):
        return least
    return larger[bisect_left(larger, True, key=lambda size: _accepts(model, name, size))]


def _accepts(model: StagedModel, name: str, size: int) -> bool:
    family = BY_MODEL[name]
    network = family.make(name, family.original_classes, size) if family.resizable else model.network
    try:
        network.eval()(torch.empty(1, 3, size, size))
    except RuntimeError:  # the input of a pool or convolution is smaller than its kernel
        return False
    return True


def write(folder: Path = FOLDER, names: Iterable[str] = tuple(BY_MODEL)) -> None:
    """Write the entries of the models, and delete the files of models that no longer exist."""
    folder.mkdir(exist_ok=True)
    documents = {folder / f"{name}.json": describe(name).model_dump(mode="json") for name in names}
    for stale in set(folder.glob("*.json")) - documents.keys():
        stale.unlink()
    for path, document in documents.items():
        path.write_text(json.dumps(document, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    write()
