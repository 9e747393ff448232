"""Groups of near-duplicates, which the split keeps together: stored by the process and the cache, and counted."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from trainer.cache import Cache, CacheKey
from trainer.configuration import Part
from trainer.data.contents import stored
from trainer.data.split import Group, Split

KEPT = 4  # data sets kept by this process

_kept: OrderedDict[str, "Groups"] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of near-duplicates by positions of contents, each ascending, sorted by their first position."""

    sound: tuple[Group, ...]
    too_large: tuple[Group, ...]  # reported, but not kept together: a label could not be split otherwise

    @classmethod
    def read(cls, numbers: Tensor) -> "Groups":
        """From int32 [N]: 0 for a content in no group, `k` for a member of sound group k, `-k` for a member of too large group k."""
        members = defaultdict[int, list[int]](list)
        for row in numbers.nonzero()[:, 0].tolist():
            members[int(numbers[row])].append(row)
        ordered = sorted(members.items(), key=lambda one: one[1])
        return cls(*(tuple(tuple(rows) for number, rows in ordered if (number > 0) is sound) for sound in (True, False)))

    def write(self, into: Tensor) -> None:
        """Write the numbers of `read` into zeros, int32 [N]."""
        for number, group in enumerate(self.sound, start=1):
            into[list(group)] = number
        for number, group in enumerate(self.too_large, start=1):
            into[list(group)] = -number


def find_groups(key: CacheKey, contents: int, cache: Cache, search: Callable[[], Groups]) -> Groups:
    """The groups among that number of contents: kept by this process, found in the cache, or computed by `search`."""
    if key.digest not in _kept:
        while len(_kept) >= KEPT:
            _kept.popitem(last=False)
        found = stored(cache, key, (contents,), torch.int32, lambda numbers: search().write(numbers))
        _kept[key.digest] = Groups.read(found[0]) if found is not None else search()
    _kept.move_to_end(key.digest)
    return _kept[key.digest]


def joined(found: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of components, int64 [N], after those of `left[i]` and `right[i]` (int64 [K]) are joined."""
    edges = (np.ones(len(left), dtype=np.int8), (found[left], found[right]))
    _, numbers = connected_components(coo_array(edges, shape=(len(found), len(found))), directed=False)
    joined: NDArray[np.int64] = numbers.astype(np.int64)[found]
    return joined


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """How the split treated the groups."""

    groups: int  # kept together
    contents: int  # in these groups
    crossing: int  # groups that a split without them would have divided
    mixed: frozenset[Group]  # groups with several labels
    across: frozenset[Group]  # groups with contents in several parts of a given split
    too_large: int  # groups that are not kept together
    ordered: tuple[Group, ...]  # groups across parts first, then those with several labels

    @classmethod
    def of(cls, labels: Sequence[object], groups: Groups, split: Split, without: Sequence[Part]) -> "GroupCounts":
        """From the label of each content, the split, and the parts of a split without groups."""
        kept = split.kept
        across = {group for group in kept if len({split.parts[row] for row in group}) > 1}
        mixed = {group for group in kept if len({labels[row] for row in group}) > 1}
        return cls(
            groups=len(kept),
            contents=sum(map(len, kept)),
            crossing=sum(len({without[row] for row in group}) > 1 for group in kept if group not in across),
            mixed=frozenset(mixed),
            across=frozenset(across),
            too_large=len(groups.sound + groups.too_large) - len(kept),
            ordered=tuple(sorted(kept, key=lambda group: (group not in across, group not in mixed))),
        )
