"""Tables in text files: separator, header and columns by name. Shared by the listings of all modalities; imports no torch."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from trainer.configuration import ListingFacts, Part
from trainer.data.examples import UnfitData, shown

MOST_BYTES = 512 * 2**20
LONGEST_LINE = 2**20  # characters
SEPARATORS = (",", ";", "\t")
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ -]*\Z")
PART_VALUES = "train, val, validation, valid, dev or test"

TableExample = tuple[int, list[str]]
Rows = Iterator[TableExample]


@dataclass(frozen=True, slots=True)
class TableHeader:
    """The first line of a table."""

    names: tuple[str, ...]  # as written in the file
    places: Mapping[str, int]  # index of each column that is used, by role
    separator: str | None = None

    def facts(self, parts: set[Part | None], groups: set[str | None]) -> ListingFacts:
        """Facts about the listing, given the parts and the groups of all rows."""
        given = tuple(part for part in ("train", "validation", "test") if part in parts)
        used, notes = set(self.places.values()), []
        if given and "split" in self.places:
            notes.append(f"The data's own split is used: the column {self.names[self.places['split']].strip()}, with {', '.join(given)}.")
        return ListingFacts(
            given=given,
            columns={role: self.names[place] for role, place in self.places.items()},
            separator=self.separator,
            unused_columns=tuple(shown(name.strip() or "(no name)") for place, name in enumerate(self.names) if place not in used)[:100],
            groups=len(groups - {None}) if "group" in self.places else None,
            notes=tuple(notes),
        )


def opened(lines: Iterator[str], wanted: set[str], separators: Sequence[str] = SEPARATORS) -> tuple[str, tuple[str, ...], Rows]:
    """The separator, which fits the first line best, the names in that line, and the other rows with the number of their first line.

    `wanted` are names of columns. Empty lines are skipped. Raises csv.Error, also while rows are read.
    """
    first = next(lines, "")
    separator = max(separators, key=lambda sign: _fitness(first, sign, wanted))  # of equal ones the first
    reader = csv.reader(chain([first], lines), delimiter=separator, strict=True)
    names = tuple(next(reader, []))

    def rows() -> Rows:
        end = reader.line_num
        for row in reader:
            start, end = end + 1, reader.line_num
            if row:
                yield start, row

    return separator, names, rows()


def _fitness(line: str, separator: str, wanted: set[str]) -> tuple[int, int]:
    """The fit of a separator to the header line: the number of wanted columns found, then the number of columns."""
    try:
        names = next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        return 0, 0
    return len({folded(name) for name in names} & {folded(name) for name in wanted}), len(names)


def folded(name: str) -> str:
    """The name of a column in the form in which names are compared."""
    return name.strip().casefold()


def place_of(names: Sequence[str], wanted: str, table: str) -> int | None:
    """The index of the column with that name; case matters only if several names differ in nothing else. Raises UnfitData for several."""
    exact = [place for place, name in enumerate(names) if name.strip() == wanted.strip()]
    found = exact or [place for place, name in enumerate(names) if folded(name) == folded(wanted)]
    if len(found) > 1:
        raise UnfitData("column_twice", f"{table} has {len(found)} columns {wanted}; leave one of them, or rename the others")
    return found[0] if found else None


def choices(absent: Sequence[str], names: Sequence[str], taken: set[int], usual: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For each absent role the column of the table that may be meant: one with a usual name of the role, else the next unused one."""
    left = [name.strip() for place, name in enumerate(names) if place not in taken and name.strip()]
    found = dict[str, str]()
    for role in absent:
        likely = [name for often in usual.get(role, ()) for name in left if name.casefold() == often]
        if choice := (likely or left)[:1]:
            found[role] = choice[0]
            left.remove(choice[0])
    return found


def in_yaml(name: str) -> str:
    """The name as a value in YAML."""
    return name if PLAIN.match(name) else json.dumps(name)
