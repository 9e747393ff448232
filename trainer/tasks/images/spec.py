"""The part of a TaskSpec that all image tasks have. Imports no torch."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import trainer.adapters.config as adapters
import trainer.tasks.images.catalogue as catalogue
from trainer.configuration import DataConfig, DatasetInfo, TrainConfig, narrowing
from trainer.data.examples import Look
from trainer.data.images.listing import refuse_similar_labels, refuse_unwritable_names, scan
from trainer.data.targets import described
from trainer.tasks.base import Counted, ModelInfo
from trainer.tasks.capabilities import CardData, InspectedData, Spellings
from trainer.tasks.composition import ComposedSpec
from trainer.tasks.images.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageData,
    ImageDatasetInfo,
    ImageModel,
    ImageTrainConfig,
    NearDuplicates,
)
from trainer.tasks.images.selection import select
from trainer.weight_files import Outline

SPELLINGS = Spellings(
    hyperparameters={
        "augmentation": "augment data_augmentation aug",
        "image_size": "img_size input_size im_size imgsz resolution",
    },
    data={"path": "image_folder"},
    words={"augmentation": {"none": "", "flip": "horizontal_flip", "crop": "random_crop", "trivial_augment": "TrivialAugmentWide"}},
)


class CatalogueModel:
    """A model of the catalogue as `trainer.tasks.base.ModelInfo`."""

    def __init__(self, model: catalogue.Model) -> None:
        self.network = model

    @property
    def stages(self) -> int:
        """The number of stages that can be frozen."""
        return len(self.network.stages)

    @property
    def weights(self) -> Collection[str]:
        """torchvision's names of the weights."""
        return self.network.weights

    def fault_of(self, name: str, value: object) -> tuple[str, str] | None:
        """A fault if the network does not accept images of that size, or the method of fine-tuning."""
        own = adapters.fault_of(name, value, model=self.network.name, stages=self.stages, methods=self.network.methods)
        if own is not None:
            return own
        if name != "image_size" or not isinstance(value, int):
            return None
        if value < self.network.smallest_image:
            return "image_too_small", f"the model needs images of at least {self.network.smallest_image} pixels; raise this"
        if value % self.network.image_step:
            return "image_size_off_step", f"the model needs a multiple of {self.network.image_step} pixels; change this"
        return None

    def refuse_weights(self, outline: Outline, file_name: str) -> None:
        """Raises UnfitTensors, or UnreadableWeights if the file contains no state dict or must be converted first."""
        select(outline, self.network, file_name)


class ImageSpec(ComposedSpec):
    """The members of a TaskSpec that images define; the task adds its name, its target and its documents."""

    example = "image"
    size = "image_size"
    page_of_input = "images"
    shared_of_input = ("batch_size", "image_size", "precision", "augmentation", "augmentation_views", "order_seed", "frozen_layers")
    spellings_of_input = SPELLINGS

    @property
    def stand_ins(self) -> Mapping[str, Any]:
        """Labels may be read from a folder, other targets only from a table."""
        path = "data" if self.reader is None else "data.csv"
        return {"data": {"path": path}, "model": {"name": "resnet18", "weights": "DEFAULT"}, "objective": self.objective}

    @property
    def lines(self) -> Mapping[str, str]:
        """Likewise."""
        path = "/path/to/images" if self.reader is None else "/path/to/table.csv"
        return self.lines_with(data=f"data: {{path: {path}}}", model="model: {name: resnet18}")

    def models(self) -> Collection[str]:
        """The models of the catalogue."""
        return catalogue.names()

    def describe(self, model: str) -> CatalogueModel:
        """The description of a model. Raises KeyError for a name that is not in the catalogue."""
        return CatalogueModel(catalogue.load(model))

    def count(self, data: DataConfig, look: Look) -> Counted:
        """Images by stratum and part. Raises UnfitData."""
        found = scan(image_data(data), look, self.reader)
        refuse_unwritable_names(image_data(data), found, self.reader)
        refuse_similar_labels(image_data(data), found, self.reader)
        return self.counted([(one.label, one.part) for one in found.examples], data, found.facts.given, found.labels)

    def inspect_data(self, data: DataConfig, look: Look) -> InspectedData:
        """Images by label and part, their targets, and how they are listed. Raises UnfitData."""
        found = scan(image_data(data), look, self.reader)
        labels, measures = described(self.reader, [(one.label, one.part) for one in found.examples])
        return InspectedData(listing=found.facts, labels=labels, measures=measures)

    def trains_together(self, model: ModelInfo, values: Mapping[str, Any]) -> bool:
        """Whether `trainer.heads` supports all layers of the head."""
        return catalogue_model(model).network.lanes

    def head_parameters(self, model: ModelInfo, info: DatasetInfo) -> int:
        """The number of parameters of the head with the target's outputs."""
        described, outputs = catalogue_model(model).network, self.outputs(info)
        tensors = described.head.tensors.items()
        return sum(prod((outputs, *shape[1:]) if name in described.classifier else shape) for name, shape in tensors)

    def resolved(self, config: TrainConfig, info: DatasetInfo) -> TrainConfig:
        """The config with the mean and deviation by which the images were normalised. Studies of version 0.1 state them."""
        model, found = image_config(config).model, image_info(info).normalisation
        mean = model.mean or (found.mean if found else IMAGENET_MEAN)
        std = model.std or (found.std if found else IMAGENET_STD)
        return config.model_copy(update={"model": model.model_copy(update={"mean": mean, "std": std})})

    def card_data(self, config: TrainConfig, info: DatasetInfo) -> CardData:
        """The target's contents, near-duplicates and normalisation."""
        found = self._card(info)
        return replace(
            found,
            notes=(*found.notes, *_near_duplicates(image_info(info).near_duplicates)),
            model=(("normalisation", _normalisation(image_info(info), image_config(config).model)),),
        )


def _near_duplicates(near: NearDuplicates | None) -> Iterator[str]:
    if near is None:
        yield "Near-duplicates were not looked for."
    elif near.groups == 0:
        yield "No near-duplicates were found."
    else:
        torn = f"a split by content alone would have torn {near.crossing} of them apart"
        mixed = f" {near.mixed} of them have more than one label: look at those images." if near.mixed else ""
        across = f", {near.across} of them in several parts of the data's own split and not moved, the others" if near.across else ", each"
        yield f"Near-duplicates: {near.images} images in {near.groups} groups{across} kept on one side of the split; {torn}.{mixed}"


def _normalisation(info: ImageDatasetInfo, model: ImageModel) -> str:
    """Mean and standard deviation of the input, marked if they are assumed. Studies of version 0.1 state them in the model."""
    found = info.normalisation
    assumed = "; assumed, since the weights file does not state its own" if found is not None and found.source == "assumed" else ""
    return f"mean {_numbers(model.mean or IMAGENET_MEAN)}, standard deviation {_numbers(model.std or IMAGENET_STD)}{assumed}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


catalogue_model: Callable[[ModelInfo], CatalogueModel] = narrowing(CatalogueModel, "is no model of the catalogue")
image_config: Callable[[TrainConfig], ImageTrainConfig] = narrowing(ImageTrainConfig, "is not the config of an image task")
image_data: Callable[[DataConfig], ImageData] = narrowing(ImageData, "is not the data of an image task")
image_info: Callable[[DatasetInfo], ImageDatasetInfo] = narrowing(ImageDatasetInfo, "is not about images")
