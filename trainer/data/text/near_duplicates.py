"""Finds groups of near-duplicate texts, which the split keeps together.

Two texts are near-duplicates if the sets of their shingles, 5 successive characters of the normalised text, have a Jaccard index of at
least 0.8, or if both are short and differ by one character (added, left out or replaced). Groups are the connected components of this
relation. MinHash signatures in bands find the pairs that may be near-duplicates by the index (Broder, On the resemblance and containment of
documents, 1997; Leskovec et al., Mining of Massive Datasets, ch. 3), and the index of each pair is computed. Short texts that differ by one
character are equal without it (deletion neighbourhoods: Mor and Fraenkel, Comm. ACM 25, 1982). All arithmetic is on integers with fixed
constants, so that every machine finds the same groups and thus the same split.
"""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from trainer.cache import Cache, CacheKey
from trainer.data.groups import Groups, find_groups, joined
from trainer.data.split import Group

VERSION = 2  # raise it when other groups are found; part of the cache key
SHINGLE = 5  # characters
BANDS, ROWS = 20, 5  # a pair of index J shares a band with probability 1 - (1 - J^5)^20: 0.9996 at 0.8, 0.47 at 0.5
NEAR = 4, 5  # least Jaccard index as a fraction
SHORT = 15, 60  # characters; in shorter texts another character is often another word, and of longer ones the index exceeds the limit
WINDOW = 32  # members of a band's bucket that are compared with their next ones in it
LONGEST, MOST_CHARACTERS = 10_000, 200_000_000  # characters compared of a text, and of all texts together
LEAST_COMPARED = 500  # characters compared of a text at least
CHUNK = 2**18  # characters of which the shingles are computed at a time
COMPARED = 8_000_000  # characters of the pairs whose index is computed at a time, if all texts were as long as the longest
LARGEST_SHARE = 0.25  # of the rows of a label; of a larger group only equal texts are kept together
LARGEST_SMALL = 4  # rows; a group of at most this size is never too large

BASE = np.uint64(0x9E3779B97F4A7C15)
SEED = 20  # of the hash functions

DIGITS = re.compile(r"\d+")

Texts = tuple[str, str | None]
"""A text, or a pair of texts."""


def near_duplicates(digests: Sequence[str], texts: Sequence[Texts], labels: Sequence[int], cache: Cache, *, near: bool) -> Groups:
    """The groups among N rows, given the digest, texts and label of each; without `near` those of equal texts only."""
    labelled = hashlib.sha256("\n".join(f"{digest} {label}" for digest, label in zip(digests, labels, strict=True)).encode()).hexdigest()
    key = CacheKey("groups", {"contents": labelled, "texts": VERSION, "near": near, "unicode": unicodedata.unidata_version})
    return find_groups(key, len(texts), cache, lambda: _search(texts, labels, near=near))


def _search(texts: Sequence[Texts], labels: Sequence[int], *, near: bool) -> Groups:
    sound, too_large, sizes = list[Group](), list[Group](), Counter(labels)
    found = clusters([normalised(text) for text in texts]) if near else _equal(texts)
    for group in _members(found):
        counts = Counter(labels[row] for row in group)
        if not near or all(count <= max(LARGEST_SMALL, LARGEST_SHARE * sizes[label]) for label, count in counts.items()):
            sound.append(group)
            continue
        too_large.append(group)
        sound += [tuple(group[row] for row in equal) for equal in _members(_equal([texts[row] for row in group]))]
    return Groups(tuple(sorted(sound)), tuple(sorted(too_large)))


def _equal(texts: Sequence[Texts | str]) -> NDArray[np.int64]:
    places = dict[Texts | str, int]()
    return np.array([places.setdefault(text, len(places)) for text in texts], dtype=np.int64)


def _members(numbers: NDArray[np.int64]) -> Iterator[Group]:
    """The ascending positions of equal numbers, where there are several."""
    rows = defaultdict[int, list[int]](list)
    for row, number in enumerate(numbers.tolist()):
        rows[number].append(row)
    return (tuple(group) for group in rows.values() if len(group) > 1)


def normalised(texts: Texts) -> str:
    """Both texts in Unicode form NFKC, without differences of case, of digits and of white space."""
    return "\n".join(
        DIGITS.sub("0", " ".join(unicodedata.normalize("NFKC", text).casefold().split())) for text in texts if text is not None
    )


