"""The examples themselves, batch by batch: what stored outputs take the place of."""

from collections.abc import Generator, Iterable
from typing import Protocol, TypeVar

from torch import Tensor

from trainer.preparation import PreparedRun
from trainer.protocol import Reuse

Sign = TypeVar("Sign")


class Inputs(Protocol):
    """What the part of a model that is trained reads. A view None means the validation examples, which are never augmented."""

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
        """The same of the same depth, with the view None meaning the test examples."""


class Direct:
    """Nothing is stored, so all stages are computed."""

    depth = 0
    saved_seconds = 0.0

    def __init__(self, run: PreparedRun) -> None:
        self._run = run
        self.reuse = Reuse(pixels=run.examples.origin)

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Nothing to do."""
        yield from ()

    def expect(self, batches: Iterable[Tensor], view: int | None) -> None:
        """Examples that are streamed are read ahead."""
        self._run.examples.expect(batches)

    def batch(self, rows: Tensor, view: int | None) -> Tensor:
        """The input of the first stage [B, ...]."""
        return self._run.examples.take(rows, view)

    def for_test(self) -> "Direct":
        """Every row can be taken."""
        return self
