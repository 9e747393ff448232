"""An image model as a function of pixels, for programs without this project."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from trainer.data.images.examples import Images
from trainer.models import StagedModel
from trainer.tasks.base import Examples
from trainer.tasks.images.config import ImageTrainConfig


@runtime_checkable
class HasPixels(Protocol):
    """Capability of Examples: images before their normalisation."""

    images: Images


class NormalisedImages(nn.Module):
    """Pixels uint8 [B, 3, S, S] → outputs [B, O]."""

    def __init__(self, model: StagedModel, normalise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.normalise = model, normalise

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model.forward_from(self.normalise(pixels), 0).float()


class ImageGraph:
    """Implements `trainer.tasks.capabilities.Graph`. The normalisation is in the graph."""

    inputs: Mapping[str, Mapping[int, str]] = {"pixels": {0: "batch"}}

    def __init__(self, model: StagedModel, normalise: Callable[[Tensor], Tensor], config: ImageTrainConfig) -> None:
        self.module, self.network = NormalisedImages(model, normalise), config.model.name
        self._config = config

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """How an image file becomes pixels."""
        return {
            "image_size": self._config.image_size,
            "crop": "the largest centred square, resized (bilinear, antialiased)",
            "channels": "RGB, uint8, channels first",
            "normalised_in_graph": {"mean": self._config.model.mean, "std": self._config.model.std},
        }

    def of(self, examples: Examples, rows: Tensor) -> tuple[Tensor, ...]:
        """The pixels of the rows."""
        if not isinstance(examples, HasPixels):
            raise TypeError(f"{type(examples).__name__} contains no images")
        return (examples.images.take(rows).cpu(),)

    def random_inputs(self, sizes: Sequence[int], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Random pixels, an image for each size."""
        size = self._config.image_size
        return (torch.randint(256, (len(sizes), 3, size, size), generator=generator, dtype=torch.uint8),)
