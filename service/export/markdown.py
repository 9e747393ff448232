"""Markdown whose text cannot turn into anything but text."""

import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&!@$]|(?<=:)/)")
LONGEST = 200  # characters of a text in a heading or a table
LONGEST_SENTENCE = 2_000
BARS = "▁▂▃▄▅▆▇█"


def plain(text: object, longest: int = LONGEST) -> str:
    """What was given, in one line of at most so many characters, without a meaning in Markdown or HTML."""
    flat = "".join(character if character.isprintable() else " " for character in str(text))
    short = flat if len(flat) <= longest else flat[: longest - 1] + "…"
    return SPECIAL.sub(r"\\\1", short).replace("www.", r"www\.").strip()


def table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table of plain texts; columns after the first are to the right."""
    rule = "|".join([":---", *["---:"] * (len(heads) - 1)])
    return "\n".join([_row(heads), f"|{rule}|", *map(_row, rows)])


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(plain, cells)) + " |"


def bullets(items: Iterable[object]) -> str:
    """A list of plain texts."""
    return "\n".join(f"- {plain(item, LONGEST_SENTENCE)}" for item in items)


def sparkline(values: Sequence[float]) -> str:
    """A bar of eight heights a value, the lowest for the least of them."""
    low, high = min(values) / 2, max(values) / 2  # halves, whose difference is finite
    return "".join(BARS[round((value / 2 - low) / (high - low) * 7) if high > low else 0] for value in values)
