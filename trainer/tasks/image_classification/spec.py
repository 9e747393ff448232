"""The TaskSpec of image classification. Imports no torch."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

import trainer.tasks.image_classification.card as card
import trainer.tasks.image_classification.catalogue as catalogue
from trainer.configuration import DataConfig, DatasetInfo, Part, TrainConfig
from trainer.data.examples import Look
from trainer.data.images.listing import refuse_similar_labels, refuse_unwritable_names, scan
from trainer.tasks.base import Counted, Metric
from trainer.tasks.capabilities import CardData, CardSection, ConstantScore, ExampleScores, ExportedRun, Spellings
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
from trainer.tasks.image_classification.script import obstacle, script
from trainer.tasks.image_classification.selection import select
from trainer.weight_files import Outline

SPELLINGS = Spellings(
    hyperparameters={
        "label_smoothing": "label_smoothing_factor smoothing",
        "augmentation": "augment data_augmentation aug",
        "image_size": "img_size input_size im_size imgsz resolution",
    },
    metrics={
        "accuracy": "acc val_acc val_accuracy eval_accuracy valid_accuracy validation_accuracy test_accuracy mean_accuracy top1 "
        "top1_accuracy",
        "loss": "val_loss eval_loss valid_loss validation_loss cross_entropy",
        "f1": "f1_score val_f1 eval_f1 f1_macro macro_f1",
        "precision": "val_precision eval_precision precision_macro",
        "recall": "val_recall eval_recall recall_macro",
    },
    data={"path": "image_folder"},
    words={"augmentation": {"none": "", "flip": "horizontal_flip", "crop": "random_crop", "trivial_augment": "TrivialAugmentWide"}},
    dropped="num_classes",
)


STUDY: Mapping[str, Any] = {
    "name": "sign-digits",
    "data": {"path": "data/sign-digits", "validation": 0.2, "test": 0.2},
    "model": {"name": "squeezenet1_1", "weights": "weights/squeezenet1_1.safetensors"},
    "search_space": {
        "lr": {"type": "float", "low": 1.0e-5, "high": 0.1, "log": True},
        "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
        "frozen_layers": {"type": "int", "low": 0, "high": 9},
        "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
    },
    "fixed": {"epochs": 8, "image_size": 64},
    "objective": {"metric": "accuracy", "direction": "maximize"},
    "sampler": {"name": "tpe", "seed": 0},
    "pruner": {"name": "asha", "min_steps": 1, "reduction_factor": 3},
    "budget": {"trials": 40, "hours": 2},
}
STUDY_YAML = """\
name: sign-digits
data: {path: data/sign-digits, validation: 0.2, test: 0.2}
model: {name: squeezenet1_1, weights: weights/squeezenet1_1.safetensors}
preset: image_classification
fixed: {epochs: 8, image_size: 64}
objective: {metric: accuracy, direction: maximize}
budget: {trials: 40}
"""

PREPARING = "Writing the digits as images, and pretraining a small network on half of them ..."
HALF = (0.5, 0.5, 0.5)  # mean and deviation of the pretraining


def demo(data: str, weights: str, model: str) -> Mapping[str, Any]:
    """The demo's study of handwritten digits, without name and budget. Trial 0 is the default configuration, as the baseline."""
    return {
        "data": {"path": data, "validation": 0.5},
        "model": {"name": model, "weights": weights, "mean": HALF, "std": HALF},
        "search_space": {
            "lr": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
            "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
            "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
            "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
            "frozen_layers": {"type": "int", "low": 0},
        },
        "fixed": {"epochs": 8, "image_size": 16},
        "baseline": {"lr": 1e-3, "batch_size": 32, "optimizer": "adamw", "frozen_layers": 0},
        "objective": {"metric": "accuracy", "direction": "maximize"},
    }


MEANS_OVER_CLASSES = "recall (its mean over the classes is balanced accuracy) and f1 count every class alike"
REMEDIES = "class_weights: balanced and sampling: balanced train with every class counting alike"


def majority(info: ImageDatasetInfo, part: Part, name: str, metrics: Mapping[str, Metric]) -> ConstantScore | None:
    """The score of always predicting the largest class or, for the loss, of predicting the class frequencies.

    None if the counts by class are unknown, the part has no images, or the task has no such metric.
    """
    counts = info.class_counts.get(part, ()) if info.class_counts is not None else ()
    if not sum(counts) or name not in metrics:
        return None
    most = max(counts)
    largest = [info.classes[place] for place, count in enumerate(counts) if count == most]
    label, share = largest[0], most / sum(counts)
    value = _score(name, counts, share)
    equal = len({*counts}) == len({*(info.class_counts or {}).get("train", counts)}) == 1  # then classes count alike in any case
    one = "it" if len(largest) == 1 else "one of them"
    answering = "Answering the shares of the classes" if name == "loss" else f"Always answering {one}"
    advice = f"{MEANS_OVER_CLASSES}; {REMEDIES}" if name in ("accuracy", "loss") else REMEDIES
    return ConstantScore(
        label=label,
        share=share,
        value=value,
        sentence=f"{_largest(largest, len(counts))} {100 * share:.1f} % of the {part} images. "
        f"{answering} gives {name} {metrics[name].shown(value)}.",
        advice="" if equal else f"{advice[:1].upper()}{advice[1:]}.",
    )


