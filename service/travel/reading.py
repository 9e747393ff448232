"""A study's file read a line at a time: each is whole, of its form, and what the last line vouches for."""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from pydantic import ValidationError

from search_spaces import Fault, Faulty
from search_spaces.documents import MAX_INTEGER, from_json
from search_spaces.faults import Path
from service.domain.errors import InvalidInput
from service.domain.parsing import faults_of
from service.travel.form import SCHEMA_VERSION, EndLine, Line, ReportsLine, StudyLine, TrialLine
from trainer.tasks.registry import example_fields

MAX_LINE = 16 * 1024 * 1024
MAX_TEXT = 4_096  # characters; a path has no more
MAX_KEY = 256
MAX_ENTRIES = 65_536  # of a mapping
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
KINDS: dict[str, type[Line]] = {
    "thawline/study": StudyLine, "thawline/trial": TrialLine, "thawline/reports": ReportsLine, "thawline/end": EndLine,
}  # fmt: skip


def refuse(line: int, fault: Fault) -> NoReturn:
    """The file is faulty at that line, counted from 1. Raises InvalidInput."""
    raise InvalidInput([fault.below((f"line {line}",))])


def lines(file: BinaryIO) -> Iterator[tuple[int, Line]]:
    """Each line with its number, from 1. The last one is an EndLine that fits all before it, and nothing follows.

    Raises InvalidInput that names the line.
    """
    digest, trials, number = hashlib.sha256(), 0, 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        line = _line(number, raw)
        if (number == 1) is not isinstance(line, StudyLine):
            first = "the first line, and no other, is the study (kind thawline/study); restore the order"
            refuse(number, Fault(("kind",), "out_of_order", first))
        if isinstance(line, EndLine):
            _check_end(number, line, trials, digest.hexdigest())
            if file.readline(2):
                refuse(number + 1, Fault((), "after_the_end", "nothing follows the line thawline/end; cut the rest off"))
            yield number, line
            return
        digest.update(raw)
        trials += isinstance(line, TrialLine)
        yield number, line
    refuse(number + 1, Fault((), "cut_off", "the file ends before its last line (kind thawline/end): it was cut; export or copy it again"))


def _check_end(number: int, end: EndLine, trials: int, sha256: str) -> None:
    if (end.trials, end.lines) != (trials, number - 1):
        counted = f"this counts {end.trials} trials in {end.lines} lines, and there are {trials} in {number - 1}"
        refuse(number, Fault(("lines",), "lines_missing", f"{counted}; export or copy the file again"))
    if end.sha256 != sha256:
        changed = "the lines before are not those that were exported: the file was changed or damaged; export or copy it again"
        refuse(number, Fault(("sha256",), "changed", changed))


def _line(number: int, raw: bytes) -> Line:
    if len(raw) > MAX_LINE:
        refuse(number, Fault((), "line_too_long", f"a line has at most {MAX_LINE} bytes"))
    if not raw.endswith(b"\n"):
        refuse(number, Fault((), "cut_off", "the line has no end: the file was cut; export or copy it again"))
    try:
        document = from_json(raw.decode("utf-8"))
    except UnicodeDecodeError:
        refuse(number, Fault((), "not_utf8", "the line is not UTF-8 text; export or copy the file again"))
    except Faulty as error:
        raise InvalidInput(_without_lines(fault).below((f"line {number}",)) for fault in error.faults) from None
    return _formed(number, document)


def _without_lines(fault: Fault) -> Fault:
    """The parser counts lines within what it was given, which is one."""
    return Fault(fault.path, fault.code, fault.message.replace(" near line 1", ""))


def _formed(number: int, document: Any) -> Line:
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        known = f"a line of a study's file has a kind, one of {', '.join(KINDS)}; is this the file that `thaw study export` wrote?"
        refuse(number, Fault(("kind",), "unknown_kind", known))
    if number == 1 and document.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        newer = f"this version reads schema_version {SCHEMA_VERSION}; import the file with the Thawline that wrote it, or a later one"
        refuse(number, Fault(("schema_version",), "unknown_version", newer))
    if fault := next(_unstorable({name: part for name, part in document.items() if name not in ("reports", "metrics")}), None):
        refuse(number, fault)
    if fault := next(_large_integers(document), None):
        refuse(number, fault)
    try:
        return KINDS[kind].model_validate(document)
    except ValidationError as error:
        found = (fault for item in error.errors(include_url=False, include_input=False) for fault in faults_of(item))
        raise InvalidInput(fault.below((f"line {number}",)) for fault in found) from None


def _unstorable(value: Any, path: Path = ()) -> Iterator[Fault]:
    """What no database takes, or none like another: texts with NUL or half a surrogate, numbers that are none or too large."""
    match value:
        case str() if UNSTORABLE.search(value):
            yield Fault(path, "invalid_text", "NUL and surrogate characters are not accepted; remove them")
        case str() if len(value) > MAX_TEXT and path[-1] not in example_fields():  # bounded by the task's report
            yield Fault(path, "text_too_long", f"a text has at most {MAX_TEXT} characters; shorten it")
        case float() if not math.isfinite(value):
            yield Fault(path, "not_finite", "NaN and Infinity are not accepted here; write a finite number")
        case int() if abs(value) > MAX_INTEGER:
            yield Fault(path, "too_large", "whole numbers must lie between -2^53 and 2^53")
        case dict():
            yield from _unstorable_keys(value, path)
            for key, item in value.items():
                yield from _unstorable(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from _unstorable(item, (*path, index))


def _unstorable_keys(value: dict[str, Any], path: Path) -> Iterator[Fault]:
    if any(UNSTORABLE.search(key) for key in value):
        yield Fault(path, "invalid_name", "a key holds NUL or surrogate characters; remove them")
    if any(len(key) > MAX_KEY for key in value):
        yield Fault(path, "name_too_long", f"a key has at most {MAX_KEY} characters; shorten it")
    if len(value) > MAX_ENTRIES:
        yield Fault(path, "too_many_entries", f"at most {MAX_ENTRIES} entries are read here; drop some")


def _large_integers(document: dict[str, Any]) -> Iterator[Fault]:
    """Reported values that are whole numbers beyond what every reader takes for the same number. Looked at by the million."""
    line = document.get("reports") if isinstance(document.get("reports"), dict) else document
    metrics: Any = line.get("metrics") if isinstance(line, dict) else None
    columns = metrics.items() if isinstance(metrics, dict) else ()
    last: Any = document.get("metrics")
    values = [
        *((("metrics", name), column) for name, column in columns),
        (("metrics",), list(last.values()) if isinstance(last, dict) else []),
    ]
    for path, column in [*values, (("value",), [document.get("value")])]:
        if isinstance(column, list) and any(type(value) is int and abs(value) > MAX_INTEGER for value in column):
            yield Fault(path, "too_large", "whole numbers must lie between -2^53 and 2^53; write larger ones with an exponent, as 1e25")


def again(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """The documents of a file whose `lines` were sound, each with its line's bytes, the last one left out. Nothing is checked twice."""
    file.seek(0)
    for raw in file:
        document = json.loads(raw)
        if document["kind"] != "thawline/end":
            yield len(raw), document


def is_whole(file: BinaryIO) -> bool:
    """Whether the last line vouches for all before it; what they say is not looked at."""
    file.seek(0)
    digest, last = hashlib.sha256(), b""
    while raw := file.readline(MAX_LINE + 1):
        digest.update(last)
        last = raw
    try:
        return bool(json.loads(last)["sha256"] == digest.hexdigest())
    except (ValueError, KeyError, TypeError):
        return False
