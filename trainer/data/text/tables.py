"""Reads the columns of texts, targets, parts and groups from CSV, TSV, JSON lines and Parquet files. Imports no torch.

Values stay text: `NA`, `null`, `01`, `1.0` and `true` are the labels that the file shows. Messages contain no values.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from trainer.data.examples import Look, UnfitData, enumerated, shown
from trainer.data.tables import LONGEST_LINE, MOST_BYTES, SEPARATORS, TableHeader, folded, in_yaml, opened, place_of
from trainer.files import UnfitFile, bounded_lines, open_regular
from trainer.tasks.text.data import TextData

TABLES: Mapping[str, Sequence[str]] = {".csv": SEPARATORS, ".tsv": ("\t",)}  # separators by suffix
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"
FORMATS = f"{', '.join([*TABLES, *JSON_LINES])} and {PARQUET}"
MOST_ROWS = 10_000_000
MOST_CHARACTERS = 2**30  # of the rows of one file
LOOKED_AHEAD = 100  # JSON lines whose keys are the columns
BATCH = 256  # rows of a Parquet file that are decoded at a time
BLOCK = 2**16  # bytes
SURROGATE = re.compile("[\ud800-\udfff]")
USUAL = {
    "text": (
        "text", "sentence", "sentence1", "text_a", "content", "review", "comment", "message", "body", "document", "question", "question1",
        "premise", "query", "utterance", "tweet", "title",
    ),
    "text_b": ("text_b", "sentence2", "text2", "hypothesis", "question2", "answer", "passage", "response"),
    "target": ("label", "labels", "target", "category", "intent", "sentiment", "score", "rating", "y"),
}  # fmt: skip
"""Common names of these columns, used to suggest values of data.text, data.text_b and data.target."""
ENCODINGS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

Value = str | tuple[str, ...]
Values = Mapping[str, Value]
Record = tuple[int, Values | str]
"""Line (or row of a Parquet file) and values by role; or a fault as a clause. A missing value is empty; a list is a value of the target."""


@dataclass(frozen=True, slots=True, eq=False)
class TextTable:
    """An open file: its columns and its rows."""

    header: TableHeader
    records: Iterator[Record]


@contextmanager
def opened_table(data: TextData, path: Path, place: tuple[str, ...], look: Look) -> Iterator[TextTable]:
    """Open a file of the data, which the field at `place` names. Raises UnfitData, also while rows are read, and errors of the hooks."""
    look.permit(path)
    name, suffix = shown(path.name), path.suffix.lower()
    if suffix not in (*TABLES, *JSON_LINES, PARQUET):
        raise UnfitData("unknown_format", f"{name} is none of {FORMATS} by its suffix; save it in one of these formats", place=place)
    lines = _Lines()
    try:
        with open_regular(path, MOST_BYTES) as file:
            try:
                if suffix == PARQUET:
                    yield _parquet(data, name, file, look)
                elif suffix in JSON_LINES:
                    yield _json_lines(data, name, lines.of(file))
                else:
                    yield _table(data, name, lines, file, TABLES[suffix])
            except UnicodeDecodeError:
                raise _undecodable(name, file, place) from None
            except csv.Error as error:
                raise _unreadable(name, f"the row that begins in line {lines.row_end + 1} is no row of a table ({error})", place) from None
            except _Unusable as error:
                raise _unreadable(name, str(error), place) from None
    except (FileNotFoundError, NotADirectoryError):
        field = ".".join(place)
        unnamed = f"the file that {field} names does not exist on the server; correct {field}"
        raise UnfitData(
            "missing_data", f"there is no file {shown(str(path))} here; correct the path", place=place, unnamed=unnamed
        ) from None
    except UnfitFile as error:
        raise _unreadable(name, str(error.strerror), place) from None
    except OSError as error:
        text = f"{name} cannot be read: {error.strerror or type(error).__name__}; make it readable for the user that runs this"
        raise UnfitData("unreadable_data", text, place=place) from None


class _Unusable(Exception):
    """The file has no rows that can be read; the text is the reason."""


def _unreadable(name: str, reason: str, place: tuple[str, ...]) -> UnfitData:
    remedy = "correct it, or save it again as CSV, JSON lines or Parquet in UTF-8"
    return UnfitData("unreadable_table", f"{name} cannot be used: {reason}; {remedy}", place=place)


def _undecodable(name: str, file: IO[bytes], place: tuple[str, ...]) -> UnfitData:
    """The error for a file with bytes that its encoding does not allow, with their line."""
    encoding, line = _encoding(file), 1
    shape, errors = ("UTF-16", "surrogatepass") if encoding == "utf-16" else ("UTF-8", "surrogateescape")  # faults become surrogates
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(errors), translate=True)
    while block := file.read(BLOCK):
        text = decoder.decode(block)
        found = SURROGATE.search(text)
        line += text.count("\n", 0, found.start() if found else len(text))
        if found:
            break
    return UnfitData("not_unicode", f"{name} is not {shape} in line {line}; save it in UTF-8, since Latin-1 is not read", place=place)


def _encoding(file: IO[bytes]) -> str:
    """The encoding by the byte order mark; UTF-8 without one. Raises _Unusable for UTF-32."""
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    if head in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        raise _Unusable("it is UTF-32")
    return next((encoding for mark, encoding in ENCODINGS if head.startswith(mark)), "utf-8")


class _Lines:
    """The lines of a text file, with the number of those read so far."""

    def __init__(self) -> None:
        self.count = 0
        self.row_end = 0  # last line of the last whole row
        self._characters = 0

    def of(self, file: IO[bytes]) -> Iterator[str]:
        """The lines, with line ends. Raises UnfitFile for a line that is too long, UnicodeDecodeError, _Unusable."""
        text = io.TextIOWrapper(file, encoding=_encoding(file), newline="")
        try:
            for line in bounded_lines(text, LONGEST_LINE):
                self.count += 1
                self._characters += len(line)
                if self._characters > MOST_CHARACTERS:
                    raise _Unusable(f"it has more than {MOST_CHARACTERS:,} characters")
                yield line
        except UnfitFile as error:
            raise _Unusable(f"{error.strerror}: line {self.count + 1}") from None
        finally:
            if not file.closed:
                text.detach()  # the file stays open


def _table(data: TextData, name: str, lines: _Lines, file: IO[bytes], separators: Sequence[str]) -> TextTable:
    wanted = {column for column in (data.text, data.text_b, data.target) if column}
    separator, names, rows = opened(lines.of(file), wanted, separators)
    lines.row_end = lines.count
    header = TableHeader(names, _places(data, name, names), separator)

    def records() -> Iterator[Record]:
        for line, row in rows:
            if len(row) > len(names):
                yield line, "it has more fields than the first line"
            else:
                yield line, {role: row[place] if place < len(row) else "" for role, place in header.places.items()}
            lines.row_end = lines.count

    return TextTable(header, records())


def _json_lines(data: TextData, name: str, lines: Iterator[str]) -> TextTable:
    numbered = ((number, _object(line)) for number, line in enumerate(lines, 1) if line.strip())
    first = list(islice(numbered, LOOKED_AHEAD))
    names = tuple(dict.fromkeys(key for _, found in first if isinstance(found, dict) for key in found))
    if first and not names:
        raise _Unusable('its lines are no JSON objects such as {"text": "...", "label": "..."}')
    header = TableHeader(names, _places(data, name, names))
    keys = {role: names[place] for role, place in header.places.items()}
    return TextTable(header, ((line, _values(found, keys)) for line, found in chain(first, numbered)))


def _object(line: str) -> dict[str, Any] | str:
    """The JSON object in the line, with numbers as they are written; or the fault."""
    try:
        found = json.loads(line, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_unique)
    except _Unusable as error:
        return str(error)
    except (ValueError, RecursionError):
        return "it is not JSON"
    return found if isinstance(found, dict) else "it is not a JSON object"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Unusable("it has a key twice")
    return found


def _values(found: dict[str, Any] | str, keys: Mapping[str, str]) -> Values | str:
    if isinstance(found, str):
        return found
    values = dict[str, Value]()
    for role, key in keys.items():
        value = _value(found.get(key))
        if value is None or (isinstance(value, tuple) and role != "target"):
            return f"the value of {role} is neither text nor a number"
        if SURROGATE.search(value if isinstance(value, str) else "".join(value)):
            return f"the value of {role} holds half of a surrogate pair"
        values[role] = value
    return values


def _value(value: object) -> Value | None:
    """The value as text; None for an object, or a list of other than scalars."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value)
        case float():
            return "" if value != value else repr(value)  # NaN stands for a missing value in Parquet files
        case list():
            parts = [_value(one) for one in value]
            return tuple(part for part in parts if isinstance(part, str)) if all(isinstance(part, str) and part for part in parts) else None
        case _:
            return None


