"""A data set: its contents, its parts, and the manifest that identifies changed examples."""

import base64
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from trainer.configuration import Frozen, ListingFacts, Part
from trainer.data.contents import Distinct
from trainer.data.examples import BadData, Example
from trainer.protocol import MOST_LISTED

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Content(Distinct):
    """A distinct content with its part of the split; `files` are its examples in that part."""

    part: Part


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The examples at a data set's path, by content."""

    labels: tuple[str, ...]  # by index; the split is stratified by them
    contents: tuple[Distinct, ...]  # in the order of their SHA-256s
    fingerprint: str  # SHA-256 over the sorted identities of every example
    facts: ListingFacts
    unreadable: tuple[str, ...] = ()  # `name: reason` of files that were left out, sorted; they are in none of the above

    @classmethod
    def of(cls, labels: Sequence[str], contents: Sequence[Distinct], facts: ListingFacts, unreadable: Sequence[str] = ()) -> Self:
        """The listing with the fingerprint of the contents."""
        fingerprint = digest_of(identity for identity, _ in _identities(labels, contents))
        return cls(tuple(labels), tuple(contents), fingerprint, facts, tuple(unreadable))

    def identities(self) -> Iterator[tuple[tuple[str, ...], Example]]:
        """Pairs for every example: (content, label, part in the data's own split if it has one), and the example itself."""
        return _identities(self.labels, self.contents)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples sorted by the SHA-256 of their content, so that results do not depend on file names."""

    by_content: ClassVar[tuple[str, ...]] = ("contents",)
    """The fields that have a value for each content."""

    labels: tuple[str, ...]  # as in Listing
    contents: tuple[Content, ...]
    fingerprint: str  # as in Listing
    split: str  # SHA-256 over the sorted (content, part)
    listing: ListingFacts = field(repr=False)
    merged_strata: int = field(default=0, kw_only=True)  # strata of the split that were too small, and are one

    def rows(self, part: Part) -> list[int]:
        """Positions in `contents` of the part's examples; a content of several examples is repeated."""
        return [row for row, content in enumerate(self.contents) if content.part == part for _ in content.files]

    def only(self, part: Part) -> Self:
        """The data set with the contents of one part."""
        kept = [row for row, content in enumerate(self.contents) if content.part == part]
        values: dict[str, Any] = {name: tuple(getattr(self, name)[row] for row in kept) for name in self.by_content}
        return replace(self, **values)

    @property
    def duplicate_facts(self) -> Frozen | None:
        """Facts about near-duplicates; None if they were not searched for."""
        return None

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of examples in each part."""
        return {part: len(self.rows(part)) for part in PARTS}


def _identities(labels: Sequence[str], contents: Iterable[Distinct]) -> Iterator[tuple[tuple[str, ...], Example]]:
    """As `Listing.identities`."""
    for content in contents:
        for example in content.files:
            yield (content.sha256, labels[content.label], *([] if example.part is None else [example.part])), example


def split_contents(contents: Iterable[Distinct], parts: Iterable[Part]) -> tuple[Content, ...]:
    """Each content with its part, without those of its examples that the data's own split puts into another part."""
    return tuple(
        Content(one.sha256, one.label, tuple(example for example in one.files if example.part == one.given), part)
        for one, part in zip(contents, parts, strict=True)
    )


def split_digest(contents: Iterable[Content]) -> str:
    """SHA-256 over the pairs of content and part."""
    return digest_of((content.sha256, content.part) for content in contents)


def digest_of(rows: Iterable[tuple[str, ...]]) -> str:
    """SHA-256 over the rows, independent of their order."""
    return hashlib.sha256("\n".join(sorted(json.dumps(row) for row in rows)).encode()).hexdigest()


# The manifest: 4 bytes of each example's identity digest, sorted, then 2 bits for the part of each content; both base64, joined by ".".
BYTES = 4  # of a digest: among 100,000 examples a changed one matches another's digest by chance once in 40,000 times
NAMED = 10  # examples that a message names
PART_BITS: tuple[Part, ...] = ("train", "validation", "test")  # a part's index is its two-bit number


def manifest_of(listing: Listing, dataset: Dataset) -> str | None:
    """The value of protocol.Checked.manifest; None for more than MOST_LISTED files."""
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
    """A sentence with the names of examples that are not in the manifest, and the number of those that are missing. Raises BadData."""
    body = _part(manifest, 0)
    expected = Counter(body[first : first + BYTES] for first in range(0, len(body), BYTES))
    names = defaultdict[bytes, list[str]](list)
    for digest, name in _digests(listing):
        names[digest].append(name)
    new = sorted(name for digest, same in names.items() for name in sorted(same)[expected[digest] :])
    missing = sum((expected - Counter({digest: len(same) for digest, same in names.items()})).values())
    more = f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
    parts = [f"changed or new: {', '.join(new[:NAMED])}{more}"] if new else []
    parts += [f"missing: {missing} of the {expected.total()} that were expected"] if missing else []
    return "; ".join(parts) or "the changed examples cannot be identified"


def split_differs(manifest: str, dataset: Dataset) -> bool:
    """Whether the manifest splits the data set's examples in another way. Raises BadData."""
    packed = _part(manifest, 1)
    numbers = [PART_BITS.index(content.part) for content in dataset.contents]
    if len(packed) != -(-len(numbers) // 4):
        return True
    return any((packed[row // 4] >> 2 * (row % 4)) & 3 != number for row, number in enumerate(numbers))


def _digests(listing: Listing) -> Iterator[tuple[bytes, str]]:
    """The manifest's digest of each example, with its name."""
    for identity, file in listing.identities():
        yield hashlib.sha256(json.dumps(identity).encode()).digest()[:BYTES], file.name.encode("utf-8", "replace").decode()


def _part(manifest: str, place: int) -> bytes:
    try:
        return base64.b64decode(manifest.split(".")[place], validate=True)
    except (ValueError, IndexError):
        raise BadData("the manifest of the expected data cannot be read; export the study again, or leave its manifest out") from None
