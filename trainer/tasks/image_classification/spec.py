"""Image classification without torch: what server, parser, pages and statistics need."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

import trainer.tasks.image_classification.catalogue as catalogue
from trainer.configuration import DataConfig, DatasetInfo, Part, TrainConfig
from trainer.data.examples import Look
from trainer.data.images.listing import refuse_similar_labels, refuse_unwritable_names, scan
from trainer.tasks.base import CardData, CardSection, ConstantScore, Counted, ExampleScores, ExportedRun, Metric
from trainer.tasks.image_classification import examples
from trainer.tasks.image_classification.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageData,
    ImageDatasetInfo,
    ImageHyperparameters,
    ImageTrainConfig,
    Report,
    TestReport,
)
from trainer.tasks.image_classification.export import card, results
from trainer.tasks.image_classification.export.script import script
from trainer.tasks.image_classification.majority import majority
from trainer.tasks.image_classification.selection import select
from trainer.tasks.image_classification.spellings import SPELLINGS
from trainer.weight_files import Outline


class CatalogueModel:
    """A model of the catalogue as `trainer.tasks.base.ModelInfo`."""

    def __init__(self, model: catalogue.Model) -> None:
        self._model = model

    @property
    def stages(self) -> int:
        """How many can be frozen."""
        return len(self._model.stages)

    @property
    def weights(self) -> Collection[str]:
        """torchvision's names."""
        return self._model.weights

    def fault_of(self, name: str, value: object) -> tuple[str, str] | None:
        """Where images of that size do not fit the network."""
        if name != "image_size" or not isinstance(value, int):
            return None
        if value < self._model.smallest_image:
            return "image_too_small", f"the model needs images of at least {self._model.smallest_image} pixels; raise this"
        if value % self._model.image_step:
            return "image_size_off_step", f"the model needs a multiple of {self._model.image_step} pixels; change this"
        return None

    def refuse_weights(self, outline: Outline, file_name: str) -> None:
        """Raises UnfitTensors, or UnreadableWeights where the file holds no state dict or has to be converted."""
        select(outline, self._model, file_name)


def _share() -> Metric:
    return Metric("maximize", low=0.0, high=1.0, unit="share", resolution="example")


class ImageClassification:
    """What server, pages and statistics need of the task."""

    name = "image_classification"
    example = "image"
    metrics: Mapping[str, Metric] = MappingProxyType(
        {
            "accuracy": Metric("maximize", low=0.0, high=1.0, unit="share", resolution="example", additive=True),
            "precision": _share(),
            "recall": _share(),
            "f1": _share(),
            "loss": Metric("minimize", low=0.0, unit="nats", additive=True),
        }
    )
    """Precision, recall and F1 are means over the classes; the loss is the cross entropy."""
    Report = Report
    TestReport = TestReport
    Summary = results.Summary
    Hyperparameters = ImageHyperparameters
    size = "image_size"
    script_needs = "torch and torchvision"
    spellings = SPELLINGS
    example_study = examples.STUDY
    example_study_yaml = examples.STUDY_YAML
    demo_preparing = examples.PREPARING
    shared = (
        "batch_size", "image_size", "precision", "augmentation", "augmentation_views", "order_seed", "frozen_layers", "sampling",
    )  # fmt: skip
    stand_ins: Mapping[str, Any] = MappingProxyType(
        {
            "data": {"path": "data"},
            "model": {"name": "resnet18", "weights": "DEFAULT"},
            "objective": {"metric": "accuracy", "direction": "maximize"},
        }
    )
    lines: Mapping[str, str] = MappingProxyType(
        {
            "data": "data: {path: /path/to/images}",
            "model": "model: {name: resnet18}",
            "search_space": "preset: image_classification",
            "objective": "objective: {metric: accuracy, direction: maximize}",
        }
    )

    def models(self) -> Collection[str]:
        """The catalogue's."""
        return catalogue.names()

    def describe(self, model: str) -> CatalogueModel:
        """Raises KeyError for a name that the catalogue does not have."""
        return CatalogueModel(catalogue.load(model))

    def count(self, data: DataConfig, look: Look) -> Counted:
        """Images by class and part. Raises UnfitData."""
        found = scan(_images(data), look)
        refuse_unwritable_names(_images(data), found)
        refuse_similar_labels(_images(data), found)
        counts = {name: Counter[Part | None]() for name in found.classes}
        for example in found.examples:
            counts[example.label][example.part] += 1
        return Counted(tuple(found.facts.given), counts, "class")

    def trains_together(self, model: str) -> bool:
        """Whether the head consists of layers that are written for `trainer.heads`."""
        return model in catalogue.names() and catalogue.load(model).lanes

    def head_parameters(self, model: str, info: DatasetInfo) -> int:
        """Of the head with an output for each class."""
        described, classes = catalogue.load(model), len(_facts(info).classes)
        tensors = described.head.tensors.items()
        return sum(prod((classes, *shape[1:]) if name in described.classifier else shape) for name, shape in tensors)

    def constant(self, info: DatasetInfo, part: Part, metric: str) -> ConstantScore | None:
        """Of the largest class or, for the loss, of the class frequencies."""
        return majority(_facts(info), part, metric, self.metrics)

    def examples(self, report: BaseModel) -> ExampleScores | None:
        """What was predicted for each test image."""
        from trainer.tasks.image_classification.predictions import Predictions  # imports numpy, which few readers of this module need

        return Predictions.of(TestReport.model_validate(report))

    def demo(self, data: str, weights: str, model: str) -> Mapping[str, Any]:
        """A study of the digits that ship with scikit-learn."""
        return examples.demo(data, weights, model)

    def resolved(self, config: TrainConfig, info: DatasetInfo) -> TrainConfig:
        """With the mean and deviation by which the images were normalised. Studies of version 0.1 state them themselves."""
        model, found = _config(config).model, _facts(info).normalisation
        mean = model.mean or (found.mean if found else IMAGENET_MEAN)
        std = model.std or (found.std if found else IMAGENET_STD)
        return config.model_copy(update={"model": model.model_copy(update={"mean": mean, "std": std})})

    def script(self, run: ExportedRun[Any, Any]) -> str:
        """A file that needs torch and torchvision alone."""
        return script(run)

    def summary(self, info: DatasetInfo, reports: Sequence[Mapping[str, Any]]) -> results.Summary:
        """How single classes fared."""
        return results.Summary(by_class=results.by_class(_facts(info).classes, [one.get("confusion_matrix") for one in reports]))

    def card_data(self, config: TrainConfig, info: DatasetInfo) -> CardData:
        """Classes, near-duplicates and normalisation."""
        return card.data_of(_facts(info), _config(config).model)

    def card_results(self, info: DatasetInfo, summary: BaseModel, where: str) -> CardSection | None:
        """Class by class."""
        fared = summary.by_class if isinstance(summary, results.Summary) else None
        return None if fared is None else card.results_of(_facts(info).classes, fared, where)


def _config(config: TrainConfig) -> ImageTrainConfig:
    if not isinstance(config, ImageTrainConfig):
        raise TypeError(f"{type(config).__name__} is not the config of image classification")
    return config


def _images(data: DataConfig) -> ImageData:
    if not isinstance(data, ImageData):
        raise TypeError(f"{type(data).__name__} is not the data of image classification")
    return data


def _facts(info: DatasetInfo) -> ImageDatasetInfo:
    if not isinstance(info, ImageDatasetInfo):
        raise TypeError(f"{type(info).__name__} is not about the data of image classification")
    return info


SPEC = ImageClassification()
