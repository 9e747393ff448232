"""Writes a study as lines or as a CSV table."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from service.domain.records import MetricReport, Study, Trial
from service.domain.states import ValueKind
from service.study_io.format import SCHEMA_VERSION, StudyLine, TrialLine, Word, lines, moment_text

WORDS: Mapping[float, Word] = {math.nan: "nan", math.inf: "pos_inf", -math.inf: "neg_inf"}
ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))
LineDocument = dict[str, Any]


class StudyLines:
    """Encodes documents as lines, and computes the count and the checksum for the last line."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._lines = 0
        self._trials = 0

    def line(self, document: LineDocument) -> bytes:
        """The document as a line."""
        raw = ENCODER.encode(document).encode() + b"\n"
        self._digest.update(raw)
        self._lines += 1
        self._trials += document["kind"] == "thawline/trial"
        return raw

    def end(self) -> bytes:
        """The last line."""
        document = {"kind": "thawline/end", "trials": self._trials, "lines": self._lines, "sha256": self._digest.hexdigest()}
        return ENCODER.encode(document).encode() + b"\n"


def study_document(study: Study) -> LineDocument:
    """The first line."""
    return {
        "kind": "thawline/study",
        "schema_version": SCHEMA_VERSION,
        "id": study.id,
        "name": study.name,
        "state": study.state,
        "reason": study.reason,
        "spec": study.spec.model_dump(mode="json"),
        "facts": None if study.facts is None else study.facts.model_dump(mode="json"),
        "confirmation": None if study.confirmation is None else study.confirmation.model_dump(mode="json"),
        "created": study.created,
        "created_at": moment_text(study.created_at),
        "started_at": _moment(study.started_at),
        "finished_at": _moment(study.finished_at),
    }


def trial_document(trial: Trial, reports: Iterable[MetricReport]) -> LineDocument:
    """A trial's line, with its reports of the first `CHUNK_STEPS` steps."""
    return {
        "kind": "thawline/trial",
        "number": trial.number,
        "state": trial.state,
        "params": dict(trial.params),
        "value": trial.value if trial.value is not None else _word(trial.value_kind),
        "metrics": {name: worded(value) for name, value in trial.metrics.items()},
        "step": trial.step,
        "attempt": trial.attempt,
        "reason": trial.reason,
        "detail": trial.detail,
        "worker": trial.worker,
        "duplicate_of": trial.duplicate_of,
        "source": trial.source,
        "confirms": trial.confirms,
        "round": trial.round,
        "result": dict(trial.result),
        "queued_at": moment_text(trial.queued_at),
        "started_at": _moment(trial.started_at),
        "finished_at": _moment(trial.finished_at),
        "reports": _columns(reports),
    }


def reports_document(trial: Trial, reports: Iterable[MetricReport]) -> LineDocument:
    """A line with the trial's reports of up to `CHUNK_STEPS` later steps."""
    return {"kind": "thawline/reports", "number": trial.number, **_columns(reports)}


def _columns(reports: Iterable[MetricReport]) -> LineDocument:
    """Reports as columns by metric, with a value for each step; null if the step has none."""
    listed = list(reports)
    names = sorted({name for report in listed for name in report.metrics})
    return {
        "steps": [report.step for report in listed],
        "metrics": {name: [worded(report.metrics[name]) if name in report.metrics else None for report in listed] for name in names},
    }


def _word(kind: ValueKind) -> str | None:
    return None if kind in (ValueKind.FINITE, ValueKind.MISSING) else str(kind)


def worded(number: float) -> float | Word:
    """The number, or a word for a number that JSON cannot represent."""
    return number if math.isfinite(number) else WORDS.get(number, "nan")


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else moment_text(seconds)


FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet evaluates a text that begins with one of these
AFTER = ("step", "source", "confirms", "round", "reason", "queued_at", "started_at", "finished_at")
Cell = str | int | float | bool | None


def rows(file: BinaryIO) -> Iterator[str]:
    """The CSV lines of a study file, header first. Reads the file twice. Raises InvalidInput, which names the line."""
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
    """JSON's words for null and booleans. An empty cell means an inactive parameter."""
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
    """Put an apostrophe before a text that a spreadsheet would evaluate as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
