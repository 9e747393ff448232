"""Lists the images of a table: a CSV file with a header, and in each row a path, a label and optionally a part and a group."""

import csv
import io
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainer.configuration import ListingFacts, Part, counted
from trainer.data.examples import PART_NAMES, Example, InputRow, Look, UnfitData, enumerated, shown
from trainer.data.images.listing.folders import NO_HEIC_READER, Scan, reads_heic
from trainer.data.tables import LONGEST_LINE, MOST_BYTES, PART_VALUES, Rows, TableHeader, choices, in_yaml, opened, place_of
from trainer.data.targets import TargetReader
from trainer.files import UnfitFile, bounded_lines, open_regular
from trainer.tasks.images.config import HEIC_SUFFIXES, IMAGE_SUFFIXES, ImageData

USUAL = {
    "path": ("filename", "file", "filepath", "file_name", "file_path", "image", "image_path", "img", "name", "id"),
    "label": ("class", "target", "category", "labels", "class_name", "y"),
    "target": ("label", "labels", "value", "count", "score", "y"),
}  # common names of these columns, used to suggest a value of data.columns
SUFFIXES = IMAGE_SUFFIXES | HEIC_SUFFIXES
DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def read(data: ImageData, look: Look, target: TargetReader | None = None) -> Scan:
    """The images of a table. `target` reads their targets; without it they are labels.

    Raises UnfitData, OSError, and the errors of the hooks of `look`.
    """
    table = Path(data.path)
    look.permit(table)
    root = _root(data, table, look)
    if not table.exists():
        unnamed = "the table that data.path names does not exist on the server; correct data.path"
        raise UnfitData("missing_data", f"there is no table {shown(data.path)} here; correct the path", unnamed=unnamed)
    examples, faults, missing = list[Example](), list[str](), list[str]()
    try:
        with open_regular(table, MOST_BYTES) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            lines = bounded_lines(text, LONGEST_LINE)
            header, rows = _opened(data, table.name, lines)
            for line, row in rows:
                look.tick()
                found = _example(header, row, root, data, target)
                if isinstance(found, str):
                    faults.append(f"line {line}: {found}")
                elif found.file.suffix.lower() in HEIC_SUFFIXES and not reads_heic():
                    look.leave_out(NO_HEIC_READER, found.name)
                elif data.unreadable == "refuse" and (fault := _file_fault(found.file, look)) is not None:
                    missing.append(f"line {line}: {shown(found.name)}: {fault}")
                else:
                    examples.append(found)
    except (csv.Error, UnicodeDecodeError) as error:
        raise _unreadable(table, error) from None
    except UnfitFile as error:
        raise UnfitData("unreadable_table", f"{table.name} cannot be used as a table: {error.strerror}") from None
    if faults:
        raise UnfitData("unfit_rows", f"{table.name} has {counted(len(faults), 'unfit row')}: {enumerated(faults)}; correct them")
    if missing:
        raise _missing(table, data, missing, len(examples))
    return Scan(tuple(sorted({example.label for example in examples})), tuple(examples), _facts(header, examples))


def input_rows(data: ImageData, look: Look, reader: TargetReader | None, *, targets: bool) -> Iterator[InputRow]:
    """The rows of the table as files, with their targets if asked; rows that cannot be used have a fault. Raises UnfitData, OSError."""
    table = Path(data.path)
    look.permit(table)
    root = _root(data, table, look)
    try:
        with open_regular(table, MOST_BYTES) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            header, rows = _opened(data, table.name, bounded_lines(text, LONGEST_LINE), targets=targets, parts=False)
            for line, row in rows:
                look.tick()
                found = _example(header, row, root, data, reader if targets else None)
                if isinstance(found, str):
                    yield InputRow({"line": line, "path": ""}, fault=found)
                    continue
                place: dict[str, str | int] = {"line": line, "path": found.name}
                if found.file.suffix.lower() in HEIC_SUFFIXES and not reads_heic():
                    yield InputRow(place, fault=NO_HEIC_READER)
                else:
                    yield InputRow(place, found.file, found.label)
    except (csv.Error, UnicodeDecodeError) as error:
        raise _unreadable(table, error) from None
    except UnfitFile as error:
        raise UnfitData("unreadable_table", f"{table.name} cannot be used as a table: {error.strerror}") from None


def _root(data: ImageData, table: Path, look: Look) -> Path:
    if data.root is None:
        return table.parent
    look.permit(Path(data.root))
    if not Path(data.root).is_dir():
        unnamed = "the folder that data.root names does not exist on the server; correct data.root"
        raise UnfitData(
            "missing_data", f"there is no folder {shown(data.root)} here; correct data.root", place=("data", "root"), unnamed=unnamed
        )
    return Path(data.root)


