"""The images' files into pixels, by several threads, with every fault named by its file."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.contents import Distinct
from trainer.data.decoding import Undecodable, decode
from trainer.data.faults import BadData

CHUNK = 32  # images a task of a thread; single ones spend more on handing over than on decoding

Faults = list[str]


def pool() -> ThreadPoolExecutor:
    """As many threads as PyTorch may use."""
    return ThreadPoolExecutor(max_workers=torch.get_num_threads(), thread_name_prefix="decoding")


def start(threads: ThreadPoolExecutor, contents: Sequence[Distinct], size: int, into: NDArray[np.uint8]) -> list[Future[Faults]]:
    """Begin to decode the contents into uint8 [N, 3, S, S]; `finish` waits for it."""
    spans = [slice(first, first + CHUNK) for first in range(0, len(contents), CHUNK)]
    return [threads.submit(_fill, contents[span], size, into[span]) for span in spans]


def check(threads: ThreadPoolExecutor, contents: Sequence[Distinct], size: int) -> list[Future[Faults]]:
    """Begin to decode the contents and keep nothing of them."""
    return [threads.submit(_drop, contents[first : first + CHUNK], size) for first in range(0, len(contents), CHUNK)]


def thumbnails(contents: Sequence[Distinct], size: int) -> Tensor:
    """Small pictures of the contents, uint8 [N, S, S, 3], several times as fast as their pixels. Raises BadData as `finish` does."""
    into = torch.empty((len(contents), size, size, 3), dtype=torch.uint8)
    spans = [slice(first, first + CHUNK) for first in range(0, len(contents), CHUNK)]
    with pool() as threads:
        finish([threads.submit(_shrink, contents[span], size, into[span].numpy()) for span in spans])
    return into


def finish(started: Iterable[Future[Faults]]) -> None:
    """Wait. Raises BadData with the names of the images that cannot be used."""
    if faults := [fault for future in started for fault in future.result()]:
        raise BadData.listing(f"{len(faults)} images cannot be used", sorted(faults))


def _fill(contents: Sequence[Distinct], size: int, into: NDArray[np.uint8]) -> Faults:
    def keep(row: int, square: NDArray[np.uint8]) -> None:
        into[row] = square.transpose(2, 0, 1)  # [S, S, 3] → [3, S, S]

    return _each(contents, lambda content: decode(content, size), keep)


def _shrink(contents: Sequence[Distinct], size: int, into: NDArray[np.uint8]) -> Faults:
    return _each(contents, lambda content: decode(content, size, roughly=True), into.__setitem__)


def _drop(contents: Sequence[Distinct], size: int) -> Faults:
    return _each(contents, lambda content: decode(content, size), lambda row, square: None)


Decode = Callable[[bytes], NDArray[np.uint8]]
Use = Callable[[int, NDArray[np.uint8]], None]


def _each(contents: Sequence[Distinct], decode: Decode, use: Use) -> Faults:
    faults = Faults()
    for row, content in enumerate(contents):
        try:
            use(row, decode(_bytes(content)))
        except Undecodable as fault:
            faults += [f"{image.name}: {fault}" for image in content.files]
        except OSError as error:
            faults += [f"{image.name}: {error.strerror or type(error).__name__}" for image in content.files]
    return faults


def _bytes(content: Distinct) -> bytes:
    found = content.files[0].file.read_bytes()
    if hashlib.sha256(found).hexdigest() != content.sha256:
        raise Undecodable("it changed while it was read")
    return found
