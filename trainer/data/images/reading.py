"""Reads and decodes image files in parallel, and finds those that cannot be decoded."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.cache import Cache, CacheKey
from trainer.configuration import counted
from trainer.data.contents import Distinct, Unopened, stored
from trainer.data.examples import BadData, Example, MissingData
from trainer.data.images.decoding import Decoder, Scale, Undecodable, may_be_deep
from trainer.files import UnfitFile, open_regular, read_regular
from trainer.tasks.images.config import ImageData

CHUNK = 32  # images decoded by one task; a task for each image would cost more than decoding a small one

TRIED = 32  # side of the square, in pixels, to which an image is decoded if only success matters

Faults = list[str]


def pool() -> ThreadPoolExecutor:
    """A pool of as many threads as PyTorch uses."""
    return ThreadPoolExecutor(max_workers=torch.get_num_threads(), thread_name_prefix="decoding")


def start(
    threads: ThreadPoolExecutor, contents: Sequence[Distinct], decoder: Decoder, size: int, into: NDArray[np.uint8]
) -> list[Future[Faults]]:
    """Start decoding the contents into `into`, uint8 [N, 3, S, S]; `finish` waits for the end."""

    def fill(span: slice) -> Faults:
        def keep(row: int, square: NDArray[np.uint8]) -> None:
            into[span][row] = square.transpose(2, 0, 1)  # [S, S, 3] → [3, S, S]

        return _each(contents[span], decoder, lambda content: decoder.square(content, size), keep)

    return [threads.submit(fill, span) for span in _spans(contents)]


def check(
    threads: ThreadPoolExecutor, contents: Sequence[Distinct], decoder: Decoder, size: int, constant: NDArray[np.bool_]
) -> list[Future[Faults]]:
    """Start decoding the contents without keeping the pixels; marks images of a single colour in `constant`, bool [N]."""

    def note(span: slice) -> Faults:
        def keep(row: int, square: NDArray[np.uint8]) -> None:
            constant[span][row] = bool((square == square[0, 0]).all())

        return _each(contents[span], decoder, lambda content: decoder.square(content, size), keep)

    return [threads.submit(note, span) for span in _spans(contents)]


def thumbnails(contents: Sequence[Distinct], decoder: Decoder, size: int) -> Tensor:
    """Thumbnails of the contents, uint8 [N, S, S, 3], decoded roughly, which is several times as fast. Raises BadData as `finish` does."""
    into = torch.empty((len(contents), size, size, 3), dtype=torch.uint8)

    def shrink(span: slice) -> Faults:
        return _each(contents[span], decoder, lambda content: decoder.square(content, size, roughly=True), into[span].numpy().__setitem__)

    with pool() as threads:
        finish([threads.submit(shrink, span) for span in _spans(contents)], contents)
    return into


def sample_ranges(contents: Sequence[Distinct], decoder: Decoder) -> list[Scale | None]:
    """The lowest and the highest sample of each content; None for images of 8 bits a sample, of which only the header is read.

    None also for unusable files: the next full decoding reports all of them in one error.
    """
    found: list[Scale | None] = [None] * len(contents)

    def measure(span: slice) -> None:
        rows = [row for row in range(*span.indices(len(contents))) if _may_be_deep(contents[row])]

        def keep(place: int, samples: Scale | None) -> None:
            found[rows[place]] = samples

        _each([contents[row] for row in rows], decoder, decoder.sample_range, keep)

    with pool() as threads:
        for future in [threads.submit(measure, span) for span in _spans(contents)]:
            future.result()
    return found


def undecodable(contents: Sequence[Distinct], decoder: Decoder) -> list[str | None]:
    """For each content the reason why it cannot be decoded; None for sound images. Raises BadData if a file cannot be read."""
    found: list[str | None] = [None] * len(contents)

    def attempt(span: slice) -> Faults:
        def tried(content: bytes) -> str | None:
            try:
                decoder.square(content, TRIED, roughly=True)
            except Undecodable as fault:
                return str(fault)
            return None

        def keep(place: int, reason: str | None) -> None:
            found[span.start + place] = reason

        return _each(contents[span], decoder, tried, keep)

    with pool() as threads:
        finish([threads.submit(attempt, span) for span in _spans(contents)], contents)
    return found


def finish(started: Iterable[Future[Faults]], contents: Sequence[Distinct]) -> None:
    """Wait for the started tasks. Raises BadData with the names of unusable files."""
    if faults := [fault for future in started for fault in future.result()]:
        raise unusable(faults, sum(len(content.files) for content in contents))


def _spans(contents: Sequence[Distinct]) -> list[slice]:
    return [slice(first, first + CHUNK) for first in range(0, len(contents), CHUNK)]


Made = TypeVar("Made")


def _each(contents: Sequence[Distinct], decoder: Decoder, make: Callable[[bytes], Made], use: Callable[[int, Made], None]) -> Faults:
    faults = Faults()
    for row, content in enumerate(contents):
        try:
            use(row, make(_bytes(content, decoder)))
        except Undecodable as fault:
            faults += [f"{image.name}: {fault}" for image in content.files]
        except UnfitFile as error:
            faults += [f"{image.name}: {error.strerror or type(error).__name__}" for image in content.files]
        except OSError as error:
            name, reason = content.files[0].name, error.strerror or type(error).__name__
            raise MissingData.listing("an image cannot be read any more", [f"{name}: {reason}"]) from None
    return faults


def _bytes(content: Distinct, decoder: Decoder) -> bytes:
    found = read_regular(content.files[0].file, decoder.max_file_bytes)
    if hashlib.sha256(found).hexdigest() != content.sha256:
        raise Undecodable("it changed while it was read")
    return found


def _may_be_deep(content: Distinct) -> bool:
    """Decides by the first bytes of the file. True for an unreadable file: reading it whole then gives the error."""
    try:
        with open_regular(content.files[0].file, sys.maxsize) as file:
            return may_be_deep(file.read(32))
    except OSError:
        return True


def unusable(faults: Sequence[str], total: int) -> BadData:
    """The error for unusable files, given as `name: reason`, among `total` images."""
    listed = BadData.listing(f"{len(faults):,} of {counted(total, 'image')} cannot be used", sorted(faults))
    them = "it" if len(faults) == 1 else "them"
    return BadData(f"{listed}. Repair or remove {them}; or write unreadable: skip under data to train without {them}")


EMPTY = hashlib.sha256(b"").hexdigest()

_known: dict[tuple[str, int], str | None] = {}  # results of this process by content and max_pixels: the reason, None for sound images


def left_out(data: ImageData, images: Sequence[Example], found: Sequence[str | Unopened], cache: Cache) -> Mapping[Example, str]:
    """The files to leave out with their reasons; `found` are the images' SHA-256s. Raises BadData with file names.

    A file is left out because of its content, so every run leaves out the same files, and the fingerprint of the others stays the same. A
    file that cannot be opened is left out if the error is a lasting one, such as a missing file or a missing permission. Any other error
    is a fault of the machine and raises MissingData: leaving the file out would change the data set for this run only.
    """
    reasons = {image: one.reason for image, one in zip(images, found, strict=True) if isinstance(one, Unopened)}
    lasting = all(one.lasting for one in found if isinstance(one, Unopened))
    if reasons and (data.unreadable == "refuse" or not lasting):
        faults = [f"{image.name}: {reason}" for image, reason in reasons.items()]
        raise (BadData if lasting else MissingData).listing(f"{len(faults):,} of {counted(len(images), 'file')} cannot be read", faults)
    # With `refuse`, decoding reports unusable files later. But empty files of two classes have equal contents: they would be refused
    # first, as contradictory labels, which hides the real cause.
    if data.unreadable == "refuse":
        if len({image.label for image, sha256 in zip(images, found, strict=True) if sha256 == EMPTY}) > 1:
            faults = [f"{image.name}: {reason}" for image, reason in _undecodable(data, images, found, cache).items()]
            raise unusable(faults, len(images))
        return reasons
    reasons |= _undecodable(data, images, found, cache)
    if len(reasons) > (most := max(1, int(data.unreadable_limit * len(images)))):
        raise BadData.listing(
            f"{len(reasons):,} of {counted(len(images), 'image')} cannot be used, and data.unreadable_limit, "
            f"{100 * data.unreadable_limit:g} %, lets {most:,} be skipped; repair or remove them, or raise unreadable_limit",
            sorted(f"{image.name}: {reason}" for image, reason in reasons.items()),
        )
    return reasons


def _undecodable(data: ImageData, images: Sequence[Example], found: Sequence[str | Unopened], cache: Cache) -> dict[Example, str]:
    files = defaultdict[str, list[Example]](list)
    for image, sha256 in zip(images, found, strict=True):
        if isinstance(sha256, str):
            files[sha256].append(image)
    contents = [Distinct(sha256, 0, tuple(same)) for sha256, same in sorted(files.items())]  # no label matters here
    decoder = Decoder.of(data, own_range=True)
    if any((content.sha256, decoder.max_pixels) not in _known for content in contents):
        for content, reason in zip(contents, _tried(contents, decoder, cache), strict=True):
            _known[content.sha256, decoder.max_pixels] = reason
    judged = ((content, _known[content.sha256, decoder.max_pixels]) for content in contents)
    return {image: reason for content, reason in judged if reason is not None for image in content.files}


def _tried(contents: Sequence[Distinct], decoder: Decoder, cache: Cache) -> list[str | None]:
    """For each content the reason, None for sound images. The cache stores only a flag for each content; reasons are computed again."""
    sha256 = hashlib.sha256("\n".join(content.sha256 for content in contents).encode()).hexdigest()
    key = CacheKey("unreadable", {"contents": sha256, "max_pixels": decoder.max_pixels, **decoder.key})
    reasons: list[str | None] = []

    def fill(flags: Tensor) -> None:
        reasons[:] = undecodable(contents, decoder)
        flags.copy_(torch.tensor([reason is not None for reason in reasons]))

    kept = stored(cache, key, (len(contents),), torch.uint8, fill)
    if kept is None or reasons:
        return reasons or undecodable(contents, decoder)
    rows = kept[0].nonzero()[:, 0].tolist()
    reason_of = dict(zip(rows, undecodable([contents[row] for row in rows], decoder), strict=True))
    return [reason_of.get(row) for row in range(len(contents))]
