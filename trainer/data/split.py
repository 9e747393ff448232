"""Splits examples into train, validation and test by content."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from trainer.configuration import DataConfig, Part, split_sizes
from trainer.data.contents import Distinct
from trainer.data.examples import BadData
from trainer.data.targets import TargetReader

PARTS: tuple[Part, ...] = ("test", "validation", "train")  # in the order in which they are filled
Group = tuple[int, ...]  # positions of contents, ascending
ORDERS = 20  # orders of the units that are tried if declared groups leave a label's part empty


@dataclass(frozen=True, slots=True)
class Split:
    """The part of each content, and the groups that were kept whole."""

    parts: tuple[Part, ...]
    kept: tuple[Group, ...]


def split(
    data: DataConfig, labels: Sequence[str], contents: Sequence[Distinct], groups: Sequence[Group] = (), *, complete: bool = True
) -> Split:
    """Split contents, sorted by SHA-256, into parts of the sizes of `split_sizes` for each label. Raises BadData.

    A unit is a group of contents, or a content that is in no group. Its rank is SHA-256(seed/content) of its first content, so the
    split depends on contents and seed alone. In the order of their ranks units go to test, then to validation, as long as they fit; all
    others go to train. When a label has only as many units left as empty parts, each of these units takes an empty part.

    `groups` are near-duplicates. They are a preference: if they leave a label's part empty, the groups of that label are dropped. Groups
    that the data declares (`Example.group`) always stay whole, joined with `groups` that share a content with them. If they leave a
    label's part empty, other ranks are tried; after ORDERS of them BadData is raised.

    Contents keep their part in the data's own split. The parts that it lacks are filled from its train part. BadData is raised also for
    labels with too few contents, and with `complete` for labels that lack contents in a part of the data's own split.
    """
    given = {part for content in contents if (part := content.given) is not None}
    pool = [row for row, content in enumerate(contents) if content.given in (None, "train")]
    chosen, place = [contents[row] for row in pool], {row: index for index, row in enumerate(pool)}
    sizes = _sizes(data, labels, chosen, given)
    if complete:
        _refuse_lacking_given_parts(labels, contents, given)
    declared, order = _declared(chosen), 0
    while True:
        near = [tuple(place[row] for row in group if row in place) for group in groups]
        parts = _Filling(data.seed, chosen, sizes, order).fill(_joined([*declared, *near]))
        if not (lacking := _lacking(sizes, chosen, parts)):
            drawn = dict(zip(pool, parts, strict=True))
            return Split(tuple(drawn.get(row) or content.given or "train" for row, content in enumerate(contents)), tuple(groups))
        fewer = [group for group in groups if not any(row in place and contents[row].label in lacking for row in group)]
        if len(fewer) == len(groups):
            order += 1  # only the declared groups cause the empty part
        if order > ORDERS:
            counts = Counter(label for group in _joined(declared) for label in {chosen[row].label for row in group})
            short = [f"{labels[label]} has {counts[label]} groups of several examples" for label in sorted(lacking)]
            raise BadData.listing("these labels leave a part of the split empty when their groups stay whole", short)
        groups = fewer


def stratified(
    data: DataConfig, labels: Sequence[str], contents: Sequence[Distinct], target: TargetReader | None
) -> tuple[Sequence[str], Sequence[Distinct], int]:
    """The strata that `target` makes of the labels: their names, the contents with a stratum in place of a label, and the merged strata.

    Without `target` each label is a stratum.
    """
    if target is None:
        return labels, contents, 0
    counts = defaultdict[str, Counter[Part | None]](Counter)
    for content in contents:
        counts[labels[content.label]][content.given] += 1
    strata = target.strata(counts, data, sorted({part for content in contents if (part := content.given) is not None}))
    return strata.names, [replace(content, label=strata.of[labels[content.label]]) for content in contents], strata.merged


def _declared(contents: Sequence[Distinct]) -> list[Group]:
    """The groups that the data declares, by positions. They overlap if copies of a content are in several groups."""
    groups = defaultdict[str, list[int]](list)
    for row, content in enumerate(contents):
        for name in {file.group for file in content.files if file.group is not None}:
            groups[name].append(row)
    return [tuple(rows) for rows in groups.values()]


def _joined(groups: Sequence[Group]) -> list[Group]:
    """Join groups that share a position (union-find). Each group is ascending; they are sorted by their first position."""
    leader = dict[int, int]()

    def find(row: int) -> int:
        while leader.setdefault(row, row) != row:
            leader[row] = row = leader[leader[row]]  # path halving
        return row

    for group in groups:
        for row in group:
            first, other = sorted((find(group[0]), find(row)))
            leader[other] = first
    members = defaultdict[int, list[int]](list)
    for row in sorted(leader):
        members[find(row)].append(row)
    return [tuple(members[first]) for first in sorted(members)]


def _refuse_lacking_given_parts(labels: Sequence[str], contents: Sequence[Distinct], given: Collection[Part]) -> None:
    """Raises BadData if a label has no content of its own in a part: a content that is in two parts counts only for one of them."""
    there = {(content.label, content.given) for content in contents}
    if lacking := [f"{part} lacks {name}" for part in given for label, name in enumerate(labels) if (label, part) not in there]:
        raise BadData.listing(
            "each label needs examples of its own in each part of the data's split, besides copies of other parts' examples",
            sorted(lacking),
        )


def _sizes(data: DataConfig, labels: Sequence[str], contents: Sequence[Distinct], given: Collection[Part]) -> list[dict[Part, int]]:
    """By label, the wanted number of contents of each part. Raises BadData for labels with too few contents."""
    counts = Counter(content.label for content in contents)
    sizes, short = list[dict[Part, int]](), list[str]()
    for label, name in enumerate(labels):
        train, validation, test = split_sizes(counts[label], data, given)
        sizes.append({"test": test, "validation": validation, "train": train})
        if train < 1:
            short.append(f"{name} has {counts[label]}")
    if short:
        raise BadData.listing("these labels have too few distinct examples for the split", short)
    return sizes


def _lacking(sizes: Sequence[Mapping[Part, int]], contents: Sequence[Distinct], parts: Iterable[Part]) -> set[int]:
    """The labels that lack examples in a part of wanted size above 0."""
    there = {(content.label, part) for content, part in zip(contents, parts, strict=True)}
    return {label for label, own in enumerate(sizes) for part, size in own.items() if size and (label, part) not in there}


class _Filling:
    """Assigns units to parts in the order of their ranks."""

    def __init__(self, seed: int, contents: Sequence[Distinct], sizes: Sequence[Mapping[Part, int]], order: int = 0) -> None:
        self._salt, self._contents = f"/{order}" if order else "", contents
        self._seed = seed
        self._free = [dict(own) for own in sizes]  # by label and part, contents that still fit; below 0 if a unit exceeded it
        self._empty = [{part for part, size in own.items() if size} for own in sizes]
        self._left = defaultdict[int, int](int)  # by label, units without a part

    def fill(self, groups: Sequence[Group]) -> list[Part]:
        """The part of each content."""
        grouped = {row for group in groups for row in group}
        units = [*groups, *((row,) for row in range(len(self._contents)) if row not in grouped)]
        units.sort(key=self._rank)
        counts = [Counter(self._contents[row].label for row in unit) for unit in units]
        self._left.update(Counter(label for own in counts for label in own))
        parts = dict[int, Part]()
        for unit, own in zip(units, counts, strict=True):
            parts |= dict.fromkeys(unit, self._placed(own))
        return [parts[row] for row in range(len(self._contents))]

    def _rank(self, unit: Group) -> bytes:
        return hashlib.sha256(f"{self._seed}/{self._contents[unit[0]].sha256}{self._salt}".encode()).digest()

    def _placed(self, counts: Mapping[int, int]) -> Part:
        """Assign a unit with `counts` contents of each label to a part."""
        part = self._urgent(counts) or self._fitting(counts)
        for label, count in counts.items():
            self._free[label][part] -= count
            self._empty[label].discard(part)
            self._left[label] -= 1
        return part

    def _urgent(self, counts: Mapping[int, int]) -> Part | None:
        """The empty part that the unit fits best, if a label has no more units left than empty parts; else None."""
        for label, count in counts.items():
            if self._empty[label] and self._left[label] <= len(self._empty[label]):
                empty = [part for part in PARTS if part in self._empty[label]]
                return min(empty, key=lambda part: abs(self._free[label][part] - count))
        return None

    def _fitting(self, counts: Mapping[int, int]) -> Part:
        for part in PARTS[:-1]:
            if all(self._free[label][part] >= count for label, count in counts.items()):
                return part
        return "train"
