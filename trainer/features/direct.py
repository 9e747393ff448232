"""Images themselves, taken, augmented and normalised batch by batch: what stored outputs take the place of."""

from collections.abc import Generator, Iterable
from typing import Protocol, TypeVar

from torch import Tensor

from trainer.contract import Reuse
from trainer.data.augmentation import augment
from trainer.task import Task

Sign = TypeVar("Sign")


class Inputs(Protocol):
    """What the part of a model that is trained reads. A view None means the validation images, which are never augmented."""

    @property
    def depth(self) -> int:
        """How many stages' output it gives; `StagedModel.forward_from` goes on from there."""

    @property
    def reuse(self) -> Reuse:
        """What is read in place of being computed."""

    @property
    def saved_seconds(self) -> float:
        """What reading spared so far, less reading and building; negative as long as building has not paid."""

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Have what the view needs stored. Yields `sign` between batches, so that whoever waits sees that it lives."""

    def expect(self, batches: Iterable[Tensor], view: int | None) -> None:
        """Tell the rows of the batches to come, in their order, so that they can be fetched ahead."""

    def batch(self, rows: Tensor, view: int | None) -> Tensor:
        """What goes into the stage behind the first `depth`: [B, ...] of floating point, on the device, as it lies there best."""

    def for_test(self) -> "Inputs":
        """The same of the same depth, with the view None meaning the test images."""


class Direct:
    """Nothing is stored, so everything is computed from the pixels."""

    depth = 0
    saved_seconds = 0.0

    def __init__(self, task: Task) -> None:
        self._task = task
        self.reuse = Reuse(pixels=task.images.origin)

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Nothing to do."""
        yield from ()

    def expect(self, batches: Iterable[Tensor], view: int | None) -> None:
        """Images that are streamed are decoded ahead."""
        self._task.images.expect(batches)

    def batch(self, rows: Tensor, view: int | None) -> Tensor:
        """Normalised images, float32 [B, 3, S, S], channels last."""
        images, config = self._task.images, self._task.config
        pixels = images.take(rows)
        return self._task.normalise(pixels if view is None else augment(pixels, images.keys[rows], view, config.augmentation))

    def for_test(self) -> "Direct":
        """Images are images."""
        return self
