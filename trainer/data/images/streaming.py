"""Images that fit neither the cache nor the memory: decoded again for each batch, some batches ahead."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trainer.data.images import reading
from trainer.data.images.dataset import ImageDataset

AHEAD_BATCHES = 8
AHEAD_BYTES = 256 * 2**20  # of decoded batches; at least one batch is always decoded ahead


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    rows: Tensor
    pixels: Tensor
    started: list[Future[reading.Faults]]


class Streamed:
    """The same pixels as `Resident` has, bit for bit, in bounded memory."""

    origin: Literal["streamed"] = "streamed"

    def __init__(self, dataset: ImageDataset, size: int, keys: Tensor, device: torch.device) -> None:
        self.keys = keys  # as those of Resident
        self._contents, self._decoder, self._size, self._device = dataset.contents, dataset.decoder, size, device
        self._constant = np.zeros(len(dataset.contents), dtype=np.bool_)
        self._threads = reading.pool()
        self._coming: Iterator[Tensor] = iter(())
        self._ahead = deque[_Batch]()

    def check(self) -> None:
        """Decode every image once. Raises BadData with the names of those that cannot be used."""
        reading.finish(reading.check(self._threads, self._contents, self._decoder, self._size, self._constant), self._contents)

    def constant_rows(self) -> list[int]:
        """As those of Resident; known after `check`."""
        return [int(row) for row in np.flatnonzero(self._constant)]

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Tell the rows of the batches to come, in their order; what was expected before is forgotten."""
        for batch in self._ahead:
            for future in batch.started:
                future.cancel()
        self._ahead.clear()
        self._coming = iter(batches)
        self._look_ahead()

    def take(self, rows: Tensor) -> Tensor:
        """Pixels uint8 [B, 3, S, S] on the device; at once when they were expected next. Raises BadData, naming the files."""
        expected = bool(self._ahead) and torch.equal(self._ahead[0].rows, rows)
        batch = self._ahead.popleft() if expected else self._begun(rows)
        self._look_ahead()
        reading.finish(batch.started, [self._contents[row] for row in rows.tolist()])
        return to_device(batch.pixels, self._device)

    def _begun(self, rows: Tensor) -> _Batch:
        contents = [self._contents[row] for row in rows.tolist()]
        pixels = torch.empty((len(rows), 3, self._size, self._size), dtype=torch.uint8)
        return _Batch(rows, pixels, reading.start(self._threads, contents, self._decoder, self._size, pixels.numpy()))

    def _look_ahead(self) -> None:
        while not self._ahead or (len(self._ahead) < AHEAD_BATCHES and sum(batch.pixels.nbytes for batch in self._ahead) < AHEAD_BYTES):
            if (rows := next(self._coming, None)) is None:
                return
            self._ahead.append(self._begun(rows))


def to_device(pixels: Tensor, device: torch.device) -> Tensor:
    """A batch from the host, without waiting for the device."""
    return pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels
