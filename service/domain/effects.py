"""Parameters without effect: trials with different parameters whose learning curves are equal bit for bit."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from search_spaces import Params

MOST_TRIALS = 200  # compared with each other
MOST_SENTENCES = 5
FEWEST_DIGITS = 7  # of a value that hardly two runs share by chance
FEWEST_VALUES = 4  # different ones of a curve that hardly two runs share by chance


@dataclass(frozen=True, slots=True)
class CurveDigest:
    """A complete trial, and the digest of its curve."""

    number: int
    params: Params
    digest: str


def digest_of(curve: Mapping[int, float]) -> str | None:
    """A digest of a metric by step; None for a curve that trials may share by chance, such as a few shares of a small number."""
    values = set(curve.values())
    if not all(map(math.isfinite, values)):
        return None
    if len(values) < FEWEST_VALUES and all(_digits(value) < FEWEST_DIGITS for value in values):
        return None
    return hashlib.sha256(repr(sorted(curve.items())).encode()).hexdigest()[:32]


def _digits(value: float) -> int:
    """The number of significant digits of the shortest decimal that is the value."""
    return len(repr(abs(value)).partition("e")[0].replace(".", "").strip("0"))


def sentences(trials: Sequence[CurveDigest], metric: str) -> list[str]:
    """Statements about parameters that have no effect, at most MOST_SENTENCES."""
    if len(trials) > 2 and len({one.digest for one in trials}) == 1 and len({_key(one.params) for one in trials}) == len(trials):
        return [
            f"No parameter has an effect: the curves of {metric} of all {len(trials)} complete trials are equal bit for bit. "
            "Does the script read its parameters?"
        ]
    return list(_of_pairs(trials, metric))[:MOST_SENTENCES]


def _of_pairs(trials: Sequence[CurveDigest], metric: str) -> Iterator[str]:
    """A sentence for each smallest set of parameters in which two trials with equal curves differ, and no two with different ones."""
    equal = dict[frozenset[str], tuple[int, int]]()
    different = set[frozenset[str]]()
    for first, second in combinations(trials[:MOST_TRIALS], 2):
        ours, theirs = first.params, second.params
        names = frozenset(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        if first.digest != second.digest:
            different.add(names)
        elif names:
            equal.setdefault(names, (first.number, second.number))
    for names, (one, other) in sorted(equal.items(), key=lambda item: (len(item[0]), sorted(item[0]))):
        if names not in different and not any(smaller < names for smaller in equal):
            listed = sorted(names)
            subject = f"Parameter {listed[0]} has" if len(listed) == 1 else f"Parameters {', '.join(listed[:-1])} and {listed[-1]} have"
            them = "it" if len(listed) == 1 else "them"
            yield (
                f"{subject} no effect: trials {one} and {other} differ only in {them}, and their curves of {metric} are equal bit for bit."
            )


def _key(params: Params) -> str:
    return repr(sorted(params.items()))
