"""A folder or table of labelled images, counted: enough to refuse a study that could not be split or batched."""

import csv
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from search_spaces import Fault
from service.domain.spec import StudySpec
from trainer.contract import IMAGE_SUFFIXES, DataConfig, split_sizes

Entry = TypeVar("Entry")

PLACE = ("data", "path")
LISTED = 5
LOOK_SECONDS = 20.0  # for all of it; a request waits for this, and `/` is a folder too
ENTRIES_A_LOOK_AT_THE_CLOCK = 500


def data_faults(spec: StudySpec) -> Iterator[Fault]:
    """What is wrong with the data, as far as names and counts tell."""
    try:
        counts = _count_table(Path(spec.data.path)) if spec.data.is_table else _count_folder(Path(spec.data.path))
    except _Unfit as error:
        yield Fault(PLACE, error.code, str(error))
        return
    except OSError:
        yield Fault(PLACE, "unreadable_data", "the server may not read this path; change its permissions")
        return
    faults = list(_count_faults(counts, spec.data))
    yield from faults or _batch_faults(spec, counts)


class _Unfit(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _count_folder(folder: Path) -> Counter[str]:
    if not folder.exists():
        raise _Unfit(
            "missing_data", "there is no such folder here; correct the path, or write data.location: workers if only the workers see it"
        )
    if not folder.is_dir():
        raise _Unfit("not_a_folder", "this is not a folder with a folder per class, nor a .csv file; correct the path")
    classes = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    found = _in_time((entry.name, file) for entry in classes for file in entry.rglob("*"))
    counts = Counter({entry.name: 0 for entry in classes})
    counts.update(name for name, file in found if _is_image(file))
    return counts


def _in_time(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries, as long as there is time. Raises _Unfit."""
    deadline = time.monotonic() + LOOK_SECONDS
    for number, entry in enumerate(entries):
        if number % ENTRIES_A_LOOK_AT_THE_CLOCK == 0 and time.monotonic() > deadline:
            raise _Unfit(
                "slow_data",
                f"this could not be looked through in {LOOK_SECONDS:g} seconds; correct the path, or write data.location: workers",
            )
        yield entry


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()


def _count_table(table: Path) -> Counter[str]:
    if not table.is_file():
        raise _Unfit(
            "missing_data", "there is no such file here; correct the path, or write data.location: workers if only the workers see it"
        )
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"path", "label"} <= set(rows.fieldnames or ()):
                raise _Unfit("missing_column", "the table needs a header with the columns path and label; add it")
            return Counter(str(row["label"]) for row in _in_time(rows))
    except (UnicodeDecodeError, csv.Error):
        raise _Unfit("unreadable_table", "this is not a CSV file in UTF-8; save it as one") from None


def _count_faults(counts: Counter[str], data: DataConfig) -> Iterator[Fault]:
    if not counts.total():
        yield Fault(PLACE, "empty_data", "no images were found; it needs a folder per class with .jpg, .png or similar files in it")
    elif len(counts) < 2:
        yield Fault(PLACE, "one_class", "only one class was found; a classifier needs two or more")
    elif short := sorted(name for name, count in counts.items() if min(_wanted(split_sizes(count, data), data)) < 1):
        names = ", ".join(short[:LISTED]) + (" and more" if len(short) > LISTED else "")
        yield Fault(PLACE, "class_too_small", f"too few images for the split in: {names}; add images, or drop the class")


def _wanted(sizes: tuple[int, int, int], data: DataConfig) -> tuple[int, ...]:
    return sizes if data.test > 0 else sizes[:2]


def _batch_faults(spec: StudySpec, counts: Counter[str]) -> Iterator[Fault]:
    training = sum(split_sizes(count, spec.data)[0] for count in counts.values())
    for place, size in spec.extremes("batch_size"):
        if size > training:
            yield Fault(place, "batch_above_data", f"a batch is larger than the {training} training images; lower it")
