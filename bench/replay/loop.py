"""A usual fine-tuning loop as in torchvision's tutorials: image files, a DataLoader, and the whole network in each epoch.

It uses Thawline's code only where the results must be comparable (split, stage boundaries, learning rate schedule), and none of its
optimizations.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainer.data.images.dataset import find
from trainer.optimization import lr_at
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import IMAGENET_MEAN, IMAGENET_STD, ImageData
from trainer.tasks.images.networks.families import BY_MODEL

Metrics = Mapping[str, float]


class Files(Dataset[tuple[Tensor, int]]):
    """Image files with their classes, decoded and transformed on each access."""

    def __init__(self, samples: list[tuple[Path, int]], transform: transforms.Compose) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), label


@cache
def split(data: ImageData) -> Mapping[str, list[tuple[Path, int]]]:
    """Files and classes of each part, listed once per process."""
    found = find(data)
    parts: dict[str, list[tuple[Path, int]]] = {"train": [], "validation": [], "test": []}
    for content in found.contents:
        parts[content.part] += [(image.file, content.label) for image in content.files]
    return parts


def fine_tune(config: ImageClassificationConfig, loader_workers: int, measured_on: str = "validation") -> Iterator[Metrics]:
    """Train, and yield accuracy and mean cross entropy after each epoch."""
    torch.manual_seed(config.seed)
    parts = split(config.data)
    model, frozen = make_model(config, classes=1 + max(label for _, label in parts["train"]))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(parameters, config)
    train_set = Files(parts["train"], training_transform(config))
    options: dict[str, Any] = {"batch_size": config.batch_size, "num_workers": loader_workers, "persistent_workers": loader_workers > 0}
    odd = len(train_set) % config.batch_size == 1  # BatchNorm raises an error for a last batch of one image
    training = DataLoader(train_set, shuffle=True, drop_last=odd, **options)
    measuring = DataLoader(Files(parts[measured_on], plain_transform(config)), **options)
    for epoch in range(config.epochs):
        model.train()
        for stage in frozen:
            stage.eval()
        for batch, (images, labels) in enumerate(training):
            for group in optimizer.param_groups:
                group["lr"] = lr_at(epoch * len(training) + batch, len(training), config)
            loss = F.cross_entropy(model(images), labels, label_smoothing=config.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        yield measure(model, measuring)


@torch.no_grad()
def measure(model: nn.Module, loader: DataLoader[tuple[Tensor, int]]) -> Metrics:
    model.eval()
    right, loss, count = 0, 0.0, 0
    for images, labels in loader:
        logits = model(images)
        right += int((logits.argmax(1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        count += len(labels)
    return {"accuracy": right / count, "loss": loss / count}


def make_model(config: ImageClassificationConfig, classes: int) -> tuple[nn.Sequential, list[nn.Module]]:
    """The network with the file's weights and a new last layer, and its frozen stages, which must be in evaluation mode."""
    family = BY_MODEL[config.model.name]
    network = family.make(config.model.name, classes, config.image_size)
    assert config.model.pretrained
    tensors = {name: tensor for name, tensor in load_file(config.model.weights).items() if name not in family.classifier_tensors}
    network.load_state_dict(tensors, strict=False)
    renew(network, family.classifier_tensors)
    stages, head = family.split(network)
    for layer in head.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = config.dropout
    frozen = list(stages.values())[: config.frozen_layers]
    for stage in frozen:
        stage.requires_grad_(False)
    return nn.Sequential(*stages.values(), head), frozen


def renew(network: nn.Module, tensors: Iterable[str]) -> None:
    """Initialise the last layer with the defaults of `nn.Linear` or `nn.Conv2d`, as in torchvision's tutorials.

    Some of torchvision's networks initialise it differently; SqueezeNet uses a hundredth of the default standard deviation.
    """
    for name in {tensor.rpartition(".")[0] for tensor in tensors}:
        network.get_submodule(name).reset_parameters()  # type: ignore[operator]


def make_optimizer(parameters: list[nn.Parameter], config: ImageClassificationConfig) -> torch.optim.Optimizer:
    lr, decay = config.lr, config.weight_decay
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr, momentum=config.momentum, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr, momentum=config.momentum, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, weight_decay=decay)


def plain_transform(config: ImageClassificationConfig) -> transforms.Compose:
    size = config.image_size
    return transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), *_as_input(config)])


def training_transform(config: ImageClassificationConfig) -> transforms.Compose:
    if config.augmentation == "crop":
        changes = [transforms.RandomResizedCrop(config.image_size), transforms.RandomHorizontalFlip()]
        return transforms.Compose([*changes, *_as_input(config)])
    assert config.augmentation == "none"
    return plain_transform(config)


def _as_input(config: ImageClassificationConfig) -> list[Any]:
    return [transforms.ToTensor(), transforms.Normalize(config.model.mean or IMAGENET_MEAN, config.model.std or IMAGENET_STD)]


def last(epochs: Iterator[Metrics]) -> Metrics:
    """The metrics after the last epoch."""
    *_, final = epochs
    return final
