"""A data set by content: its examples in the order of their digests, its split, and the fingerprint of both."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from trainer.configuration import ListingFacts, Part
from trainer.data.contents import Distinct
from trainer.data.examples import Example

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Content(Distinct):
    """A distinct content with its part of the split; `files` are the examples of that part."""

    part: Part


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The examples at a data set's path, by content."""

    labels: tuple[str, ...]  # those that the split balances, by the index that a content has of them
    contents: tuple[Distinct, ...]  # in the order of their SHA-256s
    fingerprint: str  # SHA-256 over the sorted identities of every example
    facts: ListingFacts
    unreadable: tuple[str, ...] = ()  # `name: reason` of files that were left out, sorted; they are in none of the above

    @classmethod
    def of(cls, labels: Sequence[str], contents: Sequence[Distinct], facts: ListingFacts, unreadable: Sequence[str] = ()) -> Self:
        """With the fingerprint of the contents."""
        fingerprint = digest_of(identity for identity, _ in _identities(labels, contents))
        return cls(tuple(labels), tuple(contents), fingerprint, facts, tuple(unreadable))

    def identities(self) -> Iterator[tuple[tuple[str, ...], Example]]:
        """Of every example its content and label, and its part where the data gives one; with the example itself."""
        return _identities(self.labels, self.contents)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples in the order of their content's SHA-256, so that nothing depends on names of files."""

    labels: tuple[str, ...]  # as in Listing
    contents: tuple[Content, ...]
    fingerprint: str  # as in Listing
    split: str  # SHA-256 over the sorted (content, part)
    listing: ListingFacts = field(repr=False)

    def rows(self, part: Part) -> list[int]:
        """Positions in `contents` of the part's examples; a content that several examples have stands there as often."""
        return [row for row, content in enumerate(self.contents) if content.part == part for _ in content.files]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many examples are in each part."""
        return {part: len(self.rows(part)) for part in PARTS}


def _identities(labels: Sequence[str], contents: Iterable[Distinct]) -> Iterator[tuple[tuple[str, ...], Example]]:
    """As `Listing.identities`."""
    for content in contents:
        for example in content.files:
            yield (content.sha256, labels[content.label], *([] if example.part is None else [example.part])), example


def split_contents(contents: Iterable[Distinct], parts: Iterable[Part]) -> tuple[Content, ...]:
    """Each content with its part; its examples that the data gives to another part are left out."""
    return tuple(
        Content(one.sha256, one.label, tuple(example for example in one.files if example.part == one.given), part)
        for one, part in zip(contents, parts, strict=True)
    )


def split_digest(contents: Iterable[Content]) -> str:
    """SHA-256 over which content went where."""
    return digest_of((content.sha256, content.part) for content in contents)


def digest_of(rows: Iterable[tuple[str, ...]]) -> str:
    """SHA-256 over the rows, independent of their order."""
    return hashlib.sha256("\n".join(sorted(json.dumps(row) for row in rows)).encode()).hexdigest()