def clusters(texts: Sequence[str]) -> NDArray[np.int64]:
    """Int64 [N]: equal numbers for normalised texts that are joined by a chain of near-duplicates."""
    numbers = _equal(texts)
    distinct = list(dict.fromkeys(texts))
    most = min(LONGEST, max(LEAST_COMPARED, MOST_CHARACTERS // max(1, len(distinct))))
    distinct = [text[:most] for text in distinct]
    found, step = np.arange(len(distinct)), max(1, COMPARED // (2 * max(map(len, distinct), default=1) or 1))
    for left, right in _candidates(signatures(distinct)):
        apart = found[left] != found[right]
        left, right = left[apart], right[apart]
        for first in range(0, len(left), step):
            pairs = left[first : first + step], right[first : first + step]
            near = _are_near(distinct, *pairs)
            if near.any():
                found = joined(found, pairs[0][near], pairs[1][near])
    found = joined(found, *_one_character_apart(distinct))
    result: NDArray[np.int64] = found[numbers]
    return result


def _shingles(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of the shingles of all texts, one text after the other, and the number of shingles of each. A short text is one shingle."""
    padded = [text if len(text) >= SHINGLE else text.ljust(SHINGLE, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    lengths = np.array([len(text) for text in padded], dtype=np.int64)
    hashes = np.zeros(max(0, len(codes) - SHINGLE + 1), dtype=np.uint64)
    for place in range(SHINGLE):
        hashes = (hashes + codes[place : len(hashes) + place]) * BASE
    hashes ^= hashes >> np.uint64(29)  # mixes high bits into low ones
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(32)
    counts = lengths - SHINGLE + 1
    ends = lengths.cumsum()
    inside = np.ones(len(codes), dtype=np.bool_)
    for back in range(1, SHINGLE):  # a shingle that begins in the last characters of a text reaches into the next text
        inside[ends - back] = False
    return hashes[inside[: len(hashes)]], counts


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """MinHash signatures, uint32 [N, BANDS * ROWS]."""
    random = np.random.Generator(np.random.PCG64(SEED))
    factors = random.integers(0, 2**32, BANDS * ROWS, dtype=np.uint32) | np.uint32(1)
    summands = random.integers(0, 2**32, BANDS * ROWS, dtype=np.uint32)
    found = np.empty((len(texts), BANDS * ROWS), dtype=np.uint32)
    for first, last in _chunks(texts):
        hashes, counts = _shingles(texts[first:last])
        low, starts = hashes.astype(np.uint32), counts.cumsum() - counts
        for place, (factor, summand) in enumerate(zip(factors, summands, strict=True)):
            drawn = low * factor
            drawn += summand
            drawn ^= drawn >> np.uint32(15)
            drawn *= np.uint32(0x2C1B3C6D)
            found[first:last, place] = np.minimum.reduceat(drawn, starts)
    return found


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Spans of texts of about CHUNK characters."""
    first, size = 0, 0
    for place, text in enumerate(texts):
        size += len(text)
        if size >= CHUNK:
            yield first, place + 1
            first, size = place + 1, 0
    if first < len(texts):
        yield first, len(texts)


def _candidates(found: NDArray[np.uint32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each band the pairs of texts with equal values in it; in a bucket of many texts each with its WINDOW next ones."""
    for band in range(BANDS):
        keys = np.zeros(len(found), dtype=np.uint64)
        for value in found[:, band * ROWS : (band + 1) * ROWS].T:
            keys = (keys ^ value) * BASE
            keys ^= keys >> np.uint64(31)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        left, right = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
        for step in range(1, WINDOW + 1):
            (equal,) = np.nonzero(ordered[step:] == ordered[:-step])
            if not len(equal):
                break
            left.append(order[equal])
            right.append(order[equal + step])
        if left:
            yield np.concatenate(left), np.concatenate(right)


def _one_character_apart(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs that join all distinct texts of SHORT characters that differ by one character."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    left, right = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for length in range(SHORT[0], SHORT[1] + 1):
        (longer,), (shorter,) = np.nonzero(lengths == length), np.nonzero((lengths == length - 1) & (lengths >= SHORT[0]))
        codes, weights = _codes(texts, longer, length), np.cumprod(np.full(length + 1, BASE))
        owners, whole = np.concatenate((longer, shorter)), _codes(texts, shorter, length - 1) @ weights[: length - 1]
        before, after = np.zeros(len(longer), dtype=np.uint64), codes[:, 1:] @ weights[: length - 1]
        for place in range(length):  # hashes of the longer texts without the character at this place, and of the shorter ones
            keys = np.concatenate((before + after, whole))
            order = np.argsort(keys, kind="stable")
            (equal,) = np.nonzero(keys[order][1:] == keys[order][:-1])
            left.append(owners[order[equal]])
            right.append(owners[order[equal + 1]])
            before += codes[:, place] * weights[place]
            if place + 1 < length:
                after -= codes[:, place + 1] * weights[place]
    return np.concatenate(left), np.concatenate(right)


def _codes(texts: Sequence[str], rows: NDArray[np.int64], length: int) -> NDArray[np.uint64]:
    """The characters of texts of one length, [rows, length]."""
    found = "".join(texts[row] for row in rows.tolist()).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(found, dtype="<u4").astype(np.uint64).reshape(len(rows), length)


def _are_near(texts: Sequence[str], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the Jaccard index of the shingles of texts `left[i]` and `right[i]` is at least NEAR."""
    rows, places = np.unique(np.concatenate((left, right)), return_inverse=True)
    hashes, counts = _shingles([texts[row] for row in rows.tolist()])
    owners = np.repeat(np.arange(len(rows)), counts)
    values, columns = np.unique(hashes, return_inverse=True)
    cells = np.unique(owners * len(values) + columns)  # each shingle of a text once
    sets = csr_array(
        (np.ones(len(cells), dtype=np.int32), (cells // len(values), cells % len(values))), shape=(len(rows), len(values)), dtype=np.int32
    )
    sizes = np.diff(sets.indptr)
    first, second = places[: len(left)], places[len(left) :]
    both = (sets[first] * sets[second]).sum(axis=1)
    least, of = NEAR
    near: NDArray[np.bool_] = of * both >= least * (sizes[first] + sizes[second] - both)
    return near
