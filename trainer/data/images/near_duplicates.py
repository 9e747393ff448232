"""Groups near-duplicate images, so that a split keeps them together."""

import hashlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from trainer.cache import Cache, Key
from trainer.data.contents import Distinct, stored
from trainer.data.images import reading
from trainer.data.images.decoding import Decoder
from trainer.data.split import Group

SIDE, COARSE = 32, 8  # pixels: of a thumbnail, and of the grey squares by which pairs are ruled out
MOST_DIFFERENT = 7  # levels of 255, root mean square over a thumbnail, each channel's mean taken out
SHARE_DIFFERENT = 0.2  # of the spread of the flatter one of the two
MOST_SHIFTED = 16  # levels between the two means of a channel: another brightness
LEAST_SPREAD = 4  # levels, root mean square around the channels' means; below it pictures have too little in them to be told apart
BLOCK = 1024  # pictures a side of a block of pairs
DENSE = 20_000  # pairs of a block; from so many on the whole block is compared by one product
GATHERED = 2048  # pairs that are compared at a time
SLACK = 1.001, 1.0  # factor and summand on squares, so that rounding rules out no pair

AREA = SIDE * SIDE
UNIT = 3 * AREA * AREA  # `spread` and `limit` are variances in these units: whole numbers, so that no machine rounds them otherwise


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnails:
    """Small pictures, and what every comparison needs of them."""

    pixels: Tensor  # uint8 [N, 32 · 32, 3]
    sums: Tensor  # int64 [N, 3], of each channel
    limit: Tensor  # int64 [N], the largest square difference to another picture; negative for one without enough in it

    @classmethod
    def of(cls, pixels: Tensor) -> "Thumbnails":
        """From uint8 [N, 32, 32, 3]."""
        flat = pixels.flatten(1, 2)
        sums = torch.cat([part.int().sum(1) for part in torch.split(flat, BLOCK)])
        squares = torch.cat([part.int().square().sum((1, 2)) for part in torch.split(flat, BLOCK)])
        spread = AREA * squares - sums.square().sum(1)
        limit = (spread * round(100 * SHARE_DIFFERENT) ** 2).div(100**2, rounding_mode="floor").clamp(max=MOST_DIFFERENT**2 * UNIT)
        return cls(flat, sums, limit.where(spread >= LEAST_SPREAD**2 * UNIT, -1))

    def alike(self, left: Tensor, right: Tensor) -> Tensor:
        """Whether the pictures `left[i]` and `right[i]` (int64 [K]) are the same to the eye: bool [K]."""
        parts = zip(torch.split(left, GATHERED), torch.split(right, GATHERED), strict=True)
        return torch.cat([self._judged(*part, self._squares(*part)) for part in parts]) if len(left) else torch.empty(0, dtype=torch.bool)

    def all_alike(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Of each with each: bool [R, C]."""
        left, right = (self.pixels[part].flatten(1).double() for part in (rows, columns))  # whole numbers below 2^53: nothing is rounded
        squares = left.square().sum(1)[:, None] + right.square().sum(1)[None] - 2 * left @ right.T
        return self._judged(rows[:, None], columns[None], squares.long())

    def around(self, rows: Tensor) -> Tensor:
        """Bool [R]: which of the rows are like their centre, the one nearest to their mean; the centre is."""
        total = sum((own.sum(0) for own in self._parts(rows)), torch.zeros(3 * AREA, dtype=torch.int64))
        distances = [(len(rows) * own.square() - 2 * own * total).sum(1) for own in self._parts(rows)]
        centre = rows[torch.cat(distances).argmin()]
        return self.alike(centre.expand(len(rows)), rows) | (rows == centre)

    def _parts(self, rows: Tensor) -> Iterator[Tensor]:
        return (self.pixels[part].flatten(1).long() for part in torch.split(rows, BLOCK))

    def _squares(self, left: Tensor, right: Tensor) -> Tensor:
        return (self.pixels[left].int() - self.pixels[right].int()).square().sum((1, 2))

    def _judged(self, left: Tensor, right: Tensor, squares: Tensor) -> Tensor:
        shifts = self.sums[left] - self.sums[right]
        close = AREA * squares - shifts.square().sum(-1) <= torch.minimum(self.limit[left], self.limit[right])
        return close & (shifts.abs().amax(-1) <= MOST_SHIFTED * AREA)


def clusters(thumbnails: Thumbnails) -> NDArray[np.int64]:
    """Int64 [N]: equal numbers for pictures that a chain of likenesses joins. Time grows with N², memory with N."""
    found = np.arange(len(thumbnails.limit))
    coarse, candidates = _coarse(thumbnails), torch.nonzero(thumbnails.limit >= 0)[:, 0]
    blocks = torch.split(candidates, BLOCK)
    for place, rows in enumerate(blocks):
        for columns in blocks[place:]:
            known = torch.from_numpy(found)
            possible = _possible(coarse, thumbnails.limit, rows, columns) & (known[rows][:, None] != known[columns][None])
            for left, right in _confirmed(thumbnails, rows, columns, possible):
                found = _joined(found, left, right)
    return found


def dhash(thumbnails: Thumbnails) -> Iterator[int | None]:
    """The signs of 64 differences between neighbouring grey squares, as one number (a difference hash); None where there is too little.

    After Krawetz, "Kind of Like That" (2013), with the last column followed by the first.
    """
    coarse = _coarse(thumbnails).view(-1, COARSE, COARSE)
    signs = (coarse > coarse.roll(-1, 2)).flatten(1).numpy()
    numbers = np.packbits(signs, axis=1).view(">u8")[:, 0].tolist()
    return (number if limit >= 0 else None for number, limit in zip(numbers, thumbnails.limit.tolist(), strict=True))


def _coarse(thumbnails: Thumbnails) -> Tensor:
    """Float32 [N, 64]: grey squares less their mean. Two of them differ at most as much as their thumbnails do, in root mean square."""
    step, parts = SIDE // COARSE, list[Tensor]()
    for pixels in torch.split(thumbnails.pixels, BLOCK):
        grey = F.avg_pool2d(pixels.float().mean(2).view(-1, 1, SIDE, SIDE), step).flatten(1)
        parts.append(grey - grey.mean(1, keepdim=True))
    return torch.cat(parts)


def _possible(coarse: Tensor, limit: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bool [R, C], the pairs that the coarse squares do not rule out, each pair once."""
    left, right, (factor, summand) = coarse[rows], coarse[columns], SLACK
    squares = left.square().sum(1)[:, None] + right.square().sum(1)[None] - 2 * left @ right.T
    farthest = torch.minimum(limit[rows][:, None], limit[columns][None]).float() * (COARSE**2 / UNIT)
    return (squares <= factor * farthest + summand) & (rows[:, None] < columns[None])


def _confirmed(thumbnails: Thumbnails, rows: Tensor, columns: Tensor, possible: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    left, right = possible.nonzero(as_tuple=True)
    if len(left) >= DENSE:
        left, right = (thumbnails.all_alike(rows, columns) & possible).nonzero(as_tuple=True)
        left, right = rows[left], columns[right]
    else:
        left, right = rows[left], columns[right]
        alike = thumbnails.alike(left, right)
        left, right = left[alike], right[alike]
    if len(left):
        yield left, right


def _joined(found: NDArray[np.int64], left: Tensor, right: Tensor) -> NDArray[np.int64]:
    edges = (np.ones(len(left), dtype=np.int8), (found[left.numpy()], found[right.numpy()]))
    _, family = connected_components(coo_array(edges, shape=(len(found), len(found))), directed=False)
    joined: NDArray[np.int64] = family.astype(np.int64)[found]
    return joined


VERSION = 1  # to be raised when other groups come out
KEPT = 4  # data sets
MOST_COMPARED = 50_000  # contents, each with each; of more, only those whose coarse dhash have all signs in common with another's
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
        family = clusters(Thumbnails.of(pixels))
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
        for row, signs in enumerate(dhash(thumbnails), start=first):
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
