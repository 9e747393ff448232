"""Images decoded once, kept by content and size for the later runs of this process."""

import hashlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer import memory
from trainer.data.dataset import Content, Dataset
from trainer.data.decoding import Undecodable, decode
from trainer.data.faults import BadData

KEPT = 4  # data sets or sizes
DEVICE_SHARE = 0.25  # of a GPU's memory; what does not fit stays on the host and travels batch by batch
HEADROOM = 256 * 2**20  # bytes of host memory that decoding leaves alone


@dataclass(frozen=True, slots=True, eq=False)
class Resident:
    """The pixels of a data set's contents, in their order."""

    pixels: Tensor  # uint8 [N, 3, S, S], on the device or, when too large for it, on the host
    keys: Tensor  # int64 [N] on the host: of the content alone, so that augmentation does not depend on the order


_kept: OrderedDict[tuple[str, int, torch.device], Resident] = OrderedDict()


def load(dataset: Dataset, size: int, device: torch.device) -> Resident:
    """The data set's images at that size, decoded now or remembered.

    Raises BadData with the names of the images that cannot be decoded, MemoryError when they do not fit.
    """
    key = (dataset.fingerprint, size, device)
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    needed = len(dataset.contents) * 3 * size * size
    _make_room(needed, size)
    pixels = _decoded(dataset, size)
    keys = torch.tensor([int(content.sha256[:15], 16) for content in dataset.contents])  # 60 bits
    _kept[key] = Resident(_placed(pixels, device), keys)
    return _kept[key]


def _make_room(needed: int, size: int) -> None:
    while len(_kept) >= KEPT or (_kept and _lacks(needed)):
        _kept.popitem(last=False)
    if _lacks(needed):
        left = memory.readable(memory.available() or 0)
        raise MemoryError(f"the decoded images need {memory.readable(needed)} at {size} pixels and {left} are free; lower image_size")


def _lacks(needed: int) -> bool:
    left = memory.available()
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
    return sum(kept.pixels.nbytes for kept in _kept.values() if kept.pixels.is_cuda)


def _decoded(dataset: Dataset, size: int) -> Tensor:
    pixels = torch.empty((len(dataset.contents), 3, size, size), dtype=torch.uint8)
    into = pixels.numpy()

    def fill(row: int) -> str | None:
        try:
            into[row] = decode(_bytes(dataset.contents[row]), size).transpose(2, 0, 1)  # [S, S, 3] → [3, S, S]
        except Undecodable as fault:
            return str(fault)
        except OSError as error:
            return error.strerror or type(error).__name__
        return None

    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        reasons = list(pool.map(fill, range(len(dataset.contents))))
    faults = [
        f"{image.name}: {reason}"
        for content, reason in zip(dataset.contents, reasons, strict=True) if reason
        for image in content.files
    ]  # fmt: skip
    if faults:
        raise BadData.listing(f"{len(faults)} images cannot be used", sorted(faults))
    return pixels


def _bytes(content: Content) -> bytes:
    found = content.files[0].file.read_bytes()
    if hashlib.sha256(found).hexdigest() != content.sha256:
        raise Undecodable("it changed while it was read")
    return found
