"""A data set: its contents, its parts, and the manifest by which changed examples are named."""

import base64
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from trainer.configuration import ListingFacts, Part
from trainer.data.contents import Distinct
from trainer.data.examples import BadData, Example
from trainer.protocol import MOST_LISTED

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


BYTES = 4  # of a digest: of 100,000 examples, one that was changed has 1 chance in 40,000 to look like another that was there
NAMED = 10
PART_BITS: tuple[Part, ...] = ("train", "validation", "test")  # by the number that stands for them


def manifest_of(listing: Listing, dataset: Dataset) -> str | None:
    """As protocol.Checked.manifest; None for more than MOST_LISTED files."""
    digests = sorted(digest for digest, _ in _digests(listing))
    if len(digests) > MOST_LISTED:
        return None
    numbers = [PART_BITS.index(content.part) for content in dataset.contents]
    numbers += [0] * (-len(numbers) % 4)
    packed = bytes(
        sum(number << 2 * place for place, number in enumerate(numbers[first : first + 4])) for first in range(0, len(numbers), 4)
    )
    return ".".join(base64.b64encode(part).decode() for part in (b"".join(digests), packed))


def differences(manifest: str, listing: Listing) -> str:
    """Which of the examples the manifest does not know, and how many that it knows are not there. Raises BadData."""
    body = _part(manifest, 0)
    expected = Counter(body[first : first + BYTES] for first in range(0, len(body), BYTES))
    names = defaultdict[bytes, list[str]](list)
    for digest, name in _digests(listing):
        names[digest].append(name)
    new = sorted(name for digest, same in names.items() for name in sorted(same)[expected[digest] :])
    missing = sum((expected - Counter({digest: len(same) for digest, same in names.items()})).values())
    more = f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
    told = [f"changed or new: {', '.join(new[:NAMED])}{more}"] if new else []
    told += [f"missing: {missing} of the {expected.total()} that were expected"] if missing else []
    return "; ".join(told) or "which examples have changed is not known"


def split_differs(manifest: str, dataset: Dataset) -> bool:
    """Whether the manifest's examples, which are the data set's, were split in another way. Raises BadData."""
    packed = _part(manifest, 1)
    told = [PART_BITS.index(content.part) for content in dataset.contents]
    return len(packed) != -(-len(told) // 4) or any((packed[row // 4] >> 2 * (row % 4)) & 3 != number for row, number in enumerate(told))


def _digests(listing: Listing) -> Iterator[tuple[bytes, str]]:
    """Of each file, with its name."""
    for identity, file in listing.identities():
        yield hashlib.sha256(json.dumps(identity).encode()).digest()[:BYTES], file.name.encode("utf-8", "replace").decode()


def _part(manifest: str, place: int) -> bytes:
    try:
        return base64.b64decode(manifest.split(".")[place], validate=True)
    except (ValueError, IndexError):
        raise BadData("the manifest of the expected data cannot be read; export the study again, or leave its manifest out") from None
