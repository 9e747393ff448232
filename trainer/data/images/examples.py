"""Images as tensors: resident in memory, or streamed batch by batch."""

import copy
import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from trainer import memory, transfers
from trainer.cache import Cache, CacheKey
from trainer.data.contents import stored
from trainer.data.images import reading
from trainer.data.images.dataset import ImageDataset
from trainer.order import RowsAhead
from trainer.transfers import CopyQueue, Prefetcher

AHEAD_BATCHES = 8
AHEAD_BYTES = 256 * 2**20  # of batches decoded ahead; at least one batch is


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    rows: Tensor
    pixels: Tensor
    started: list[Future[reading.Faults]]


class Streamed:
    """Decodes images for each batch, on the host in bounded memory. The pixels equal those of `Resident` bit for bit."""

    origin: Literal["streamed"] = "streamed"

    def __init__(self, dataset: ImageDataset, size: int, keys: Tensor) -> None:
        self.keys = keys  # as Resident.keys
        self._contents, self._decoder, self._size = dataset.contents, dataset.decoder, size
        self._constant = np.zeros(len(dataset.contents), dtype=np.bool_)
        self._threads = reading.pool()
        self._coming: Iterator[Tensor] = iter(())
        self._ahead = deque[_Batch]()

    def check(self) -> None:
        """Decode every image once. Raises BadData with the names of unusable images."""
        reading.finish(reading.check(self._threads, self._contents, self._decoder, self._size, self._constant), self._contents)

    def constant_rows(self) -> list[int]:
        """As Resident.constant_rows; valid after `check`."""
        return [int(row) for row in np.flatnonzero(self._constant)]

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Announce the rows of the next batches in order. Replaces earlier announcements."""
        for batch in self._ahead:
            for future in batch.started:
                future.cancel()
        self._ahead.clear()
        self._coming = iter(batches)
        self._read_ahead()

    def take(self, rows: Tensor) -> Tensor:
        """Pixels uint8 [B, 3, S, S], decoded ahead if the batch was announced. Raises BadData with file names."""
        expected = bool(self._ahead) and torch.equal(self._ahead[0].rows, rows)
        batch = self._ahead.popleft() if expected else self._begun(rows)
        self._read_ahead()
        reading.finish(batch.started, [self._contents[row] for row in rows.tolist()])
        return batch.pixels

    def lookup(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """As `transfers.Lookup`."""
        return self.take(rows), torch.arange(len(rows))

    def separate(self) -> "Streamed":
        """The same images, with announcements of its own."""
        found = copy.copy(self)
        found._coming, found._ahead = iter(()), deque()
        return found

    def _begun(self, rows: Tensor) -> _Batch:
        contents = [self._contents[row] for row in rows.tolist()]
        pixels = torch.empty((len(rows), 3, self._size, self._size), dtype=torch.uint8)
        return _Batch(rows, pixels, reading.start(self._threads, contents, self._decoder, self._size, pixels.numpy()))

    def _read_ahead(self) -> None:
        while not self._ahead or (len(self._ahead) < AHEAD_BATCHES and sum(batch.pixels.nbytes for batch in self._ahead) < AHEAD_BYTES):
            if (rows := next(self._coming, None)) is None:
                return
            self._ahead.append(self._begun(rows))


KEPT = 4  # data sets or sizes kept by this process on the host
HEADROOM = 256 * 2**20  # bytes of host memory left free


class Images(Protocol):
    """The pixels of a data set, one row for each content."""

    @property
    def keys(self) -> Tensor:
        """Keys int64 [N] on the host, functions of the content, for augmentation that does not depend on the order."""

    @property
    def origin(self) -> Literal["decoded", "cached", "streamed"]:
        """Decoded for this run, found in the cache or in memory, or decoded for each batch."""

    def constant_rows(self) -> list[int]:
        """The rows of images of a single colour, ascending."""

    def take(self, rows: Tensor) -> Tensor:
        """Pixels uint8 [B, 3, S, S] on the device; on the host if the device has no queue of copies. `rows` are int64 [B] on the host."""

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Announce the rows of the next batches in order."""


