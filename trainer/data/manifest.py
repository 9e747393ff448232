"""Manifests: digests that show which examples have changed and how they were split, without the examples themselves."""

import base64
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator

from trainer.configuration import Part
from trainer.data.dataset import Dataset, Listing
from trainer.data.examples import BadData
from trainer.protocol import MOST_LISTED

BYTES = 4  # of a digest: of 100,000 examples, one that was changed has 1 chance in 40,000 to look like another that was there
NAMED = 10
PARTS: tuple[Part, ...] = ("train", "validation", "test")  # by the number that stands for them


def manifest_of(listing: Listing, dataset: Dataset) -> str | None:
    """As protocol.Checked.manifest; None for more than MOST_LISTED files."""
    digests = sorted(digest for digest, _ in _digests(listing))
    if len(digests) > MOST_LISTED:
        return None
    numbers = [PARTS.index(content.part) for content in dataset.contents]
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
    told = [PARTS.index(content.part) for content in dataset.contents]
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
