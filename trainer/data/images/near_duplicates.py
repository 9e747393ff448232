"""Finds groups of near-duplicate images, which the split keeps together.

Two images are near-duplicates if their 32 x 32 thumbnails differ little (`Thumbnails.alike`). Groups are the connected components of this
relation. All pairs are compared, so time grows with N²; a cheap lower bound on 8 x 8 grey squares excludes nearly all pairs first.
The comparison is exact in integers, so that every machine finds the same groups and thus the same split. See
docs/decisions/0017-near-duplicates.md.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from trainer.cache import Cache, CacheKey
from trainer.data.contents import Distinct
from trainer.data.groups import Groups, find_groups, joined
from trainer.data.images import reading
from trainer.data.images.decoding import Decoder
from trainer.data.split import Group

SIDE, COARSE = 32, 8  # pixels: side of a thumbnail; side of the grey squares by which pairs are excluded
MOST_DIFFERENT = 7  # levels of 255, root mean square over a thumbnail after the channels' means are subtracted
SHARE_DIFFERENT = 0.2  # limit of the same relative to the spread of the picture with less spread
MOST_SHIFTED = 16  # levels between the two means of a channel; a larger shift is another brightness
LEAST_SPREAD = 4  # levels, root mean square around the channels' means; pictures with less have too little content to compare
BLOCK = 1024  # pictures; pairs are compared in blocks of BLOCK x BLOCK
DENSE = 20_000  # possible pairs in a block from which the whole block is compared by one matrix product
GATHERED = 2048  # pairs compared at a time
SLACK = 1.001, 1.0  # factor and summand on float32 squares, so that rounding excludes no pair

AREA = SIDE * SIDE
UNIT = 3 * AREA * AREA  # `spread` and `limit` are variances times UNIT: integers, equal on every machine


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnails:
    """Thumbnails with the precomputed values of every comparison.

    With x the 3 * AREA samples of a picture, Σ over a channel's AREA pixels and s its sums: AREA Σ x² - Σ s² is UNIT times the variance
    around the channels' means. The same of the difference of two pictures is their squared distance without a shift of brightness.
    """

    pixels: Tensor  # uint8 [N, 32 · 32, 3]
    sums: Tensor  # int64 [N, 3], of each channel
    limit: Tensor  # int64 [N], largest squared distance to a near-duplicate; negative for a picture of too little spread

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
        """Whether the pictures `left[i]` and `right[i]` (int64 [K]) are near-duplicates: bool [K]."""
        parts = zip(torch.split(left, GATHERED), torch.split(right, GATHERED), strict=True)
        return torch.cat([self._judged(*part, self._squares(*part)) for part in parts]) if len(left) else torch.empty(0, dtype=torch.bool)

    def all_alike(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Whether each of the rows and each of the columns are near-duplicates: bool [R, C]."""
        left, right = (self.pixels[part].flatten(1).double() for part in (rows, columns))  # integers below 2^53: exact in float64
        squares = left.square().sum(1)[:, None] + right.square().sum(1)[None] - 2 * left @ right.T
        return self._judged(rows[:, None], columns[None], squares.long())

    def around(self, rows: Tensor) -> Tensor:
        """Bool [R]: the rows that are near-duplicates of their centre, and the centre itself, which is the row nearest to their mean."""
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
    """Int64 [N]: equal numbers for pictures that are joined by a chain of near-duplicates. Time grows with N², memory with N."""
    found = np.arange(len(thumbnails.limit))
    coarse, candidates = _coarse(thumbnails), torch.nonzero(thumbnails.limit >= 0)[:, 0]
    blocks = torch.split(candidates, BLOCK)
    for place, rows in enumerate(blocks):
        for columns in blocks[place:]:
            # Pairs that are in one cluster already are skipped: they could only confirm it.
            known = torch.from_numpy(found)
            possible = _possible(coarse, thumbnails.limit, rows, columns) & (known[rows][:, None] != known[columns][None])
            for left, right in _confirmed(thumbnails, rows, columns, possible):
                found = joined(found, left.numpy(), right.numpy())
    return found


def dhash(thumbnails: Thumbnails) -> Iterator[int | None]:
    """Difference hash: the signs of the 64 differences between neighbouring grey squares as one number; None for too little spread.

    After Krawetz, "Kind of Like That" (2013); here the last column's neighbour is the first column.
    """
    coarse = _coarse(thumbnails).view(-1, COARSE, COARSE)
    signs = (coarse > coarse.roll(-1, 2)).flatten(1).numpy()
    numbers = np.packbits(signs, axis=1).view(">u8")[:, 0].tolist()
    return (number if limit >= 0 else None for number, limit in zip(numbers, thumbnails.limit.tolist(), strict=True))