@dataclass(frozen=True, slots=True, eq=False)
class Resident:
    """All images decoded in one tensor."""

    pixels: Tensor  # uint8 [N, 3, S, S], on the device or, if too large for it, on the host; read-only
    keys: Tensor
    origin: Literal["decoded", "cached"]
    ahead: RowsAhead

    def constant_rows(self) -> list[int]:
        """The rows of images of a single colour, ascending. Reads every pixel."""
        parts = torch.split(self.pixels.flatten(2), 1024)  # [B, 3, S * S]
        equal = torch.cat([(part.amin(2) == part.amax(2)).all(1) for part in parts])
        return equal.nonzero()[:, 0].tolist()

    def take(self, rows: Tensor) -> Tensor:
        """Pixels uint8 [B, 3, S, S] on the device of `pixels`."""
        moved = self.ahead.of(rows)
        moved = rows.to(self.pixels.device, non_blocking=True) if moved is None else moved
        return self.pixels.index_select(0, moved)  # several times as fast as indexing

    def lookup(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """As `transfers.Lookup`."""
        return self.pixels, rows

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Move the rows of the next batches to the device of the pixels."""
        self.ahead.expect(list(batches))


class Prefetched:
    """Images on the host, whose batches are gathered and copied to an accelerator ahead of the step."""

    def __init__(self, images: Resident | Streamed, queue: CopyQueue) -> None:
        self.images, self._prefetcher = images, Prefetcher(queue)

    @property
    def keys(self) -> Tensor:
        """As Images.keys."""
        return self.images.keys

    @property
    def origin(self) -> Literal["decoded", "cached", "streamed"]:
        """As Images.origin."""
        return self.images.origin

    def constant_rows(self) -> list[int]:
        """As Images.constant_rows."""
        return self.images.constant_rows()

    def take(self, rows: Tensor) -> Tensor:
        """Pixels uint8 [B, 3, S, S] on the device. Raises BadData with file names for streamed images."""
        return self._prefetcher.take(rows, self.images.lookup)

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Announce the rows of the next batches in order. Replaces earlier announcements."""
        announced = list(batches)
        self._prefetcher.cancel()  # the thread uses the images
        self.images.expect(announced)
        self._prefetcher.expect(announced, self.images.lookup)


_kept: OrderedDict[tuple[str, torch.device], Resident | Streamed] = OrderedDict()  # pixels on the host
_on_device = memory.DeviceCache[Resident]()  # data sets that do not fit it stay on the host and are copied batch by batch


def load(dataset: ImageDataset, size: int, device: torch.device, cache: Cache | None = None) -> Resident | Streamed | Prefetched:
    """The images at that size: found in the cache, decoded into it, decoded into memory, or streamed, whichever is possible first.

    Every image has been decoded at least once on return. Raises BadData with the names of unusable images.
    """
    cache = cache or Cache.none()
    key = key_of(dataset, size)
    place = (f"{cache.folder}/{key.digest}", device)
    if (known := _on_device.find(*place)) is not None:
        cache.find(key)  # marks the entry as used
        return known
    if (on_host := _kept.get(place)) is not None:
        _kept.move_to_end(place)
        cache.find(key)
        return _from_host(on_host, device)
    while len(_kept) >= KEPT:
        _kept.popitem(last=False)
    keys = torch.tensor([int(content.sha256[:15], 16) for content in dataset.contents])  # 60 bits
    found = _stored(dataset, size, key, cache) or _in_memory(dataset, size)
    if found is None:
        streamed = Streamed(dataset, size, keys)
        streamed.check()
        _kept[place] = streamed
        return _from_host(streamed, device)
    pixels, origin = found
    if _on_device.make_room(pixels.nbytes, device):
        resident = Resident(pixels.to(device), keys, origin, RowsAhead(device))
        _on_device.keep(*place, replace(resident, origin="cached"), pixels.nbytes)  # for the next run of this process
        return resident
    resident = Resident(pixels, keys, origin, RowsAhead(pixels.device))  # not pinned, which would copy the whole tensor
    _kept[place] = replace(resident, origin="cached")
    return _from_host(resident, device)


def _from_host(images: Resident | Streamed, device: torch.device) -> Resident | Streamed | Prefetched:
    """The images as one run reads them on the device."""
    if (queue := transfers.copy_queue(device)) is None:
        return images
    return Prefetched(images.separate() if isinstance(images, Streamed) else images, queue)


def key_of(dataset: ImageDataset, size: int) -> CacheKey:
    """The cache key of the pixels: contents, size and decoder. Labels and split are not in it."""
    contents = hashlib.sha256("\n".join(content.sha256 for content in dataset.contents).encode()).hexdigest()
    return CacheKey("pixels", {"contents": contents, "size": size, **dataset.decoder.key})


def _stored(dataset: ImageDataset, size: int, key: CacheKey, cache: Cache) -> tuple[Tensor, Literal["decoded", "cached"]] | None:
    """The pixels in the cache, decoded into it if they are absent; None if they do not fit."""

    def fill(pixels: Tensor) -> None:
        with reading.pool() as threads:
            reading.finish(reading.start(threads, dataset.contents, dataset.decoder, size, pixels.numpy()), dataset.contents)

    found = stored(cache, key, (len(dataset.contents), 3, size, size), torch.uint8, fill)
    return found and (found[0], "cached" if found[1] else "decoded")


def _in_memory(dataset: ImageDataset, size: int) -> tuple[Tensor, Literal["decoded"]] | None:
    """The pixels decoded into memory; None if they do not fit."""
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
    left = memory.available()
    return left is not None and needed + HEADROOM > left
