"""Files that hold no image that can be decoded: refused by their names, or left out where `data.unreadable` is `skip`."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainer.cache import Cache, Key
from trainer.data.contents import Distinct, Unopened
from trainer.data.examples import Example
from trainer.data.faults import BadData, MissingData
from trainer.data.images import reading
from trainer.data.images.decoding import Decoder
from trainer.data.stored import stored
from trainer.tasks.image_classification.config import ImageData

EMPTY = hashlib.sha256(b"").hexdigest()

_known: dict[tuple[str, int], str | None] = {}  # of this process: by content and max_pixels, the reason


def left_out(data: ImageData, images: Sequence[Example], found: Sequence[str | Unopened], cache: Cache) -> Mapping[Example, str]:
    """The files that no run reads, with the reasons, given each image's SHA-256. Raises BadData, naming files.

    A file is left out for its content, so every run leaves out the same files; the fingerprint of the others proves it. A file that cannot
    be opened counts where the error will last, such as a missing file or one without permission; any other error is the machine's, and
    raised as MissingData.
    """
    reasons = {image: one.reason for image, one in zip(images, found, strict=True) if isinstance(one, Unopened)}
    lasting = all(one.lasting for one in found if isinstance(one, Unopened))
    if reasons and (data.unreadable == "refuse" or not lasting):
        faults = [f"{image.name}: {reason}" for image, reason in reasons.items()]
        raise (BadData if lasting else MissingData).listing(f"{len(faults):,} of {len(images):,} files cannot be read", faults)
    if data.unreadable == "refuse":  # decoding finds them; but empty files of two classes would be refused before as contradictory labels
        if len({image.label for image, sha256 in zip(images, found, strict=True) if sha256 == EMPTY}) > 1:
            faults = [f"{image.name}: {reason}" for image, reason in _undecodable(data, images, found, cache).items()]
            raise reading.unusable(faults, len(images))
        return reasons
    reasons |= _undecodable(data, images, found, cache)
    if len(reasons) > (most := max(1, int(data.unreadable_limit * len(images)))):
        raise BadData.listing(
            f"{len(reasons):,} of {len(images):,} images cannot be used, and data.unreadable_limit, {100 * data.unreadable_limit:g} %, "
            f"lets {most:,} be skipped; repair or remove them, or raise unreadable_limit",
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
    """Of each content the reason, None for images. Which ones have a reason is kept in the cache, the reasons are not."""
    sha256 = hashlib.sha256("\n".join(content.sha256 for content in contents).encode()).hexdigest()
    key = Key("unreadable", {"contents": sha256, "max_pixels": decoder.max_pixels, **decoder.key})
    reasons: list[str | None] = []

    def fill(flags: Tensor) -> None:
        reasons[:] = reading.undecodable(contents, decoder)
        flags.copy_(torch.tensor([reason is not None for reason in reasons]))

    kept = stored(cache, key, (len(contents),), torch.uint8, fill)
    if kept is None or reasons:
        return reasons or reading.undecodable(contents, decoder)
    rows = kept[0].nonzero()[:, 0].tolist()
    told = dict(zip(rows, reading.undecodable([contents[row] for row in rows], decoder), strict=True))
    return [told.get(row) for row in range(len(contents))]
