"""Lists and splits a data set of texts by content."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from trainer.cache import Cache
from trainer.configuration import LeftOut, ListingFacts
from trainer.data.contents import Distinct, distinct
from trainer.data.dataset import Content, Dataset, Listing, split_contents, split_digest
from trainer.data.examples import BadData, MissingData, UnfitData
from trainer.data.groups import GroupCounts, Groups
from trainer.data.split import Split, split, stratified
from trainer.data.targets import TargetReader, TargetValue
from trainer.data.text.listing import scan
from trainer.data.text.near_duplicates import Texts, near_duplicates
from trainer.tasks.text.data import DuplicateTexts, TextData

MISSING = ("missing_data", "unreadable_data", "empty_data")
COPY = "copy of a row in another part of the data's own split, and used there alone"
EXAMPLES, NAMES = 5, 5  # groups listed in the dataset info, and rows named of each


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TextListing(Listing):
    """The rows at the data's paths by content, with the texts and the target of each content."""

    reader: TargetReader | None
    texts: tuple[Texts, ...]
    targets: tuple[TargetValue, ...]
    label_names: tuple[str, ...]  # sorted; empty for numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDataset(Dataset):
    """Rows sorted by the SHA-256 of their texts and target."""

    by_content: ClassVar[tuple[str, ...]] = ("contents", "texts", "targets")

    texts: tuple[Texts, ...] = field(repr=False)  # by content
    targets: tuple[TargetValue, ...] = field(repr=False)  # by content
    label_names: tuple[str, ...]  # sorted; empty for numbers
    duplicates: DuplicateTexts = field(repr=False)

    @property
    def duplicate_facts(self) -> DuplicateTexts:
        """Numbers of the groups of equal and nearly equal texts."""
        return self.duplicates


def identity(text: str, text_b: str | None, target: TargetValue) -> str:
    """SHA-256 over the texts and the target: equal texts with different targets are different contents."""
    return hashlib.sha256(json.dumps([text, text_b, target], ensure_ascii=False).encode()).hexdigest()


def find(data: TextData, reader: TargetReader | None = None, cache: Cache | None = None) -> TextDataset:
    """List and split the rows. Raises BadData."""
    return arrange(data, listed(data, reader), cache)


def listed(data: TextData, reader: TargetReader | None) -> TextListing:
    """The rows at the data's paths, whose targets `reader` reads; without it each is one label. Raises BadData.

    Reads the files only if they changed since this process last read them.
    """
    try:
        signatures = tuple(_signature(Path(path)) for path in data.paths)
        return _scanned(data, reader) if None in signatures else _listed(data, reader, signatures)
    except UnfitData as error:
        raise (MissingData if error.code in MISSING else BadData)(str(error)) from error


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=4)  # each trial of a search lists the same rows
def _listed(data: TextData, reader: TargetReader | None, signatures: tuple[tuple[int, ...] | None, ...]) -> TextListing:
    return _scanned(data, reader)


def _scanned(data: TextData, reader: TargetReader | None) -> TextListing:
    found = scan(data, reader)
    labels = tuple(sorted({row.target for row in found.rows}))
    values: dict[str, TargetValue] = {label: label if reader is None else reader.value(label) for label in labels}
    digests = [identity(row.text, row.text_b, values[row.target]) for row in found.rows]
    rows = dict(zip(digests, found.rows, strict=True))
    contents = distinct(labels, found.examples(data), digests)
    plain = Listing.of(labels, contents, found.facts)
    return TextListing(
        labels=plain.labels,
        contents=plain.contents,
        fingerprint=plain.fingerprint,
        facts=plain.facts,
        reader=reader,
        texts=tuple((rows[content.sha256].text, rows[content.sha256].text_b) for content in contents),
        targets=tuple(values[labels[content.label]] for content in contents),
        label_names=found.label_names,
    )


def arrange(data: TextData, listing: Listing, cache: Cache | None = None) -> TextDataset:
    """Split the rows, near-duplicates in one part. Raises BadData if a label has too few rows."""
    if not isinstance(listing, TextListing):
        raise TypeError(f"{type(listing).__name__} contains no texts")
    _by_content(data, listing)  # refuses data that cannot be split before texts are compared
    digests = [content.sha256 for content in listing.contents]
    strata = [content.label for content in _strata(data, listing)[1]]
    groups = near_duplicates(digests, listing.texts, strata, cache or Cache.none(), near=data.near_duplicates)
    return _arranged(data, listing, groups)


@lru_cache(maxsize=4)
def _by_content(data: TextData, listing: TextListing) -> Split:
    strata, contents, _ = _strata(data, listing)
    return split(data, strata, contents, complete=False)


@lru_cache(maxsize=4)
def _strata(data: TextData, listing: TextListing) -> tuple[Sequence[str], Sequence[Distinct], int]:
    return stratified(data, listing.labels, listing.contents, listing.reader)


@lru_cache(maxsize=4)
def _arranged(data: TextData, listing: TextListing, groups: Groups) -> TextDataset:
    by_content, (strata, stratified_contents, merged) = _by_content(data, listing), _strata(data, listing)
    found = split(data, strata, stratified_contents, groups.sound, complete=False) if groups.sound else by_content
    contents = split_contents(listing.contents, found.parts)
    copies = [file.name for one in listing.contents for file in one.files if file.part != one.given]
    unused = [LeftOut(reason=COPY, count=len(copies), examples=tuple(copies[:EXAMPLES]))] if copies else []
    return TextDataset(
        labels=listing.labels,
        contents=contents,
        fingerprint=listing.fingerprint,
        split=split_digest(contents),
        listing=listing.facts.model_copy(update={"left_out": (*listing.facts.left_out, *unused)}),
        texts=listing.texts,
        targets=listing.targets,
        label_names=listing.label_names,
        duplicates=_summary(listing, groups, found, by_content),
        merged_strata=merged,
    )


def without_targets(texts: Sequence[Texts]) -> TextDataset:
    """Texts in their order, as one part without targets."""
    return TextDataset(
        labels=(),
        contents=tuple(Content(identity(*pair, ""), 0, (), "test") for pair in texts),
        fingerprint="",
        split="",
        listing=ListingFacts(),
        texts=tuple(texts),
        targets=(),
        label_names=(),
        duplicates=DuplicateTexts(groups=0, rows=0, crossing=0, mixed=0),
    )


def _summary(listing: TextListing, groups: Groups, found: Split, by_content: Split) -> DuplicateTexts:
    # Numbers of near-duplicates may differ without a mistake.
    counts = GroupCounts.of(listing.targets if listing.label_names else [0] * len(listing.targets), groups, found, by_content.parts)
    return DuplicateTexts(
        groups=counts.groups,
        rows=counts.contents,
        copies=sum(len(content.files) - 1 for content in listing.contents),
        crossing=counts.crossing,
        mixed=len(counts.mixed),
        too_large=counts.too_large,
        across=len(counts.across),
        examples=tuple(tuple(listing.contents[row].files[0].name for row in group[:NAMES]) for group in counts.ordered[:EXAMPLES]),
    )
