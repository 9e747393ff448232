"""A data set by content: its split, and the fingerprint of both."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from trainer.cache import Cache
from trainer.contract import DataConfig, NearDuplicates
from trainer.data.contents import Distinct, digests, distinct
from trainer.data.groups import Groups, near_duplicates
from trainer.data.index import Labelled, scan
from trainer.data.split import Group, Part, Split, split

EXAMPLES, NAMES = 5, 5  # groups that are told, and images of each


@dataclass(frozen=True, slots=True)
class Content(Distinct):
    """A distinct image with its part of the split."""

    part: Part


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """What lies at a data set's path, by content; nothing is decoded yet."""

    classes: tuple[str, ...]
    contents: tuple[Distinct, ...]  # in the order of their SHA-256s
    fingerprint: str  # SHA-256 over the sorted (content, label) of every file

    @property
    def labelled(self) -> Iterable[tuple[str, str]]:
        """Content and label of every file."""
        return ((content.sha256, self.classes[content.label]) for content in self.contents for _ in content.files)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images in the order of their content's SHA-256, so that nothing depends on names of files."""

    classes: tuple[str, ...]
    contents: tuple[Content, ...]
    fingerprint: str  # as in Listing
    split: str  # SHA-256 over the sorted (content, part)
    near_duplicates: NearDuplicates = field(repr=False)

    def rows(self, part: Part) -> list[int]:
        """Positions in `contents` of the part's images; a content that lies in several files stands there as often."""
        return [row for row, content in enumerate(self.contents) if content.part == part for _ in content.files]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many files are in each part."""
        return {part: len(self.rows(part)) for part in ("train", "validation", "test")}


def find(data: DataConfig, cache: Cache | None = None) -> Dataset:
    """The data set at the path, split. Reads every file that has changed since this process last did. Raises BadData.

    Near-duplicates are on one side; they are looked for in the pixels where neither this process nor the cache knows them.
    """
    return arrange(data, listed(data), cache)


def listed(data: DataConfig) -> Listing:
    """The images at the path. Raises BadData."""
    classes, images = scan(data)
    return _listing(classes, images, digests(images))


@lru_cache(maxsize=4)  # a search asks for the same data set before each trial
def _listing(classes: tuple[str, ...], images: tuple[Labelled, ...], sha256s: tuple[str, ...]) -> Listing:
    contents = distinct(classes, images, sha256s)
    labelled = ((content.sha256, classes[content.label]) for content in contents for _ in content.files)
    return Listing(classes, contents, digest_of(labelled))


def arrange(data: DataConfig, listing: Listing, cache: Cache | None = None) -> Dataset:
    """The images, split. Raises BadData where a class has too few, and with the names of those that cannot be decoded."""
    _by_content(data, listing)  # what cannot be split is told before anything is decoded
    return _arranged(data, listing, near_duplicates(listing.contents, cache or Cache.none()))


@lru_cache(maxsize=4)
def _by_content(data: DataConfig, listing: Listing) -> Split:
    return split(data, listing.classes, listing.contents)


@lru_cache(maxsize=4)
def _arranged(data: DataConfig, listing: Listing, groups: Groups) -> Dataset:
    by_content = _by_content(data, listing)
    found = split(data, listing.classes, listing.contents, groups.sound) if groups.sound else by_content
    contents = [Content(one.sha256, one.label, one.files, part) for one, part in zip(listing.contents, found.parts, strict=True)]
    return Dataset(
        classes=listing.classes,
        contents=tuple(contents),
        fingerprint=listing.fingerprint,
        split=digest_of((content.sha256, content.part) for content in contents),
        near_duplicates=_told(listing.contents, found.kept, by_content.parts, len(groups.sound + groups.too_large) - len(found.kept)),
    )


def _told(contents: Sequence[Distinct], kept: Sequence[Group], by_content: Sequence[Part], too_large: int) -> NearDuplicates:
    mixed = {group for group in kept if len({contents[row].label for row in group}) > 1}
    examples = [*(group for group in kept if group in mixed), *(group for group in kept if group not in mixed)]
    return NearDuplicates(
        groups=len(kept),
        images=sum(len(group) for group in kept),
        crossing=sum(len({by_content[row] for row in group}) > 1 for group in kept),
        mixed=len(mixed),
        too_large=too_large,
        examples=tuple(tuple(_name(contents[row]) for row in group[:NAMES]) for group in examples[:EXAMPLES]),
    )


def _name(content: Distinct) -> str:
    return content.files[0].name.encode("utf-8", "replace").decode()


def digest_of(pairs: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the pairs, in whatever order they come."""
    return hashlib.sha256("\n".join(sorted(json.dumps(pair) for pair in pairs)).encode()).hexdigest()
