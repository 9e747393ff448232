"""What a run works on: the images on their device, their labels and split, and the model."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer import arithmetic, data
from trainer.cache import Cache
from trainer.contract import Checked, Facts, TrainConfig
from trainer.models import weights
from trainer.models.build import build
from trainer.models.errors import UnfitModel
from trainer.models.staged import StagedModel


@dataclass(frozen=True, slots=True)
class Expected:
    """What data and weights must turn out to be; None for whatever they are."""

    fingerprint: str | None = None
    weights_sha256: str | None = None
    manifest: str | None = None  # Checked.manifest, so that images that have changed can be named
    split: str | None = None  # Facts.split


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Task:
    """One run's data and model, ready on the device."""

    config: TrainConfig  # with its precision resolved for the device
    facts: Facts
    images: data.Images
    labels: Tensor  # int64 [N], on the device
    training: Tensor  # int64, rows of the above, on the host
    validation: Tensor  # likewise
    test: Tensor  # likewise; seen by nobody but trainer.scoring
    model: StagedModel
    normalise: "Normalise"
    autocast: torch.autocast

    @property
    def device(self) -> torch.device:
        """Where the model and the labels lie."""
        return self.labels.device

    def view_of(self, epoch: int) -> int:
        """Which view of the images the epoch, counted from 1, trains on."""
        views = self.config.augmentation_views
        return (epoch - 1) % views if views else epoch - 1


def prepare(config: TrainConfig, device: torch.device, expected: Expected, cache: Cache) -> Task:
    """Read what the config names. Raises BadData, UnfitModel, and MemoryError or torch's errors when memory runs out."""
    config = arithmetic.resolved(config, device)
    dataset, sha256 = _found(config, expected, cache), _weights_sha256(config)
    if expected.weights_sha256 is not None and sha256 != expected.weights_sha256:
        raise data.BadData(_surprise(f"the weights {config.model.weights}", sha256, expected.weights_sha256))
    _refuse_large_batch(config, dataset)
    model = build(config, len(dataset.classes))
    _refuse_single_images(config, model)
    return Task(
        config=config,
        facts=_facts(dataset, sha256),
        images=data.load(dataset, config.image_size, device, cache),
        labels=torch.tensor([content.label for content in dataset.contents], device=device),
        training=torch.tensor(dataset.rows("train")),
        validation=torch.tensor(dataset.rows("validation")),
        test=torch.tensor(dataset.rows("test"), dtype=torch.int64),
        model=model.to(device),
        normalise=Normalise(config, device),
        autocast=arithmetic.autocast(config, device),
    )


def inspect(config: TrainConfig, device: torch.device, cache: Cache) -> Checked:
    """Read and decode every image, and try the weights. Raises as `prepare` does."""
    listing = data.listed(config.data)
    dataset = data.arrange(config.data, listing, cache)
    _refuse_large_batch(config, dataset)
    data.load(dataset, config.image_size, device, cache)
    _refuse_single_images(config, build(config, len(dataset.classes)))
    return Checked(facts=_facts(dataset, _weights_sha256(config)), manifest=data.manifest_of(listing, dataset))


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


def _found(config: TrainConfig, expected: Expected, cache: Cache) -> data.Dataset:
    """The config's data, which is what was expected. Raises BadData, with the names of images that have changed."""
    listing, where = data.listed(config.data), f"the data at {config.data.path}"
    if expected.fingerprint not in (None, listing.fingerprint):
        changed = f"{data.differences(expected.manifest, listing)}; " if expected.manifest is not None else ""
        raise data.BadData(_surprise(where, listing.fingerprint, expected.fingerprint, changed))
    dataset = data.arrange(config.data, listing, cache)
    manifest = expected.manifest if expected.fingerprint is not None else None
    if expected.split not in (None, dataset.split) or (manifest is not None and data.split_differs(manifest, dataset)):
        raise data.BadData(
            f"{where} is split otherwise than expected: this machine decodes images otherwise, and so finds other near-duplicates; "
            "install the versions that the result was reached with"
        )
    return dataset


def _surprise(what: str, found: str | None, wanted: str | None, changed: str = "") -> str:
    return f"{what} are not those that were expected: {changed}SHA-256 {found}, not {wanted}"


def _weights_sha256(config: TrainConfig) -> str | None:
    found = weights.load(config.model)
    return found.sha256 if found else None


def _facts(dataset: data.Dataset, weights_sha256: str | None) -> Facts:
    return Facts(
        classes=dataset.classes,
        images=dataset.counts,
        fingerprint=dataset.fingerprint,
        split=dataset.split,
        weights_sha256=weights_sha256,
        near_duplicates=dataset.near_duplicates,
    )


def _refuse_large_batch(config: TrainConfig, dataset: data.Dataset) -> None:
    if config.batch_size > (training := dataset.counts["train"]):
        raise data.BadData(f"a batch of {config.batch_size} is larger than the {training} training images; lower batch_size")


def _refuse_single_images(config: TrainConfig, model: StagedModel) -> None:
    """Batch normalisation has nothing to take a spread over where a single image gives it a single value a channel."""
    normalising = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training]
    if config.batch_size > 1 or not normalising:
        return
    outline = copy.deepcopy(model).to("meta")  # shapes without values
    try:
        outline(torch.empty((1, 3, config.image_size, config.image_size), device="meta"))
    except ValueError as error:
        raise UnfitModel(
            f"batch_size 1 is too small for {config.model.name} at {config.image_size} pixels: its batch normalisation needs more than "
            "one value a channel; raise batch_size, image_size or frozen_layers"
        ) from error
