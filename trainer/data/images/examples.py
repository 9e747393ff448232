"""Images as tensors: all of them in memory, or read for each batch."""

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from trainer import devices
from trainer.cache import Cache, Key
from trainer.data.contents import stored
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


KEPT = 4  # data sets or sizes
DEVICE_SHARE = 0.25  # of a GPU's memory; what does not fit stays on the host and travels batch by batch
HEADROOM = 256 * 2**20  # bytes of host memory that decoding leaves alone


class Images(Protocol):
    """The pixels of a data set's contents, by row, in their order."""

    @property
    def keys(self) -> Tensor:
        """int64 [N] on the host: of the content alone, so that augmentation does not depend on the order."""

    @property
    def origin(self) -> Literal["decoded", "cached", "streamed"]:
        """Decoded for this run, found decoded, or too many to keep."""

    def constant_rows(self) -> list[int]:
        """The rows of images whose pixels are all equal, ascending."""

    def take(self, rows: Tensor) -> Tensor:
        """Pixels uint8 [B, 3, S, S] of the rows (int64 [B] on the host), on the device."""

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Tell the rows of the batches to come, in the order in which they will be taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Resident:
    """Images that lie ready as one tensor."""

    pixels: Tensor  # uint8 [N, 3, S, S], on the device or, when too large for it, on the host; not to be written to
    keys: Tensor
    origin: Literal["decoded", "cached"]
    device: torch.device

    def constant_rows(self) -> list[int]:
        """The rows of images whose pixels are all equal, ascending. Looks at every pixel."""
        parts = torch.split(self.pixels.flatten(2), 1024)  # [B, 3, S * S]
        equal = torch.cat([(part.amin(2) == part.amax(2)).all(1) for part in parts])
        return equal.nonzero()[:, 0].tolist()

    def take(self, rows: Tensor) -> Tensor:
        """Pixels uint8 [B, 3, S, S] on the device."""
        found = self.pixels.index_select(0, rows.to(self.pixels.device, non_blocking=True))  # indexing takes several times as long
        return found if found.device.type == self.device.type else to_device(found, self.device)

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Nothing to do."""


_kept: OrderedDict[tuple[str, torch.device], Resident | Streamed] = OrderedDict()


def load(dataset: ImageDataset, size: int, device: torch.device, cache: Cache | None = None) -> Resident | Streamed:
    """The data set's images at that size: found in the cache, decoded into it, decoded into memory, or else streamed.

    Every image has been decoded once when this returns. Raises BadData with the names of those that cannot be used.
    """
    cache = cache or Cache.none()
    key = key_of(dataset, size)
    place = (f"{cache.folder}/{key.digest}", device)
    if place in _kept:
        _kept.move_to_end(place)
        cache.find(key)  # used now
        return _kept[place]
    while len(_kept) >= KEPT:
        _kept.popitem(last=False)
    keys = torch.tensor([int(content.sha256[:15], 16) for content in dataset.contents])  # 60 bits
    found = _stored(dataset, size, key, cache) or _in_memory(dataset, size)
    if found is None:
        streamed = Streamed(dataset, size, keys, device)
        streamed.check()
        _kept[place] = streamed
        return streamed
    pixels, origin = found
    resident = Resident(_placed(pixels, device), keys, origin, device)
    _kept[place] = replace(resident, origin="cached")  # to the next run
    return resident


def key_of(dataset: ImageDataset, size: int) -> Key:
    """What the pixels follow from; labels and split do not matter to them."""
    contents = hashlib.sha256("\n".join(content.sha256 for content in dataset.contents).encode()).hexdigest()
    return Key("pixels", {"contents": contents, "size": size, **dataset.decoder.key})


def _stored(dataset: ImageDataset, size: int, key: Key, cache: Cache) -> tuple[Tensor, Literal["decoded", "cached"]] | None:
    """The pixels in the cache, built there if need be; None when they find no room."""

    def fill(pixels: Tensor) -> None:
        with reading.pool() as threads:
            reading.finish(reading.start(threads, dataset.contents, dataset.decoder, size, pixels.numpy()), dataset.contents)

    found = stored(cache, key, (len(dataset.contents), 3, size, size), torch.uint8, fill)
    return found and (found[0], "cached" if found[1] else "decoded")


def _in_memory(dataset: ImageDataset, size: int) -> tuple[Tensor, Literal["decoded"]] | None:
    """The pixels, decoded into memory; None when they do not fit."""
    needed = len(dataset.contents) * 3 * size * size
    while _kept and _lacks(needed):
        _kept.popitem(last=False)
    if _lacks(needed):
        return None
    pixels = torch.empty((len(dataset.contents), 3, size, size), dtype=torch.uint8)
    with reading.pool() as threads:
        reading.finish(reading.start(threads, dataset.contents, dataset.decoder, size, pixels.numpy()), dataset.contents)
    return pixels, "decoded"


def _lacks(needed: int) -> bool:
    left = devices.available()
    return left is not None and needed + HEADROOM > left


def _placed(pixels: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return pixels
    room = DEVICE_SHARE * torch.cuda.get_device_properties(device).total_memory
    if pixels.nbytes > room:
        return pixels  # not pinned: batches are gathered from it, and pinning would copy it whole
    while pixels.nbytes + _on_device() > room:
        _kept.popitem(last=False)
    return pixels.to(device)


def _on_device() -> int:
    return sum(kept.pixels.nbytes for kept in _kept.values() if isinstance(kept, Resident) and kept.pixels.is_cuda)
