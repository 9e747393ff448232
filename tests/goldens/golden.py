"""Golden files: recorded behaviour that a test compares with; THAW_GOLDENS_WRITE=1 rewrites them."""

import difflib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
WRITE = "THAW_GOLDENS_WRITE"
WIDTH = 140
BITS = "bits"  # the member of an object that holds a digest of computed numbers
TOLERANCE = 1e-3
MOST_LINES = 60  # of a difference that is printed
REMEDY = f"if this change is intended, rewrite the file with {WRITE}=1 and name the change in CHANGELOG.md: see docs/architecture.md"


class Goldens:
    """Compares with the golden files; in the writing mode it replaces those that differ and reports each change."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report

    def check(self, name: str, found: str) -> None:
        """Fail with the difference where the text is not the file's. The last line of a file ends with a line break."""
        file = FOLDER / name
        recorded = file.read_text() if file.exists() else ""
        if found == recorded:
            return
        if writing() and not recorded:
            self._report(f"new: tests/goldens/{name}")
            file.write_text(found)
            return
        lines = list(difflib.unified_diff(recorded.splitlines(), found.splitlines(), "recorded", "found", lineterm="", n=2))
        more = [f"… and {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else []
        difference = "\n".join([f"tests/goldens/{name}:", *lines[:MOST_LINES], *more])
        if not writing():
            pytest.fail(f"{difference}\n{REMEDY}", pytrace=False)
        file.write_text(found)
        self._report(f"rewritten: {difference}")

    def check_json(self, name: str, found: Any) -> None:
        """The same for a value of JSON; the order of an object's members does not count."""
        self.check(name, dumped(found) + "\n")

    def check_computed(self, name: str, machine: Mapping[str, str], found: Any) -> None:
        """The same for computed numbers: bit for bit on a machine like the one that recorded the file, else within TOLERANCE."""
        file = FOLDER / name
        recorded = json.loads(file.read_text()) if file.exists() else {"machine": machine}
        if writing() or recorded["machine"] == dict(machine):
            self.check_json(name, {"machine": machine, "found": exact(found)})
            return
        differing = {key: value for key, value in recorded["machine"].items() if machine.get(key) != value}
        others = ", ".join(f"{key} {value} and not {machine.get(key)}" for key, value in differing.items())
        self._report(f"not compared bit for bit, but within {TOLERANCE}: tests/goldens/{name}, which was recorded with {others}")
        if faults := list(_far("", exact(found), recorded["found"])):
            pytest.fail("\n".join([f"tests/goldens/{name}, within {TOLERANCE}:", *faults[:MOST_LINES], REMEDY]), pytrace=False)


def writing() -> bool:
    """Whether golden files are rewritten."""
    return bool(os.environ.get(WRITE))


def exact(value: Any) -> Any:
    """The value with each float as the text of its bits, which `float.fromhex` reads; it may be NaN or infinite."""
    match value:
        case float():
            return value.hex()
        case dict():
            return {str(key): exact(item) for key, item in value.items()}
        case list() | tuple():
            return [exact(item) for item in value]
    return value


def _far(place: str, found: Any, recorded: Any) -> Iterator[str]:
    """Where two values differ by more than rounding. Digests of computed numbers are not compared."""
    if isinstance(found, dict) and isinstance(recorded, dict) and found.keys() == recorded.keys():
        for key in found.keys() - {BITS}:
            yield from _far(f"{place}/{key}", found[key], recorded[key])
    elif isinstance(found, list) and isinstance(recorded, list) and len(found) == len(recorded):
        for number, (one, other) in enumerate(zip(found, recorded, strict=True)):
            yield from _far(f"{place}/{number}", one, other)
    elif not _near(found, recorded):
        yield f"{place}: {found!r}, recorded {recorded!r}"


def _near(found: Any, recorded: Any) -> bool:
    try:
        return found == recorded or math.isclose(float.fromhex(found), float.fromhex(recorded), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    except (TypeError, ValueError):
        return False


def dumped(value: Any, indent: str = "") -> str:
    """JSON with sorted keys, in one line what fits there, so that a difference of two files is short."""
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if len(indent) + len(line) < WIDTH or not value or not isinstance(value, dict | list):
        return line
    deeper = indent + " "
    if isinstance(value, dict):
        items = [f"{json.dumps(key, ensure_ascii=False)}: {dumped(value[key], deeper)}" for key in sorted(value)]
    else:
        items = [dumped(item, deeper) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(deeper + item for item in items) + f"\n{indent}{closing}"