def _parquet(data: TextData, name: str, file: IO[bytes], look: Look) -> TextTable:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        remedy = 'install it on the server and the workers: pip install "thawline[text]"'
        raise UnfitData("needs_pyarrow", f"{name} is a Parquet file, which needs the package pyarrow; {remedy}") from None
    try:
        found = parquet.ParquetFile(file)
        names = tuple(found.schema_arrow.names)
        if found.metadata.num_rows > MOST_ROWS:
            raise _Unusable(f"it has more than {MOST_ROWS:,} rows")
    except (pyarrow.ArrowException, ValueError, OSError):
        raise _Unusable("it is not a whole Parquet file") from None
    header = TableHeader(names, _places(data, name, names))
    keys = {role: names[place] for role, place in header.places.items()}

    def records() -> Iterator[Record]:
        line, characters = 0, 0
        try:
            for batch in found.iter_batches(BATCH, columns=[*dict.fromkeys(keys.values())], use_threads=False):
                look.tick()
                for row in batch.to_pylist():
                    line += 1
                    values = _values({key: _plain(value) for key, value in row.items()}, keys)
                    characters += sum(map(len, values.values())) if not isinstance(values, str) else 0
                    if characters > MOST_CHARACTERS:
                        raise _Unusable(f"it has more than {MOST_CHARACTERS:,} characters")
                    yield line, values
        except UnicodeDecodeError:
            raise _Unusable(f"a value behind row {line} is not UTF-8") from None
        except (pyarrow.ArrowException, OSError):
            raise _Unusable(f"the rows behind row {line} are damaged") from None

    return TextTable(header, records())


