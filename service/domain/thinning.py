"""Which points of a long curve are enough to draw it."""

from collections.abc import Sequence
from itertools import pairwise

MOST_POINTS = 64


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> list[int]:
    """The places of at most so many of the values: the first, the last, and of each of equal parts between them the least and the greatest.

    So the greatest and the least of all are among them. All places where there are no more than `most`; rising. `most` is 4 or more.
    """
    count = len(values)
    if count <= most:
        return list(range(count))
    parts = (most - 2) // 2
    borders = [1 + part * (count - 2) // parts for part in range(parts + 1)]
    places = [0]
    for first, end in pairwise(borders):
        part = values[first:end]
        low, high = first + part.index(min(part)), first + part.index(max(part))
        places += (low,) if low == high else (low, high) if low < high else (high, low)
    places.append(count - 1)
    return places
