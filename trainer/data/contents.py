"""Identifies examples by the SHA-256 of their files, and caches tensors computed from them."""

import errno
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.cache import Cache, CacheKey
from trainer.configuration import Part
from trainer.data.examples import BadData, Example
from trainer.files import open_regular

LASTING = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENAMETOOLONG})
"""Errors that every later try gives too. Others, such as EIO and ESTALE, are faults of the machine and may be temporary."""
CHUNK = 64  # files hashed by one task
MEASURED_FIRST: tuple[Part, ...] = ("test", "validation", "train")
MIXED = "these files have the same content but different labels"

_digests: dict[Path, tuple[tuple[int, ...], str]] = {}  # of this process: stat signature and SHA-256 of each file


@dataclass(frozen=True, slots=True)
class Distinct:
    """A distinct content: its SHA-256, the index of its label, and the examples with this content (identical copies)."""

    sha256: str
    label: int
    files: tuple[Example, ...]

    @property
    def given(self) -> Part | None:
        """Its part in the data's own split. Of several parts test has precedence over validation, and validation over train."""
        parts = {file.part for file in self.files}
        return next((part for part in MEASURED_FIRST if part in parts), None)


def distinct(labels: Sequence[str], examples: Sequence[Example], sha256s: Sequence[str]) -> tuple[Distinct, ...]:
    """The contents sorted by SHA-256; `sha256s` are those of the examples. Raises BadData if one content has several labels."""
    places, files = {name: place for place, name in enumerate(labels)}, defaultdict[str, list[Example]](list)
    for example, sha256 in zip(examples, sha256s, strict=True):
        files[sha256].append(example)
    if mixed := [" = ".join(example.name for example in same) for same in files.values() if len({example.label for example in same}) > 1]:
        raise BadData.listing(MIXED, sorted(mixed))
    return tuple(Distinct(sha256, places[same[0].label], tuple(same)) for sha256, same in sorted(files.items()))


@dataclass(frozen=True, slots=True)
class Unopened:
    """The reason why a file cannot be opened or read."""

    reason: str
    lasting: bool  # whether the error is in LASTING


def digests(examples: Sequence[Example], most_bytes: int) -> tuple[str | Unopened, ...]:
    """The SHA-256 of each example's file, or the reason if it cannot be read or is larger than `most_bytes`."""
    found: dict[Path, str | Unopened] = {example.file: sha256 for example in examples if (sha256 := _known(example.file)) is not None}
    unknown = [example.file for example in examples if example.file not in found]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # in chunks: a task for each file would cost more than reading it
        parts = [unknown[first : first + CHUNK] for first in range(0, len(unknown), CHUNK)]
        for part in pool.map(lambda files: {file: _sha256(file, most_bytes) for file in files}, parts):
            found.update(part)
    return tuple(found[example.file] for example in examples)


def _known(file: Path) -> str | None:
    try:
        known = _digests.get(file)
        return known[1] if known is not None and known[0] == _signature(file.stat()) else None
    except OSError:
        return None


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _sha256(file: Path, most_bytes: int) -> str | Unopened:
    try:
        with open_regular(file, most_bytes) as stream:
            status = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return Unopened(error.strerror or type(error).__name__, error.errno in LASTING)
    _digests[file] = (_signature(status), digest)
    return digest


POLL_SECONDS = 0.05


def stored(
    cache: Cache, key: CacheKey, shape: Sequence[int], dtype: torch.dtype, fill: Callable[[Tensor], None]
) -> tuple[Tensor, bool] | None:
    """The cache entry, built by `fill` if it is absent, and whether it was found. None if it does not fit in the cache.

    Raises OSError and the errors of `fill`.
    """
    while True:
        if (found := cache.find(key)) is not None:
            return found, True
        if (draft := cache.begin(key, shape, dtype)) is not None:
            with draft:
                fill(draft.tensor)
                return draft.commit(), False
        if not cache.busy(key):  # the entry does not fit, or another process has just finished it
            return (found, True) if (found := cache.find(key)) is not None else None
        time.sleep(POLL_SECONDS)
