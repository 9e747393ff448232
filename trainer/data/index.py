"""Which image files there are with which label: from a folder per class, or from a table."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from trainer.contract import IMAGE_SUFFIXES, DataConfig
from trainer.data.faults import BadData

COLUMNS = ("path", "label")


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image file and its label; `name` is how the user knows it, relative to the data's path."""

    file: Path
    name: str
    label: str


def scan(data: DataConfig) -> tuple[tuple[str, ...], tuple[Labelled, ...]]:
    """The classes, sorted, and every image. Raises BadData; looks at names, never into images."""
    path = Path(data.path)
    try:
        images = tuple(_table(path)) if data.is_table else tuple(_folder(path))
        classes = sorted({image.label for image in images} | (set() if data.is_table else {entry.name for entry in _class_folders(path)}))
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}") from None
    if foul := [name for name in classes if name != name.encode("utf-8", "replace").decode()]:
        raise BadData.listing("these class names are not UTF-8", foul)
    if not images:
        raise BadData(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if len(classes) < 2:
        raise BadData(f"{path} has one class only ({classes[0]}); a classifier needs two or more")
    return tuple(classes), images


def _folder(root: Path) -> Iterator[Labelled]:
    if not root.exists():
        raise BadData(f"there is no folder {root}")
    if not root.is_dir():
        raise BadData(f"{root} is neither a folder with a folder per class nor a .csv file")
    for entry in _class_folders(root):
        for folder, below, files in os.walk(entry):
            below[:] = sorted(name for name in below if not name.startswith("."))
            for file in sorted(Path(folder) / name for name in files if not name.startswith(".")):
                if file.suffix.lower() in IMAGE_SUFFIXES:
                    yield Labelled(file, file.relative_to(root).as_posix(), entry.name)


def _class_folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _table(table: Path) -> Iterator[Labelled]:
    if not table.is_file():
        raise BadData(f"there is no table {table}")
    faults = list[str]()
    for line, row in _rows(table):
        if fault := _row_fault(row):
            faults.append(f"line {line}: {fault}")
        else:
            name = str(row["path"]).strip()
            yield Labelled(table.parent / name, name, str(row["label"]).strip())
    if faults:
        raise BadData.listing(f"{table.name} has unfit rows", faults)


def _rows(table: Path) -> Iterator[tuple[int, dict[str | None, str | list[str] | None]]]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
                raise BadData(f"{table.name} has no column {' and no column '.join(missing)}; its first line must name path and label")
            for row in reader:
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadData(f"{table.name} cannot be read after line {reader.line_num}: {error}") from None


def _row_fault(row: dict[str | None, str | list[str] | None]) -> str | None:
    path, label = row["path"], row["label"]
    if None in row:
        return "it has more fields than the first line"
    if not isinstance(path, str) or not isinstance(label, str) or not path.strip() or not label.strip():
        return "path or label is missing"
    name = path.strip()
    if "\0" in name:
        return "the path holds a zero byte"
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        return f"{name} is absolute; paths are relative to the table"
    if os.path.normpath(name).split(os.sep)[0] == "..":
        return f"{name} leads out of the table's folder"
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        return f"{name} is no image by its name"
    return None
