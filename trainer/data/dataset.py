"""A data set by content: every image's SHA-256, the split that follows from it, and the fingerprint of both."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import Literal

from trainer.contract import DataConfig, split_sizes
from trainer.data.faults import BadData
from trainer.data.index import Labelled, scan

Part = Literal["train", "validation", "test"]
MAX_FILE = 512 * 2**20  # bytes; 50 megapixels of 16-bit RGBA are 400 MB
CHUNK = 64  # files a task of a thread
MIXED = "these files have the same content but different labels"

_digests: dict[Path, tuple[tuple[int, ...], str]] = {}  # of this process: stat signature and SHA-256 of each file


@dataclass(frozen=True, slots=True)
class Content:
    """A distinct image: its SHA-256, the index of its class, its part of the split, and its files (identical copies)."""

    sha256: str
    label: int
    part: Part
    files: tuple[Labelled, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images in the order of their content's SHA-256, so that nothing depends on names of files."""

    classes: tuple[str, ...]
    contents: tuple[Content, ...]
    fingerprint: str  # SHA-256 over the sorted (content, label) of every file
    split: str  # SHA-256 over the sorted (content, part)

    def rows(self, part: Part) -> list[int]:
        """Positions in `contents` of the part's images; a content that lies in several files stands there as often."""
        return [row for row, content in enumerate(self.contents) if content.part == part for _ in content.files]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many files are in each part."""
        return {part: len(self.rows(part)) for part in ("train", "validation", "test")}


def find(data: DataConfig) -> Dataset:
    """The data set at the path, split. Reads every file that has changed since this process last did. Raises BadData."""
    classes, images = scan(data)
    return _arranged(data, classes, images, _contents(images))


@lru_cache(maxsize=4)  # a search asks for the same data set before each trial
def _arranged(data: DataConfig, classes: tuple[str, ...], images: tuple[Labelled, ...], contents: tuple[str, ...]) -> Dataset:
    files = defaultdict[str, list[Labelled]](list)
    for image, sha256 in zip(images, contents, strict=True):
        files[sha256].append(image)
    if mixed := [" = ".join(image.name for image in same) for same in files.values() if len({image.label for image in same}) > 1]:
        raise BadData.listing(MIXED, sorted(mixed))
    parts = _split(data, classes, {sha256: same[0].label for sha256, same in files.items()})
    distinct = tuple(Content(sha256, classes.index(same[0].label), parts[sha256], tuple(same)) for sha256, same in sorted(files.items()))
    return Dataset(
        classes=classes,
        contents=distinct,
        fingerprint=_digest_of((content.sha256, classes[content.label]) for content in distinct for _ in content.files),
        split=_digest_of((content.sha256, content.part) for content in distinct),
    )


def _split(data: DataConfig, classes: Sequence[str], labels: Mapping[str, str]) -> dict[str, Part]:
    """Stratified: in each class the contents are ranked by SHA-256(seed/content), then cut into test, validation, train."""
    members = {name: list[str]() for name in classes}
    for sha256, label in labels.items():
        members[label].append(sha256)
    parts, short = dict[str, Part](), list[str]()
    for name, own in members.items():
        train, validation, test = split_sizes(len(own), data)
        if train < 1:
            short.append(f"{name} has {len(own)}")
        own.sort(key=lambda sha256: hashlib.sha256(f"{data.seed}/{sha256}".encode()).digest())
        for rank, sha256 in enumerate(own):
            parts[sha256] = "test" if rank < test else "validation" if rank < test + validation else "train"
    if short:
        raise BadData.listing("these classes have too few distinct images for the split", short)
    return parts


def _digest_of(pairs: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256("\n".join(sorted(json.dumps(pair) for pair in pairs)).encode()).hexdigest()


def _contents(images: Sequence[Labelled]) -> tuple[str, ...]:
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
