"""Near-duplicates: groups of different files that show the same picture, looked for once a data set."""

import hashlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.cache import Cache, Key
from trainer.data.contents import Distinct
from trainer.data.images import reading
from trainer.data.images.decoding import Decoder
from trainer.data.images.likeness import SIDE, Thumbnails, families, gradients
from trainer.data.split import Group
from trainer.data.stored import stored

VERSION = 1  # to be raised when other groups come out
KEPT = 4  # data sets
MOST_COMPARED = 50_000  # contents, each with each; of more, only those whose coarse gradients have all signs in common with another's
LARGEST_SHARE = 0.25  # of the contents of its class; a larger family is a chain, until its centre proves it a group
LARGEST_SMALL = 4  # contents that are never too many
MOST_LABELS = 3
MOST_CENTRES = 100  # into so many groups a chain is broken up


@dataclass(frozen=True, slots=True)
class Groups:
    """Near-duplicates by their positions among the contents, each group ascending, all by their first position."""

    sound: tuple[Group, ...]
    too_large: tuple[Group, ...]  # a class could not be split by them: they are told and do not count

    @classmethod
    def read(cls, numbers: Tensor) -> "Groups":
        """From int32 [N]: 0 for a content alone, `k` for one of the sound group k, `-k` for one of the group k that is too large."""
        members = defaultdict[int, list[int]](list)
        for row in numbers.nonzero()[:, 0].tolist():
            members[int(numbers[row])].append(row)
        ordered = sorted(members.items(), key=lambda one: one[1])
        return cls(*(tuple(tuple(rows) for number, rows in ordered if (number > 0) is sound) for sound in (True, False)))

    def write(self, into: Tensor) -> None:
        """Into zeros, int32 [N], as `read` takes it."""
        for number, group in enumerate(self.sound, start=1):
            into[list(group)] = number
        for number, group in enumerate(self.too_large, start=1):
            into[list(group)] = -number


_kept: OrderedDict[str, Groups] = OrderedDict()


def near_duplicates(contents: Sequence[Distinct], decoder: Decoder, cache: Cache) -> Groups:
    """The groups: known to this process, found in the cache, or looked for. Raises BadData with the names of undecodable images."""
    key = _key(contents, decoder)
    if key.digest not in _kept:
        while len(_kept) >= KEPT:
            _kept.popitem(last=False)
        found = stored(cache, key, (len(contents),), torch.int32, lambda numbers: _search(contents, decoder).write(numbers))
        _kept[key.digest] = Groups.read(found[0]) if found is not None else _search(contents, decoder)
    _kept.move_to_end(key.digest)
    return _kept[key.digest]


def _key(contents: Sequence[Distinct], decoder: Decoder) -> Key:
    """Contents and their labels, and all that decides about their thumbnails."""
    labelled = hashlib.sha256("\n".join(f"{content.sha256} {content.label}" for content in contents).encode()).hexdigest()
    return Key("groups", {"contents": labelled, "groups": VERSION, **decoder.key})


def _search(contents: Sequence[Distinct], decoder: Decoder) -> Groups:
    sound, too_large = list[Group](), list[Group]()
    sizes = Counter(content.label for content in contents)
    for rows, thumbnails in _families(contents, decoder):
        for group in _broken_up(contents, sizes, rows, thumbnails):
            (too_large if _too_large(contents, sizes, group) else sound).append(group)
    return Groups(tuple(sorted(sound)), tuple(sorted(too_large)))


def _families(contents: Sequence[Distinct], decoder: Decoder) -> Iterator[tuple[list[int], Thumbnails]]:
    """Positions of contents that chains of likenesses join, two or more, ascending, with their thumbnails."""
    for rows in _comparable(contents, decoder):
        pixels = reading.thumbnails([contents[row] for row in rows], decoder, SIDE)
        family = families(Thumbnails.of(pixels))
        order = np.argsort(family, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(family[order])) + 1):
            if len(members) > 1:
                yield [rows[member] for member in members], Thumbnails.of(pixels[torch.from_numpy(members)])


def _comparable(contents: Sequence[Distinct], decoder: Decoder) -> Iterator[Sequence[int]]:
    """Positions of contents, ascending, of which each is compared with each."""
    if len(contents) <= MOST_COMPARED:
        yield range(len(contents))
        return
    buckets = defaultdict[int, list[int]](list)
    for first in range(0, len(contents), MOST_COMPARED):
        thumbnails = Thumbnails.of(reading.thumbnails(contents[first : first + MOST_COMPARED], decoder, SIDE))
        for row, signs in enumerate(gradients(thumbnails), start=first):
            if signs is not None:
                buckets[signs].append(row)
    shared = [row for bucket in sorted(buckets.values()) if len(bucket) > 1 for row in bucket]
    for first in range(0, len(shared), MOST_COMPARED):
        yield sorted(shared[first : first + MOST_COMPARED])


def _broken_up(contents: Sequence[Distinct], sizes: Counter[int], rows: Sequence[int], thumbnails: Thumbnails) -> Iterator[Group]:
    """The family itself; one that is too large as its centre with all that are like it, then the next centre with what is left."""
    left = torch.arange(len(rows))
    for _ in range(MOST_CENTRES):
        if len(left) < 2:
            return
        family = tuple(rows[member] for member in left.tolist())
        if not _too_large(contents, sizes, family):
            yield family
            return
        around = thumbnails.around(left)
        if len(left[around]) > 1:
            yield tuple(rows[member] for member in left[around].tolist())
        left = left[~around]
    yield tuple(rows[member] for member in left.tolist())


def _too_large(contents: Sequence[Distinct], sizes: Counter[int], group: Group) -> bool:
    counts = Counter(contents[row].label for row in group)
    return len(counts) > MOST_LABELS or any(count > max(LARGEST_SMALL, LARGEST_SHARE * sizes[label]) for label, count in counts.items())
