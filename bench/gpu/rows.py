"""The rows of a run: JSON lines, written when something was measured, and the table at the end."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from bench.tables import table

State = Literal["ok", "failed", "stopped", "left out", "not here"]
"""`failed`: an error, or not what was expected. `stopped`: at its time limit. `left out`: too little time, or missing packages. `not here`:
this device or this version of the product does not have it."""
WHOLE = "part"  # the row of a whole part, its last one
LONGEST = 2_000  # characters of a value


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement, one comparison, or the end of a part."""

    at: float  # seconds since the start of the run
    part: str
    what: str
    state: State
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """The file of a run's rows. Several processes may write to it."""

    file: Path
    started_at: float  # by time.monotonic, which is the same clock in all processes of a machine

    def add(self, part: str, what: str, state: State = "ok", **values: object) -> None:
        """Write a row, and print it."""
        row = Row(round(time.monotonic() - self.started_at, 1), part, what, state, {name: _plain(value) for name, value in values.items()})
        line = json.dumps(asdict(row), allow_nan=False) + "\n"
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())  # one call, so that lines of two processes do not mix
        finally:
            os.close(descriptor)
        print(line, end="", flush=True)


def read(file: Path) -> list[Row]:
    """All rows of the file. Raises ValueError for a line that is not a row."""
    return [_row(line) for line in file.read_text().splitlines()] if file.exists() else []


def _row(line: str) -> Row:
    found = json.loads(line)
    if not isinstance(found, dict) or set(found) != {field.name for field in fields(Row)}:
        raise ValueError(f"a row has other fields: {line[:200]}")
    row = Row(**found)
    sound = isinstance(row.at, int | float) and isinstance(row.part, str) and isinstance(row.what, str) and isinstance(row.values, dict)
    if not sound or row.state not in get_args(State):
        raise ValueError(f"a row has values of other types: {line[:200]}")
    return row


def as_table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table: those that are not `ok` first, since a reader looks for these."""
    ordered = sorted(rows, key=lambda row: row.state == "ok")
    return table(("part", "what", "state", "values"), [(row.part, row.what, row.state, _in_words(row.values)) for row in ordered])


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items() if name != "trace")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.replace("|", "/").split())[:160]


def _plain(value: object) -> object:
    """A value that JSON can hold: numbers have four digits, and those that are not finite are texts."""
    match value:
        case bool() | int() | None:
            return value
        case float():
            return float(f"{value:.4g}") if math.isfinite(value) else str(value)
        case Mapping():
            return {str(name): _plain(one) for name, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case _:
            return str(value)[-LONGEST:]
