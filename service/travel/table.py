"""A study's trials as a table: CSV as RFC 4180 has it, with a row a trial."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from service.travel.form import StudyLine, TrialLine, moment_text
from service.travel.reading import lines

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes the beginning of a text for, and runs
AFTER = ("step", "source", "confirms", "round", "reason", "queued_at", "started_at", "finished_at")
Cell = str | int | float | bool | None


def rows(file: BinaryIO) -> Iterator[str]:
    """The table of a study's file, a line at a time, its header first. Reads the file twice. Raises InvalidInput that names the line."""
    file.seek(0)
    params, metrics = dict[str, None](), set[str]()
    for _, line in lines(file):
        if isinstance(line, StudyLine):
            params = dict.fromkeys(line.spec.get("search_space", {}))
        elif isinstance(line, TrialLine):
            params |= dict.fromkeys(line.params)
            metrics |= line.metrics.keys()
    names, measured = list(params), sorted(metrics)
    yield _row(["number", "state", "value", *(f"params.{name}" for name in names), *(f"metrics.{name}" for name in measured), *AFTER])
    file.seek(0)
    for _, line in lines(file):
        if isinstance(line, TrialLine):
            yield _row(_cells(line, names, measured))


def _cells(trial: TrialLine, params: Iterable[str], metrics: Iterable[str]) -> Iterator[Cell]:
    yield from (trial.number, trial.state, trial.value)
    yield from (_shown(trial.params[name]) if name in trial.params else None for name in params)
    yield from (trial.metrics.get(name) for name in metrics)
    yield from (trial.step, trial.source, trial.confirms, trial.round, trial.reason)
    yield from (None if at is None else moment_text(at) for at in (trial.queued_at, trial.started_at, trial.finished_at))


def _shown(value: Cell) -> Cell:
    """The words of JSON for what is neither text nor number: an empty cell is a parameter that took no part."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case _:
            return value


def _row(cells: Iterable[Cell]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(_harmless(cell) for cell in cells)
    return text.getvalue()


def _harmless(cell: Cell) -> Cell:
    """A text that a spreadsheet would run gets an apostrophe before it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