def _plain(value: object) -> object:
    """Decimals as text."""
    return str(value) if type(value).__name__ == "Decimal" else value


def _places(data: TextData, table: str, names: Sequence[str]) -> dict[str, int]:
    """The index of each column that is read, by role. Raises UnfitData for one that is missing."""
    wanted: dict[str, str | None] = {
        "text": data.text,
        "text_b": data.text_b,
        "target": data.target,
        "split": None if data.split == "drawn" else data.columns.split,
        "group": data.columns.group,
    }
    places, absent = dict[str, int](), list[str]()
    for role, column in wanted.items():
        if column is None:
            continue
        if (place := place_of(names, column, table)) is not None:
            places[role] = place
        elif role in ("text", "text_b", "target") or column != role:
            absent.append(role)
    if absent:
        raise _absent(table, names, {role: str(wanted[role]) for role in absent}, places)
    return places


def _absent(table: str, names: Sequence[str], absent: Mapping[str, str], places: Mapping[str, int]) -> UnfitData:
    """The error for missing columns. Its `unnamed` text quotes only names of columns that are similar to the wanted ones."""
    fault = " and ".join(f"no column {shown(column)}" for column in absent.values())
    columns = enumerated([name.strip() or "(no name)" for name in names]) or "none"
    near, taken = dict[str, str](), set(places.values())
    for role, column in absent.items():
        if (close := _nearest(role, column, names, taken)) is not None:
            near[role] = names[close].strip()
            taken.add(close)
    remedy = _remedy(near) or f"name one of its columns as {' and '.join(map(_field, absent))}"
    role = next(iter(absent))
    return UnfitData(
        "missing_column",
        f"{table} has {fault}; its columns are: {columns}; {remedy}",
        place=("data", role) if role not in ("split", "group") else ("data", "columns", role),
        unnamed=f"{table} has {fault}; {remedy}",
    )


def _nearest(role: str, wanted: str, names: Sequence[str], taken: set[int]) -> int | None:
    """The index of the column with a name that is similar to the wanted one, or common for the role."""
    left = {folded(name): place for place, name in enumerate(names) if place not in taken and name.strip()}
    close = get_close_matches(folded(wanted), left, n=1) or [usual for usual in USUAL.get(role, ()) if usual in left]
    return left[close[0]] if close else None


def _field(role: str) -> str:
    return f"data.columns.{role}" if role in ("split", "group") else f"data.{role}"


def _remedy(suggested: Mapping[str, str]) -> str:
    lines = ", ".join(f"{_field(role)}: {in_yaml(name)}" for role, name in suggested.items())
    return f"write, say, {lines}" if lines else ""
