"""Writes what the server must know of models without torch: `python -m trainer.models.catalogue`."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from trainer.catalogue import Model, Stage
from trainer.models import weights
from trainer.models.build import staged
from trainer.models.families import BY_MODEL
from trainer.models.staged import StagedModel

FOLDER = Path(__file__).parent.parent / "catalogue" / "models"
ORIGINAL_SIZE = 224  # pixels, of torchvision's position embeddings
SIZES = range(8, 129)  # pixels; 8 is the least that a config may name


def describe(name: str) -> Model:
    """The model as the catalogue has it, made without memory for its tensors. Raises KeyError for an unknown name."""
    family = BY_MODEL[name]
    with torch.device("meta"):
        model = staged(name, family.original_classes, ORIGINAL_SIZE)
        sizes = _accepted_sizes(model, name)
        smallest, following = next(sizes), next(sizes)
    return Model(
        name=name,
        family=family.name,
        stages=tuple(_stage(model, title, part) for title, part in zip(model.stage_names, model.stages, strict=True)),
        head=_stage(model, "head", model.head),
        classifier=family.classifier_tensors,
        weights=weights.names(name),
        smallest_image=smallest,
        image_step=following - smallest,
        resizable=family.resizable,
    )


def _stage(model: StagedModel, name: str, part: nn.Module) -> Stage:
    return Stage(name=name, tensors={title: tuple(tensor.shape) for title, tensor in model.tensors_of(part).items()})


def _accepted_sizes(model: StagedModel, name: str) -> Iterator[int]:
    """The image sizes that the network can take, in rising order: those at which a forward pass succeeds."""
    family = BY_MODEL[name]
    for size in SIZES:
        try:
            network = family.make(name, family.original_classes, size) if family.resizable else model.network
            network.eval()(torch.empty(1, 3, size, size))
        except (AssertionError, RuntimeError):  # torch's words for a size that does not divide, or leaves nothing
            continue
        yield size


def write(folder: Path = FOLDER) -> None:
    """Write the description of every model, and drop files of models that are gone."""
    folder.mkdir(exist_ok=True)
    for stale in set(folder.glob("*.json")) - {folder / f"{name}.json" for name in BY_MODEL}:
        stale.unlink()
    for name in BY_MODEL:
        document = describe(name).model_dump(mode="json")
        (folder / f"{name}.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    write()
