"""Lists and splits a data set of texts by content."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from trainer.cache import Cache
from trainer.configuration import LeftOut
from trainer.data.contents import distinct
from trainer.data.dataset import Dataset, Listing, split_contents, split_digest
from trainer.data.examples import BadData, Example, MissingData, UnfitData, shown
from trainer.data.groups import GroupCounts, Groups
from trainer.data.split import Split, split
from trainer.data.text.listing import TargetKind, TextRow, TextTarget, scan, strata
from trainer.data.text.near_duplicates import Texts, near_duplicates
from trainer.tasks.text_config import DuplicateTexts, TextData

MISSING = ("missing_data", "unreadable_data", "empty_data")
COPY = "copy of a row in another part of the data's own split, and used there alone"
EXAMPLES, NAMES = 5, 5  # groups listed in the dataset info, and rows named of each


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TextListing(Listing):
    """The rows at the data's paths by content, with the texts and the target of each content."""

    kind: TargetKind
    texts: tuple[Texts, ...]
    targets: tuple[TextTarget, ...]
    label_names: tuple[str, ...]  # sorted; empty for numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDataset(Dataset):
    """Rows sorted by the SHA-256 of their texts and target."""

    kind: TargetKind
    texts: tuple[Texts, ...] = field(repr=False)  # by content
    targets: tuple[TextTarget, ...] = field(repr=False)  # by content
    label_names: tuple[str, ...]  # sorted; empty for numbers
    duplicates: DuplicateTexts = field(repr=False)

    @property
    def duplicate_facts(self) -> DuplicateTexts:
        """Numbers of the groups of equal and nearly equal texts."""
        return self.duplicates


def identity(row: TextRow) -> str:
    """SHA-256 over text, second text and target: equal texts with different targets are different contents."""
    return hashlib.sha256(json.dumps([row.text, row.text_b, row.target], ensure_ascii=False).encode()).hexdigest()


def find(data: TextData, kind: TargetKind, cache: Cache | None = None) -> TextDataset:
    """List and split the rows. Raises BadData."""
    return arrange(data, listed(data, kind), cache)


def listed(data: TextData, kind: TargetKind) -> TextListing:
    """The rows at the data's paths. Raises BadData. Reads the files that changed since this process last read them."""
    try:
        signatures = tuple(_signature(Path(path)) for path in data.paths)
        return _scanned(data, kind) if None in signatures else _listed(data, kind, signatures)
    except UnfitData as error:
        raise (MissingData if error.code in MISSING else BadData)(str(error)) from error


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=4)  # each trial of a search lists the same rows
def _listed(data: TextData, kind: TargetKind, signatures: tuple[tuple[int, ...] | None, ...]) -> TextListing:
    return _scanned(data, kind)


def _scanned(data: TextData, kind: TargetKind) -> TextListing:
    found = scan(data, kind)
    labels, places = strata(kind, [row.target for row in found.rows])
    paths = {shown(name): Path(path) for path, name in data.file_names.items()}
    digests = [identity(row) for row in found.rows]
    rows = dict(zip(digests, found.rows, strict=True))
    examples = [
        Example(paths.get(row.file, Path(data.path)), row.name, labels[place], row.part, row.group)
        for row, place in zip(found.rows, places, strict=True)
    ]
    contents = distinct(labels, examples, digests)
    plain = Listing.of(labels, contents, found.facts)
    return TextListing(
        labels=plain.labels,
        contents=plain.contents,
        fingerprint=plain.fingerprint,
        facts=plain.facts,
        kind=kind,
        texts=tuple((rows[content.sha256].text, rows[content.sha256].text_b) for content in contents),
        targets=tuple(rows[content.sha256].target for content in contents),
        label_names=found.labels,
    )


def arrange(data: TextData, listing: Listing, cache: Cache | None = None) -> TextDataset:
    """Split the rows, near-duplicates in one part. Raises BadData if a label has too few rows."""
    if not isinstance(listing, TextListing):
        raise TypeError(f"{type(listing).__name__} contains no texts")
    _by_content(data, listing)  # refuses data that cannot be split before texts are compared
    digests, labels = [content.sha256 for content in listing.contents], [content.label for content in listing.contents]
    groups = near_duplicates(digests, listing.texts, labels, cache or Cache.none(), near=data.near_duplicates)
    return _arranged(data, listing, groups)


@lru_cache(maxsize=4)
def _by_content(data: TextData, listing: TextListing) -> Split:
    return split(data, listing.labels, listing.contents, complete=False)


@lru_cache(maxsize=4)
def _arranged(data: TextData, listing: TextListing, groups: Groups) -> TextDataset:
    by_content = _by_content(data, listing)
    found = split(data, listing.labels, listing.contents, groups.sound, complete=False) if groups.sound else by_content
    contents = split_contents(listing.contents, found.parts)
    copies = [file.name for one in listing.contents for file in one.files if file.part != one.given]
    unused = [LeftOut(reason=COPY, count=len(copies), examples=tuple(copies[:EXAMPLES]))] if copies else []
    return TextDataset(
        labels=listing.labels,
        contents=contents,
        fingerprint=listing.fingerprint,
        split=split_digest(contents),
        listing=listing.facts.model_copy(update={"left_out": (*listing.facts.left_out, *unused)}),
        kind=listing.kind,
        texts=listing.texts,
        targets=listing.targets,
        label_names=listing.label_names,
        duplicates=_summary(listing, groups, found, by_content),
    )


def _summary(listing: TextListing, groups: Groups, found: Split, by_content: Split) -> DuplicateTexts:
    counts = GroupCounts.of(listing.targets, groups, found, by_content.parts)
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