def _unreadable(table: Path, error: Exception) -> UnfitData:
    return UnfitData("unreadable_table", f"{table.name} cannot be read as a table in UTF-8: {error}; save it as CSV in UTF-8")


def _opened(data: ImageData, name: str, lines: Iterator[str], *, targets: bool = True, parts: bool = True) -> tuple[TableHeader, Rows]:
    """The header with the columns that are read: the paths, and as asked those of targets, and of parts and groups."""
    roles = ["path", *([data.columns.role_of_target] if targets else ()), *(("split", "group") if parts else ())]
    separator, names, rows = opened(lines, {data.columns.path, data.columns.label})
    return _header(data, name, separator, names, roles), rows


def _header(data: ImageData, table: str, separator: str, names: tuple[str, ...], roles: Sequence[str]) -> TableHeader:
    places, absent = dict[str, int](), list[str]()
    target = data.columns.role_of_target
    for column in roles:
        wanted = data.columns.of(column)
        if wanted is None or (column == "split" and data.split == "drawn"):
            continue
        if (place := place_of(names, wanted, table)) is not None:
            places[column] = place
        elif wanted != column or column in ("path", target):
            absent.append(column)
    if absent:
        raise _absent(data, table, names, absent, places)
    return TableHeader(names, places, separator)


def _absent(data: ImageData, table: str, names: Sequence[str], absent: Sequence[str], places: Mapping[str, int]) -> UnfitData:
    target = data.columns.role_of_target
    wanted = " and ".join(f"no column {data.columns.of(column)}" for column in absent)
    if any(Path(name.strip()).suffix.lower() in IMAGE_SUFFIXES for name in names):
        return UnfitData(
            "missing_column", f"{table} has {wanted}: its first line is no header but an image; add a first line such as path,{target}"
        )
    written = {column: names[place].strip() for column, place in places.items() if column in ("path", target)}
    written |= choices(absent, names, set(places.values()), USUAL)
    columns = enumerated([name.strip() or "(no name)" for name in names]) or "none"
    line = ", ".join(f"{column}: {in_yaml(name)}" for column, name in written.items() if name != column)
    remedy = f"write, say, data.columns: {{{line}}}" if line else f"its first line must name path and {target}"
    place = ("data", "path") if {"path", target} & set(absent) else ("data", "columns")
    return UnfitData("missing_column", f"{table} has {wanted}; its columns are: {columns}; {remedy}", place=place)


def _example(header: TableHeader, row: Sequence[str], root: Path, data: ImageData, reader: TargetReader | None) -> Example | str:
    """The row as an example, or its fault as a sentence."""
    if len(row) > len(header.names):
        return "it has more fields than the first line"
    values = {column: row[place].strip() if place < len(row) else "" for column, place in header.places.items()}
    target = data.columns.role_of_target
    if blank := [column for column, value in values.items() if not value and (reader is None or column != target)]:
        return f"{' and '.join(blank)} {'is' if len(blank) == 1 else 'are'} missing"
    name = values["path"]
    if "\0" in name:
        return "the path holds a zero byte"
    if DRIVE.match(name) and os.sep == "/":
        return "the path begins with a drive letter of Windows"
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in SUFFIXES:
        return f"the path is no image by its suffix ({shown(suffix[:20]) or 'it has none'})"
    part: Part | None = None
    if "split" in values and (part := PART_NAMES.get(values["split"].casefold())) is None:
        return f"the split is none of {PART_VALUES}"
    label = values.get(target, "")
    if reader is not None:
        try:
            label = reader.parse(label, data)
        except ValueError as error:
            return f"the target {shown(label[:40])!r} {error}" if label else f"the target is empty, which {error}"
    return Example(root / name, name, label, part, values.get("group"))


def _file_fault(file: Path, look: Look) -> str | None:
    look.permit(file)
    try:
        mode = os.stat(file).st_mode
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or type(error).__name__
    return None if stat.S_ISREG(mode) else "it is not a regular file"


def _missing(table: Path, data: ImageData, missing: list[str], there: int) -> UnfitData:
    start = "the table's folder" if data.root is None else shown(data.root)
    slashes = "; write / in place of \\" if any("\\" in one for one in missing) and os.sep == "/" else ""
    files = counted(len(missing) + there, "file")
    return UnfitData(
        "missing_files",
        f"{len(missing)} of {files} that {table.name} names cannot be read: {enumerated(missing)}; relative paths "
        f"start from {start}: correct them, or name another folder as data.root{slashes}",
    )


def _facts(header: TableHeader, examples: Sequence[Example]) -> ListingFacts:
    return header.facts({example.part for example in examples}, {example.group for example in examples})