def _largest(names: Sequence[str], classes: int) -> str:
    """The beginning of a sentence about the share of the largest class, or of the classes that share this size."""
    if len(names) == 1:
        return f"The largest class, {names[0]}, has"
    if len(names) == classes:
        return f"Each of the {classes} classes has"
    named = f", {' and '.join(names)}," if len(names) == 2 else ""
    return f"Each of the {len(names)} largest classes{named} has"


def _score(metric: str, counts: Sequence[int], share: float) -> float:
    """The metric of the constant prediction, with macro means over the classes that have images, as in the trainer."""
    present = sum(count > 0 for count in counts)
    match metric:
        case "recall":
            return 1 / present
        case "precision":
            return share / present
        case "f1":
            return 2 * share / (1 + share) / present
        case "loss":
            return -sum(count / sum(counts) * math.log(count / sum(counts)) for count in counts if count)
        case _:
            return share


class CatalogueModel:
    """A model of the catalogue as `trainer.tasks.base.ModelInfo`."""

    def __init__(self, model: catalogue.Model) -> None:
        self._model = model

    @property
    def stages(self) -> int:
        """The number of stages that can be frozen."""
        return len(self._model.stages)

    @property
    def weights(self) -> Collection[str]:
        """torchvision's names of the weights."""
        return self._model.weights

    def fault_of(self, name: str, value: object) -> tuple[str, str] | None:
        """A fault if the network does not accept images of that size."""
        if name != "image_size" or not isinstance(value, int):
            return None
        if value < self._model.smallest_image:
            return "image_too_small", f"the model needs images of at least {self._model.smallest_image} pixels; raise this"
        if value % self._model.image_step:
            return "image_size_off_step", f"the model needs a multiple of {self._model.image_step} pixels; change this"
        return None

    def refuse_weights(self, outline: Outline, file_name: str) -> None:
        """Raises UnfitTensors, or UnreadableWeights if the file contains no state dict or must be converted first."""
        select(outline, self._model, file_name)


def _share() -> Metric:
    return Metric("maximize", low=0.0, high=1.0, unit="share", resolution="example")


class ImageClassification:
    """Image classification as `trainer.tasks.base.TaskSpec`."""

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
    Summary = card.Summary
    Hyperparameters = ImageHyperparameters
    size = "image_size"
    script_needs = "torch and torchvision"
    spellings = SPELLINGS
    example_study = STUDY
    example_study_yaml = STUDY_YAML
    demo_preparing = PREPARING
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
        """The models of the catalogue."""
        return catalogue.names()

    def describe(self, model: str) -> CatalogueModel:
        """The description of a model. Raises KeyError for a name that is not in the catalogue."""
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
        """Whether `trainer.heads` supports all layers of the head."""
        return model in catalogue.names() and catalogue.load(model).lanes

    def head_parameters(self, model: str, info: DatasetInfo) -> int:
        """The number of parameters of the head with one output for each class."""
        described, classes = catalogue.load(model), len(_facts(info).classes)
        tensors = described.head.tensors.items()
        return sum(prod((classes, *shape[1:]) if name in described.classifier else shape) for name, shape in tensors)

    def constant(self, info: DatasetInfo, part: Part, metric: str) -> ConstantScore | None:
        """See `majority`."""
        return majority(_facts(info), part, metric, self.metrics)

    def examples(self, report: BaseModel) -> ExampleScores | None:
        """The predictions for the test images."""
        from trainer.tasks.image_classification.predictions import Predictions  # imports numpy, which few importers of this module need

        return Predictions.of(TestReport.model_validate(report))

    def demo(self, data: str, weights: str, model: str) -> Mapping[str, Any]:
        """A study of the digits that ship with scikit-learn."""
        return demo(data, weights, model)

    def resolved(self, config: TrainConfig, info: DatasetInfo) -> TrainConfig:
        """The config with the mean and deviation by which the images were normalised. Studies of version 0.1 state them."""
        model, found = _config(config).model, _facts(info).normalisation
        mean = model.mean or (found.mean if found else IMAGENET_MEAN)
        std = model.std or (found.std if found else IMAGENET_STD)
        return config.model_copy(update={"model": model.model_copy(update={"mean": mean, "std": std})})

    def script_obstacle(self, run: ExportedRun[Any, Any]) -> str | None:
        """See `script.obstacle`."""
        return obstacle(run)

    def script(self, run: ExportedRun[Any, Any]) -> str:
        """The training script, which needs only torch and torchvision."""
        return script(run)

    def summary(self, info: DatasetInfo, reports: Sequence[Mapping[str, Any]]) -> card.Summary:
        """The results by class."""
        return card.Summary(by_class=card.by_class(_facts(info).classes, [one.get("confusion_matrix") for one in reports]))

    def card_data(self, config: TrainConfig, info: DatasetInfo) -> CardData:
        """The contents about classes, near-duplicates and normalisation."""
        return card.data_of(_facts(info), _config(config).model)

    def card_results(self, info: DatasetInfo, summary: BaseModel, where: str) -> CardSection | None:
        """The section of results by class."""
        by_class = summary.by_class if isinstance(summary, card.Summary) else None
        return None if by_class is None else card.results_of(_facts(info).classes, by_class, where)


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
