"""The part of a Task that all image tasks have, with torch: data, network and input of the stages."""

import base64
import copy
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import PIL
import torch
import torchvision
from PIL import Image, features
from torch import Tensor, nn

from trainer.adapters.config import LOW_RANK
from trainer.cache import JSON, Cache
from trainer.configuration import RANDOM, DataConfig, DatasetInfo, TrainConfig, narrowing
from trainer.data.dataset import Dataset, Listing
from trainer.data.examples import InputRow, Look
from trainer.data.images import dataset as images
from trainer.data.images import decoding
from trainer.data.images.augmentation import augment
from trainer.data.images.examples import Images, load
from trainer.data.images.listing import input_rows
from trainer.models import Infeasible, StagedModel
from trainer.targets.examples import MOST_SIDE, is_picture
from trainer.tasks.base import Examples
from trainer.tasks.composition import ComposedTask
from trainer.tasks.images.config import IMAGENET_MEAN, IMAGENET_STD, ImageDatasetInfo, ImageExamples, ImageTrainConfig
from trainer.tasks.images.graph import ImageGraph
from trainer.tasks.images.networks import factory
from trainer.tasks.images.networks.factory import build
from trainer.tasks.images.spec import image_config, image_data, image_info

MOST_EXAMPLES = 5  # names of images in the dataset info


class ImageTask(ComposedTask):
    """Images with a target."""

    def list_examples(self, data: DataConfig, cache: Cache, *, accepted: bool) -> Listing:
        """The images, without those that `data.unreadable: skip` leaves out. Raises BadData."""
        return images.listed(image_data(data), cache, accepted=accepted, target=self.spec.reader)

    def split(self, data: DataConfig, listing: Listing, cache: Cache, expected: DatasetInfo | None) -> images.ImageDataset:
        """Split by the target's strata, near-duplicates in one part. Raises BadData, with the names of images that cannot be decoded."""
        reader = self.spec.reader
        return images.arrange(image_data(data), listing, cache, "find" if expected is None else image_info(expected).pixel_range, reader)

    def resolve(self, config: TrainConfig, listing: Listing, dataset: Dataset) -> tuple[ImageTrainConfig, ImageDatasetInfo]:
        """The config with the input's mean and standard deviation filled in, and the dataset info. Raises UnfitModel."""
        asked, found = image_config(config), _images(dataset)
        loaded = factory.load(asked.model)
        normalisation = factory.normalisation_of(asked.model, loaded)
        left_out = ImageExamples(count=len(listing.unreadable), examples=listing.unreadable[:MOST_EXAMPLES])
        info = ImageDatasetInfo.of_task(self.spec.name)(
            images=found.counts,
            fingerprint=found.fingerprint,
            split=found.split,
            weights_sha256=loaded.sha256 if loaded else None,
            near_duplicates=found.near_duplicates,
            listing=found.listing,
            pixel_range=found.pixel_range,
            unreadable=left_out if listing.unreadable else None,
            weights=loaded.loaded if loaded else None,
            normalisation=normalisation,
            **self.facts(dataset),
        )
        model = asked.model.model_copy(update={"mean": normalisation.mean, "std": normalisation.std})
        return asked.model_copy(update={"model": model}), info

    def model(self, config: TrainConfig, info: DatasetInfo) -> StagedModel:
        """The network with the target's outputs. Raises UnfitModel."""
        return build(image_config(config), self.spec.outputs(info))

    def refuse_batch_size(self, config: TrainConfig, model: StagedModel) -> None:
        """Raises Infeasible if a batch of one image gives a trained batch normalisation a single value a channel: it has no variance."""
        size = image_config(config).image_size
        normalising = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training]
        if config.batch_size > 1 or not normalising:
            return
        outline = copy.deepcopy(model).to("meta")  # shapes without values
        try:
            outline(torch.empty((1, 3, size, size), device="meta"))
        except ValueError as error:
            raise Infeasible(
                f"batch_size 1 is too small for {config.model.name} at {size} pixels: its batch normalisation needs more than "
                "one value a channel; raise batch_size, image_size or frozen_layers"
            ) from error

    def inspect(self, examples: Examples, dataset: Dataset, info: DatasetInfo) -> ImageDatasetInfo:
        """The dataset info with the images of a single colour."""
        if not isinstance(examples, ImageInputs):
            raise TypeError(f"{type(examples).__name__} contains no images")
        constant = _images(dataset).examples(examples.images.constant_rows())
        return image_info(info).model_copy(update={"constant": constant if constant.count else None})

    def examples(self, dataset: Dataset, config: TrainConfig, device: torch.device, cache: Cache) -> "ImageInputs":
        """Decoded images. Raises BadData with the names of those that cannot be decoded."""
        found, asked = _images(dataset), image_config(config)
        return ImageInputs(load(found, asked.image_size, device, cache), Normalise(asked, device), asked)

    def shown(self, dataset: Dataset, examples: Examples, rows: Sequence[int]) -> Sequence[Mapping[str, str]]:
        """Small pictures of the images as the network reads them. Raises BadData for images that cannot be read any more."""
        if not isinstance(examples, ImageInputs):
            raise TypeError(f"{type(examples).__name__} contains no images")
        return [{} if picture is None else {"picture": picture} for picture in examples.pictures(rows)]

    def exported_config(self, config: TrainConfig, folder: Path) -> ImageTrainConfig:
        """The config of the network in the folder, with merged updates and without the weights that it started from."""
        asked = image_config(config)
        model = asked.model.model_copy(update={"weights": RANDOM})
        return asked.model_copy(update={"model": model, **({"method": "full"} if asked.method in LOW_RANK else {})})

    def input_rows(self, data: DataConfig, look: Look, *, targets: bool) -> Iterator[InputRow]:
        """The image files. Raises UnfitData."""
        return input_rows(image_data(data), self.spec.reader, look, targets=targets)

    def inputs(
        self, contents: Sequence[Path], config: TrainConfig, info: DatasetInfo, device: torch.device
    ) -> tuple["ImageInputs | None", Sequence[str | None]]:
        """The images that can be decoded, with the range of the training images if they have more than 8 bits a sample. Raises BadData."""
        dataset, reasons = images.without_targets(image_data(config.data), contents, image_info(info).pixel_range)
        return self.examples(dataset, config, device, Cache.none()) if dataset.contents else None, reasons

    def graph(self, model: StagedModel, config: TrainConfig) -> ImageGraph:
        """The model as a function of pixels."""
        asked = image_config(config)
        return ImageGraph(model, Normalise(asked, torch.device("cpu")), asked)

    def cache_key(self, config: TrainConfig, info: DatasetInfo, contents: str, *, augmented: bool) -> Mapping[str, JSON]:
        """The facts that determine the output of frozen stages: weights, size, decoding, normalisation and augmentation."""
        asked, found = image_config(config), image_info(info)
        # Random weights are determined by the seed, and by the number of outputs: the layers are initialised one after the other from one
        # generator, so a larger last layer changes the values drawn after it.
        drawn = {"seed": asked.seed, self.spec.target: self.spec.outputs(info)}
        # Empty for data without images of more than 8 bits a sample, so that its keys equal those of version 0.1.
        pixels = found.pixel_range
        scale = {} if pixels is None else decoding.Decoder(scale=(pixels.low, pixels.high)).scale_key
        return {
            "weights": found.weights_sha256 or drawn,
            "images": contents,
            "image_size": asked.image_size,
            "mean": asked.model.mean,
            "std": asked.model.std,
            "decoding": [decoding.VERSION, PIL.__version__],
            "augmentation": asked.augmentation if augmented else "none",
            "torchvision": torchvision.__version__,
            **scale,
        }