def _coarse(thumbnails: Thumbnails) -> Tensor:
    """Float32 [N, 64]: 8 x 8 grey squares less their mean.

    Averaging cannot increase a distance: the root mean square difference of two pictures' squares is at most that of their thumbnails.
    So squares that differ by more than the limit exclude the pair.
    """
    step, parts = SIDE // COARSE, list[Tensor]()
    for pixels in torch.split(thumbnails.pixels, BLOCK):
        grey = F.avg_pool2d(pixels.float().mean(2).view(-1, 1, SIDE, SIDE), step).flatten(1)
        parts.append(grey - grey.mean(1, keepdim=True))
    return torch.cat(parts)


def _possible(coarse: Tensor, limit: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bool [R, C]: the pairs that the coarse squares do not exclude, each pair once."""
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


VERSION = 1  # raise it when other groups are found; part of the cache key
MOST_COMPARED = 50_000  # contents compared pairwise; of a larger data set only those whose difference hash equals another's
LARGEST_SHARE = 0.25  # of the contents of a class; a larger cluster is a chain of unlike images and is broken up
LARGEST_SMALL = 4  # contents; a cluster of at most this size is never too large
MOST_LABELS = 3
MOST_CENTRES = 100  # groups into which a chain is broken up at most


def near_duplicates(contents: Sequence[Distinct], decoder: Decoder, cache: Cache) -> Groups:
    """The groups: kept by this process, found in the cache, or computed. Raises BadData with the names of undecodable images."""
    return find_groups(_key(contents, decoder), len(contents), cache, lambda: _search(contents, decoder))


def _key(contents: Sequence[Distinct], decoder: Decoder) -> CacheKey:
    """The cache key: contents, labels (by which a group is too large), and the decoder (by which thumbnails differ)."""
    labelled = hashlib.sha256("\n".join(f"{content.sha256} {content.label}" for content in contents).encode()).hexdigest()
    return CacheKey("groups", {"contents": labelled, "groups": VERSION, **decoder.key})


def _search(contents: Sequence[Distinct], decoder: Decoder) -> Groups:
    sound, too_large = list[Group](), list[Group]()
    sizes = Counter(content.label for content in contents)
    for rows, thumbnails in _clusters(contents, decoder):
        for group in _broken_up(contents, sizes, rows, thumbnails):
            (too_large if _too_large(contents, sizes, group) else sound).append(group)
    return Groups(tuple(sorted(sound)), tuple(sorted(too_large)))


def _clusters(contents: Sequence[Distinct], decoder: Decoder) -> Iterator[tuple[list[int], Thumbnails]]:
    """Clusters of two or more contents: ascending positions, and the thumbnails."""
    for rows in _comparable(contents, decoder):
        pixels = reading.thumbnails([contents[row] for row in rows], decoder, SIDE)
        numbers = clusters(Thumbnails.of(pixels))
        order = np.argsort(numbers, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            if len(members) > 1:
                yield [rows[member] for member in members], Thumbnails.of(pixels[torch.from_numpy(members)])


def _comparable(contents: Sequence[Distinct], decoder: Decoder) -> Iterator[Sequence[int]]:
    """Sets of ascending positions of contents; within a set all pairs are compared."""
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
    """Yield the cluster if it is not too large; else repeatedly its centre with the centre's near-duplicates, until the rest is small."""
    left = torch.arange(len(rows))
    for _ in range(MOST_CENTRES):
        if len(left) < 2:
            return
        cluster = tuple(rows[member] for member in left.tolist())
        if not _too_large(contents, sizes, cluster):
            yield cluster
            return
        around = thumbnails.around(left)
        if len(left[around]) > 1:
            yield tuple(rows[member] for member in left[around].tolist())
        left = left[~around]
    yield tuple(rows[member] for member in left.tolist())


def _too_large(contents: Sequence[Distinct], sizes: Counter[int], group: Group) -> bool:
    counts = Counter(contents[row].label for row in group)
    return len(counts) > MOST_LABELS or any(count > max(LARGEST_SMALL, LARGEST_SHARE * sizes[label]) for label, count in counts.items())
