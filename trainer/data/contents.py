"""Distinct images: the files of a data set by the SHA-256 of their content, each read once for as long as it stays as it is."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from trainer.data.faults import BadData
from trainer.data.index import Labelled

MAX_FILE = 512 * 2**20  # bytes; 50 megapixels of 16-bit RGBA are 400 MB
CHUNK = 64  # files a task of a thread
MIXED = "these files have the same content but different labels"

_digests: dict[Path, tuple[tuple[int, ...], str]] = {}  # of this process: stat signature and SHA-256 of each file


@dataclass(frozen=True, slots=True)
class Distinct:
    """A content: its SHA-256, the index of its class, and its files (identical copies)."""

    sha256: str
    label: int
    files: tuple[Labelled, ...]


def distinct(classes: Sequence[str], images: Sequence[Labelled], sha256s: Sequence[str]) -> tuple[Distinct, ...]:
    """The contents in the order of their SHA-256s, given each image's. Raises BadData where one has several labels."""
    places, files = {name: place for place, name in enumerate(classes)}, defaultdict[str, list[Labelled]](list)
    for image, sha256 in zip(images, sha256s, strict=True):
        files[sha256].append(image)
    if mixed := [" = ".join(image.name for image in same) for same in files.values() if len({image.label for image in same}) > 1]:
        raise BadData.listing(MIXED, sorted(mixed))
    return tuple(Distinct(sha256, places[same[0].label], tuple(same)) for sha256, same in sorted(files.items()))


def digests(images: Sequence[Labelled]) -> tuple[str, ...]:
    """The SHA-256 of each image's file. Raises BadData with the names of those that cannot be read."""
    found: dict[Path, str | _Unreadable] = {image.file: sha256 for image in images if (sha256 := _known(image.file)) is not None}
    unknown = [image.file for image in images if image.file not in found]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # in parts: to hand over single files takes longer than to read them
        for part in pool.map(_read, (unknown[first : first + CHUNK] for first in range(0, len(unknown), CHUNK))):
            found.update(part)
    results = [found[image.file] for image in images]
    faults = [f"{image.name}: {result.reason}" for image, result in zip(images, results, strict=True) if isinstance(result, _Unreadable)]
    if faults:
        raise BadData.listing(f"{len(faults)} of {len(images)} files cannot be read", faults)
    return tuple(result for result in results if isinstance(result, str))


@dataclass(frozen=True, slots=True)
class _Unreadable:
    reason: str


def _known(file: Path) -> str | None:
    try:
        known = _digests.get(file)
        return known[1] if known is not None and known[0] == _signature(file.stat()) else None
    except OSError:
        return None


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(files: Sequence[Path]) -> Mapping[Path, str | _Unreadable]:
    return {file: _sha256(file) for file in files}


def _sha256(file: Path) -> str | _Unreadable:
    try:
        status = file.stat()
        if not S_ISREG(status.st_mode):
            return _Unreadable("not a file")
        if status.st_size > MAX_FILE:
            return _Unreadable(f"larger than {MAX_FILE >> 20} MB")
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return _Unreadable(error.strerror or type(error).__name__)
    _digests[file] = (_signature(status), digest)
    return digest