class ImageInputs:
    """Implements `trainer.tasks.base.Examples` for images: augments and normalises each batch."""

    def __init__(self, images: Images, normalise: "Normalise", config: ImageTrainConfig) -> None:
        self.images, self._normalise, self._config = images, normalise, config
        self.augmented, self.views = config.augmentation != "none", config.augmentation_views
        self._pictures = dict[int, str | None]()  # by row: heads trained together are often wrong in the same examples

    @property
    def keys(self) -> Tensor:
        """The keys of the images' contents, int64 [N]."""
        return self.images.keys

    @property
    def origin(self) -> Literal["decoded", "cached", "streamed"]:
        """The origin of the pixels."""
        return self.images.origin

    @property
    def stored_bytes(self) -> int:
        """Bytes of the pixels in the cache."""
        return len(self.images.keys) * 3 * self._config.image_size**2

    def take(self, rows: Tensor, view: int | None) -> Tensor:
        """Normalised images, float32 [B, 3, S, S], channels last."""
        pixels = self.images.take(rows)
        return self._normalise(pixels if view is None else augment(pixels, self.images.keys[rows], view, self._config.augmentation))

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Announce the batches, which streamed images decode ahead."""
        self.images.expect(batches)

    def pictures(self, rows: Sequence[int]) -> list[str | None]:
        """The images as `thumbnail` makes them. Raises BadData."""
        if new := [row for row in rows if row not in self._pictures]:
            taken = self.images.take(torch.tensor(new)).cpu()
            self._pictures.update(zip(new, map(thumbnail, taken), strict=True))
        return [self._pictures[row] for row in rows]


QUALITIES = (70, 40, 10, 0)  # of WebP, tried in this order


def thumbnail(pixels: Tensor) -> str | None:
    """Pixels uint8 [3, S, S] → base64 of a lossy WebP file as `is_picture` accepts it; None if there is none so small."""
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    image.thumbnail((MOST_SIDE, MOST_SIDE))
    for quality in QUALITIES if features.check("webp") else ():
        file = io.BytesIO()
        image.save(file, "WEBP", quality=quality, method=2)
        if is_picture(file.getvalue()):
            return base64.b64encode(file.getvalue()).decode()
    return None


class Normalise:
    """Pixels uint8 [B, 3, S, S] → float32 on the device, normalised by the config's mean and standard deviation.

    The output is channels last in memory, an order that convolutions keep: 1.5 times as fast for SqueezeNet on a CPU.
    """

    def __init__(self, config: ImageTrainConfig, device: torch.device) -> None:
        mean = torch.tensor(config.model.mean or IMAGENET_MEAN)
        std = torch.tensor(config.model.std or IMAGENET_STD)
        self.scale = (1 / (255 * std)).view(1, 3, 1, 1).to(device)
        self.shift = (-mean / std).view(1, 3, 1, 1).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        spread = pixels.to(self.scale.device, torch.float32, non_blocking=True, memory_format=torch.channels_last)
        return spread.mul_(self.scale).add_(self.shift)


_images: Callable[[Dataset], images.ImageDataset] = narrowing(images.ImageDataset, "contains no images")
