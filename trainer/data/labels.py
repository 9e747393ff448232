"""Names of labels: which differ in nothing that a reader sees, and which no study file can hold. Imports no torch."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?\Z", re.ASCII)


def similar(names: Iterable[str]) -> list[list[str]]:
    """Sets of names that differ only in case, spaces, Unicode form or number format."""
    same = defaultdict[str, list[str]](list)
    for name in names:
        same[_normalised(name)].append(name)
    return [alike for alike in same.values() if len(alike) > 1]


def _normalised(name: str) -> str:
    text = " ".join(unicodedata.normalize("NFC", name).split()).casefold()
    return str(Decimal(text).normalize()) if NUMBER.match(text) else text


def is_foul(character: str) -> bool:
    """Whether the character is forbidden in names of labels, as it is in study files."""
    return character in DIRECTION_MARKS or unicodedata.category(character) in ("Cc", "Cs")
