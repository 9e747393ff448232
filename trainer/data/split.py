"""Which image is trained on, which is validated on, and which nobody sees before the end."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.contract import DataConfig, split_sizes
from trainer.data.contents import Distinct
from trainer.data.faults import BadData

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("test", "validation", "train")  # in the order in which they are filled
Group = tuple[int, ...]  # positions of contents, ascending


@dataclass(frozen=True, slots=True)
class Split:
    """Each content's part, and the groups that lie in one part each."""

    parts: tuple[Part, ...]
    kept: tuple[Group, ...]


def split(data: DataConfig, classes: Sequence[str], contents: Sequence[Distinct], groups: Sequence[Group] = ()) -> Split:
    """Stratified by content: contents, in the order of their SHA-256s, into parts of the sizes that `split_sizes` says for each class.

    A picture is a group of contents or one that is in none; its rank is SHA-256(seed/content) of its first content. By their ranks the
    pictures fill test, then validation, as long as they fit; what fits neither is trained on. When a class has only as many pictures left
    as empty parts, each takes an empty part. Where groups leave a class a part empty nevertheless, those of that class do not count.
    Raises BadData for classes with too few contents.
    """
    sizes = _sizes(data, classes, contents)
    while True:
        parts = _Filling(data.seed, contents, sizes).fill(groups)
        if not (bare := _bare(sizes, contents, parts)):
            return Split(tuple(parts), tuple(groups))
        groups = [group for group in groups if not any(contents[row].label in bare for row in group)]


def _sizes(data: DataConfig, classes: Sequence[str], contents: Sequence[Distinct]) -> list[dict[Part, int]]:
    """By class, how many contents each part shall have."""
    counts = Counter(content.label for content in contents)
    sizes, short = list[dict[Part, int]](), list[str]()
    for label, name in enumerate(classes):
        train, validation, test = split_sizes(counts[label], data)
        sizes.append({"test": test, "validation": validation, "train": train})
        if train < 1:
            short.append(f"{name} has {counts[label]}")
    if short:
        raise BadData.listing("these classes have too few distinct images for the split", short)
    return sizes


def _bare(sizes: Sequence[Mapping[Part, int]], contents: Sequence[Distinct], parts: Iterable[Part]) -> set[int]:
    """Classes of which a part that shall have images has none."""
    there = {(content.label, part) for content, part in zip(contents, parts, strict=True)}
    return {label for label, own in enumerate(sizes) for part, size in own.items() if size and (label, part) not in there}


class _Filling:
    """Parts that are being filled."""

    def __init__(self, seed: int, contents: Sequence[Distinct], sizes: Sequence[Mapping[Part, int]]) -> None:
        self._seed, self._contents = seed, contents
        self._room = [dict(own) for own in sizes]
        self._empty = [{part for part, size in own.items() if size} for own in sizes]
        self._left = defaultdict[int, int](int)  # by class, pictures that have no part yet

    def fill(self, groups: Sequence[Group]) -> list[Part]:
        """A part for each content."""
        grouped = {row for group in groups for row in group}
        pictures = [*groups, *((row,) for row in range(len(self._contents)) if row not in grouped)]
        pictures.sort(key=self._rank)
        counts = [Counter(self._contents[row].label for row in picture) for picture in pictures]
        self._left.update(Counter(label for own in counts for label in own))
        parts = dict[int, Part]()
        for picture, own in zip(pictures, counts, strict=True):
            parts |= dict.fromkeys(picture, self._placed(own))
        return [parts[row] for row in range(len(self._contents))]

    def _rank(self, picture: Group) -> bytes:
        return hashlib.sha256(f"{self._seed}/{self._contents[picture[0]].sha256}".encode()).digest()

    def _placed(self, counts: Mapping[int, int]) -> Part:
        """The part of a picture with so many contents a class, which has it from now on."""
        part = self._urgent(counts) or self._fitting(counts)
        for label, count in counts.items():
            self._room[label][part] -= count
            self._empty[label].discard(part)
            self._left[label] -= 1
        return part

    def _urgent(self, counts: Mapping[int, int]) -> Part | None:
        """The empty part that it fits best, where no later picture could fill all that are empty."""
        for label, count in counts.items():
            if self._empty[label] and self._left[label] <= len(self._empty[label]):
                empty = [part for part in PARTS if part in self._empty[label]]
                return min(empty, key=lambda part: abs(self._room[label][part] - count))
        return None

    def _fitting(self, counts: Mapping[int, int]) -> Part:
        for part in PARTS[:-1]:
            if all(self._room[label][part] >= count for label, count in counts.items()):
                return part
        return "train"
