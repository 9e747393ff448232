"""What a run works on: the images on their device, their labels and split, and the model."""

import platform
import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from trainer import data
from trainer.contract import Facts, TrainConfig
from trainer.models import weights
from trainer.models.build import build
from trainer.models.staged import StagedModel


@dataclass(frozen=True, slots=True)
class Expected:
    """What data and weights must turn out to be; None for whatever they are."""

    fingerprint: str | None = None
    weights_sha256: str | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Task:
    """One run's data and model, ready on the device."""

    config: TrainConfig
    facts: Facts
    pixels: Tensor  # uint8 [N, 3, S, S], on the device or, when too large for it, on the host
    keys: Tensor  # int64 [N], on the host
    labels: Tensor  # int64 [N], on the device
    training: Tensor  # int64, rows of the above, on the host
    validation: Tensor  # likewise
    model: StagedModel
    normalise: "Normalise"
    autocast: torch.autocast


def prepare(config: TrainConfig, device: torch.device, expected: Expected) -> Task:
    """Read what the config names. Raises BadData, UnfitModel, and MemoryError or torch's errors when memory runs out."""
    dataset = data.find(config.data)
    facts = _facts(config, dataset)
    _refuse_surprises(config, facts, expected)
    _refuse_large_batch(config, dataset)
    images = data.load(dataset, config.image_size, device)
    return Task(
        config=config,
        facts=facts,
        pixels=images.pixels,
        keys=images.keys,
        labels=torch.tensor([content.label for content in dataset.contents], device=device),
        training=torch.tensor(dataset.rows("train")),
        validation=torch.tensor(dataset.rows("validation")),
        model=build(config, len(dataset.classes)).to(device),
        normalise=Normalise(config, device),
        autocast=torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"),
    )


def inspect(config: TrainConfig, device: torch.device) -> Facts:
    """Read and decode every image, and try the weights. Raises as `prepare` does."""
    dataset = data.find(config.data)
    _refuse_large_batch(config, dataset)
    data.load(dataset, config.image_size, device)
    build(config, len(dataset.classes))
    return _facts(config, dataset)


class Normalise:
    """Pixels uint8 [B, 3, S, S] → float32 on the device, with the config's mean and spread taken out.

    Channels lie last in memory, which convolutions pass on: 1.5 times as fast for SqueezeNet on a CPU.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        mean, std = torch.tensor(config.model.mean), torch.tensor(config.model.std)
        self.scale = (1 / (255 * std)).view(1, 3, 1, 1).to(device)
        self.shift = (-mean / std).view(1, 3, 1, 1).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        spread = pixels.to(self.scale.device, torch.float32, non_blocking=True, memory_format=torch.channels_last)
        return spread.mul_(self.scale).add_(self.shift)


def taken(tensor: Tensor, rows: Tensor) -> Tensor:
    """The tensor's rows of those indices, wherever it lies."""
    return tensor[rows.to(tensor.device, non_blocking=True)]


def _facts(config: TrainConfig, dataset: data.Dataset) -> Facts:
    found = weights.load(config.model)
    return Facts(
        classes=dataset.classes,
        images=dataset.counts,
        fingerprint=dataset.fingerprint,
        split=dataset.split,
        weights_sha256=found.sha256 if found else None,
    )


def _refuse_surprises(config: TrainConfig, facts: Facts, expected: Expected) -> None:
    for what, found, wanted in (
        (f"the data at {config.data.path}", facts.fingerprint, expected.fingerprint),
        (f"the weights {config.model.weights}", facts.weights_sha256, expected.weights_sha256),
    ):
        if wanted is not None and found != wanted:
            raise data.BadData(f"{what} are not those that were expected: SHA-256 {found}, not {wanted}")


def _refuse_large_batch(config: TrainConfig, dataset: data.Dataset) -> None:
    if config.batch_size > (training := dataset.counts["train"]):
        raise data.BadData(f"a batch of {config.batch_size} is larger than the {training} training images; lower batch_size")


def environment(device: torch.device) -> dict[str, str]:
    """What equal results rest on, besides the config."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": str(torch.get_num_threads()),
    }


def _processor() -> str:
    try:
        match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()
