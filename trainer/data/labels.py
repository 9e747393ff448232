"""Names of labels: which differ in nothing that a reader sees, and which no study file can hold. Imports no torch."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from trainer.data.examples import UnfitData, enumerated

DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?\Z", re.ASCII)


def refuse_similar(names: Iterable[str], noun: str, different: str, place: tuple[str, ...] = ("data", "path")) -> None:
    """Raises UnfitData for names that differ only in case, spaces, Unicode form or number format.

    `noun` is the plural of one name in the message, `different` that of what it names.
    """
    same = defaultdict[str, list[str]](list)
    for name in names:
        same[_normalised(name)].append(name)
    if alike := [own for own in same.values() if len(own) > 1]:
        remedy = f"give them one name, or write data.similar_labels: keep if they are different {different}"
        listed = enumerated([" and ".join(map(ascii, own)) for own in alike])
        raise UnfitData(
            "similar_labels",
            f"these {noun} are nearly equal: {listed}; {remedy}",
            place=place,
            unnamed=f"{len(alike)} {noun} are nearly equal to others: in case, spaces, Unicode form, or as numbers; {remedy}",
        )


def _normalised(name: str) -> str:
    text = " ".join(unicodedata.normalize("NFC", name).split()).casefold()
    return str(Decimal(text).normalize()) if NUMBER.match(text) else text


def is_foul(character: str) -> bool:
    """Whether the character is forbidden in names of labels, as it is in study files."""
    return character in DIRECTION_MARKS or unicodedata.category(character) in ("Cc", "Cs")
