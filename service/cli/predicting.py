"""`thaw predict` and `thaw convert`: use models that `thaw train` wrote."""

import csv
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from service.cli.console import Failure, FaultyFile, console, print_json, table
from service.cli.data import fields_of, merged
from service.cli.files import read_text, write_pieces
from service.cli.processes import require_torch
from service.cli.training import MAX_BYTES
from service.domain.errors import InvalidInput
from service.domain.export import Exported, read_export
from service.domain.fault_messages import faults_of
from service.domain.text import clean
from service.exports.card import gain, score, size
from service.settings import Settings
from trainer.configuration import DataConfig, TrainConfig, counted, resolve_paths
from trainer.data.examples import shown
from trainer.tasks.registry import spec_of

CONFIG, MODEL = "config.yaml", "model.safetensors"
PARTIAL = ".convert-"  # begins the names of hidden folders
JSON_LINES = (".jsonl", ".ndjson")
LISTED = 20  # rows with errors that are named
NOT_INHERITED = ("path", "validation_path", "test_path", "split", "root")  # fields of the study's data that do not apply to another file
Form = Literal["csv", "jsonl"]


def predict_file(folder: Path, file: Path, out: Path | None, fields: Sequence[str], *, form: Form | None, top: int | None) -> None:
    """Write a prediction for each row of the file, or for each file of a folder. Raises FaultyFile, InvalidInput, Failure."""
    if "path" in fields_of(fields):
        raise Failure("--data path is for thaw convert; give the file to predict as FILE.")
    exported = read_model(folder)
    data = data_of(exported.training, file, fields)
    if out is not None and out.exists() and file.exists() and out.samefile(file):
        raise Failure(f"{out} is the file to predict; choose another one for the predictions.")
    request = {"folder": str(folder.absolute()), "facts": exported.facts.model_dump(mode="json"), "data": data.model_dump(mode="json")}
    form = form or ("jsonl" if out is not None and out.suffix.lower() in JSON_LINES else "csv")
    written = _Table(file, form, exported.training, top)
    pieces = written.pieces(answers_of("trainer.prediction", request, file))
    encoded = (piece.encode(errors="backslashreplace") for piece in pieces)  # names of files need not be UTF-8
    if out is None:
        sys.stdout.buffer.writelines(clean(piece.decode()).encode() if sys.stdout.isatty() else piece for piece in encoded)
    else:
        write_pieces(out, encoded)
    _print_to_stderr(written.sentences())


def convert_model(settings: Settings, folder: Path, kind: Literal["onnx", "int8"], fields: Sequence[str], *, as_json: bool) -> None:
    """Write the model as ONNX or int8 into its folder, and print the report. Raises FaultyFile, Failure."""
    exported = read_model(folder)
    given = fields_of(fields)
    if given and kind == "onnx":
        raise Failure("--data is for --to int8, which measures the metric; leave it out.")
    if given and not isinstance(given.get("path"), str):
        raise Failure("--data needs the path of labelled examples: --data path=FILE.")
    file = Path(given["path"]) if given else Path(exported.training.data.path)
    request = {
        "folder": str(folder.absolute()),
        "facts": exported.facts.model_dump(mode="json"),
        "to": kind,
        "metric": exported.reached.objective.metric,
        "data": data_of(exported.training, file, fields).model_dump(mode="json") if given else None,
        "manifest": exported.manifest,
        "cache": str(settings.home / "cache"),
        "cache_bytes": settings.cache_bytes,
    }
    try:
        with _partial(folder) as partial:
            (answer,) = answers_of("trainer.conversion", {**request, "out": str(partial.absolute())}, file)
            (partial / answer["report"]["file"]).replace(folder / answer["report"]["file"])
    except OSError as error:
        raise Failure(f"{folder} cannot be written: {error.strerror}") from None
    if as_json:
        print_json(answer["report"])
    else:
        _print_report(folder, exported, answer["report"])


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """A hidden folder in the folder, which is removed at the end. Those of killed conversions are removed first. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Each conversion holds a shared lock. So the exclusive one is free only while no conversion runs, and then all are left over.
        with suppress(OSError):  # another conversion runs, or the file system has no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left_over in folder.glob(f"{PARTIAL}*"):
                shutil.rmtree(left_over)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        with tempfile.TemporaryDirectory(dir=folder, prefix=PARTIAL) as partial:
            yield Path(partial)
    finally:
        os.close(descriptor)


def _print_report(folder: Path, exported: Exported, report: Mapping[str, Any]) -> None:
    out, task = console(), spec_of(exported.config.task)
    out.print(f"{folder / report['file']}: {size(report['bytes'])}")
    largest, tolerance = report["largest_difference"], report["tolerance"]
    out.print(f"The outputs of the ONNX file differ from those of the model by at most {largest:.2g}; {tolerance:g} is tolerated.")
    if "metric" not in report:
        return
    metric = task.metrics[report["metric"]]
    files = (("float32", "before", "bytes_before", "milliseconds_before"), ("int8", "after", "bytes", "milliseconds"))
    rows = [(name, score(metric, report[value]), size(report[bytes_]), f"{report[time]:.3g}") for name, value, bytes_, time in files]
    out.print(table(("", report["metric"], "size", f"ms/{task.example}"), rows))
    interval = ""
    if report["interval"] is not None:
        low, high = (gain(metric, end) for end in report["interval"])
        interval = f"; its 95 % interval for new {task.example}s is {low} to {high}"
    out.print(
        f"Difference on {counted(report['examples'], task.example)}, {report['data']}: {gain(metric, report['difference'])}{interval}."
    )
    if report["changed"] is not None:
        none = f"; of new {task.example}s at most {100 * (1 - 0.05 ** (1 / report['examples'])):.2g} % would (95 %)"
        out.print(f"{report['changed']:,} of {counted(report['examples'], 'prediction')} differ{'' if report['changed'] else none}.")
    out.print(f"Times are those of {counted(report['threads'], 'thread')}.")
    if report["unused"]:
        out.print(f"{counted(report['unused']['count'], 'row')} cannot be used: {report['unused']['examples']}")


def read_model(folder: Path) -> Exported:
    """The configuration in a folder that `thaw train` wrote. Raises Failure, and FaultyFile for one that cannot be read."""
    require_torch()
    try:
        missing = [name for name in (CONFIG, MODEL) if not (folder / name).is_file()]
    except OSError as error:
        raise Failure(f"{folder} cannot be read: {error.strerror}") from None
    if missing:
        raise Failure(f"{folder} has no {' and no '.join(missing)}: name the folder that `thaw train CONFIG --out FOLDER` wrote.")
    try:
        return read_export(read_text(folder / CONFIG, MAX_BYTES))
    except InvalidInput as error:
        raise FaultyFile(folder / CONFIG, tuple((fault.pointer, fault.message) for fault in error.faults)) from None


def data_of(config: TrainConfig, file: Path, fields: Sequence[str]) -> DataConfig:
    """The study's section `data` for another file, with these `key=value` fields. Raises FaultyFile."""
    base = {name: value for name, value in config.data.model_dump(mode="json").items() if name not in NOT_INHERITED}
    resolved: Any = resolve_paths({"task": config.task, "data": fields_of(fields)}, Path.cwd())
    section = merged(base, resolved["data"]) | {"path": str(file.absolute())}
    model: type[DataConfig] = type(config.data)
    try:
        if not model.model_validate({"path": section["path"]}).is_table and "columns" not in fields_of(fields):
            section.pop("columns", None)  # of the study's table, which a folder does not have
        return model.model_validate(section)
    except ValidationError as error:
        faults = [fault.below(("data",)) for item in error.errors() for fault in faults_of(item)]
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in faults)) from None


def answers_of(module: str, request: Mapping[str, Any], file: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines that a module of the trainer answers. Raises FaultyFile for a fault, Failure if the process ends with an error."""
    command = [sys.executable, "-P", "-m", module]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        process_group=0,  # Ctrl-C reaches this process alone, which kills the other
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None  # noqa: S101  (both are pipes)
        try:
            with suppress(BrokenPipeError), process.stdin:  # a process that ended at once is reported below
                process.stdin.write(json.dumps(request))
            for line in process.stdout:
                answer: dict[str, Any] = json.loads(line)
                if "fault" in answer:
                    raise _refusal(file, answer["fault"], answer["field"])
                yield answer
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise Failure(f"{' '.join(command)} ended with {process.returncode}.")


def _refusal(file: Path, fault: str, field: Sequence[str]) -> FaultyFile | Failure:
    if not field:
        return Failure(fault)
    name = ".".join(field[1:])
    hint = f" (here as --data {name}=VALUE)" if name not in ("", "path") else ""
    return FaultyFile(file, (("", f"{fault}{hint}"),))


class _Table:
    """Formats the answers as CSV or JSON lines, and counts errors."""

    def __init__(self, file: Path, form: Form, config: TrainConfig, top: int | None) -> None:
        self._file, self._form, self._top = file, form, top
        self._separator = str(getattr(config.data, "label_separator", "|"))
        self._rows, self._errors, self._named = 0, 0, list[str]()
        self._left_out: Sequence[str] = ()

    def pieces(self, answers: Iterator[dict[str, Any]]) -> Iterator[str]:
        """The lines. Raises Failure for an input without rows."""
        names: list[str] = next(answers)["names"]
        if self._top is not None and not names:
            raise Failure("--top is for labels, and this model predicts numbers; leave it out.")
        for answer in answers:
            if "left_out" in answer:
                self._left_out = answer["left_out"]
                continue
            if self._form == "csv" and not self._rows:
                yield _line([*answer["place"], "prediction", *self._columns(names), "error"])
            self._rows += 1
            if answer["error"] is not None:
                self._errors += 1
                if len(self._named) < LISTED:
                    place = " ".join(f"{name} {shown(str(value))}" for name, value in answer["place"].items() if value != "")
                    self._named.append(f"{place}: {answer['error']}")
            yield self._json(names, answer) if self._form == "jsonl" else self._csv(names, answer)
        if not self._rows:
            raise Failure(f"{shown(str(self._file))} has nothing to predict. {' '.join(self._left_out)}".strip())

    def sentences(self) -> Iterator[str]:
        """How many rows were predicted, which have an error, and which files were left out."""
        yield f"{self._rows - self._errors:,} of {self._rows:,} were predicted."
        if self._errors:
            more = f"; and {self._errors - len(self._named)} more" if self._errors > len(self._named) else ""
            yield f"{self._errors:,} with an error: {'; '.join(self._named)}{more}"
        yield from self._left_out

    def _columns(self, names: Sequence[str]) -> list[str]:
        if self._top is None:
            return [f"probability_{name}" for name in names]
        return [f"{name}_{place}" for place in range(1, min(self._top, len(names)) + 1) for name in ("label", "probability")]

    def _best(self, names: Sequence[str], answer: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Names and probabilities, with --top those of the most probable labels; empty for a row with an error."""
        pairs = list(zip(names, answer["probabilities"] or (), strict=answer["probabilities"] is not None))
        return pairs if self._top is None else sorted(pairs, key=lambda pair: -pair[1])[: self._top]

    def _json(self, names: Sequence[str], answer: Mapping[str, Any]) -> str:
        shares = {"probabilities": dict(self._best(names, answer))} if names and answer["error"] is None else {}
        line = {**answer["place"], "prediction": answer["prediction"], **shares, "error": answer["error"]}
        return json.dumps(line, ensure_ascii=False) + "\n"

    def _csv(self, names: Sequence[str], answer: Mapping[str, Any]) -> str:
        found, best = answer["prediction"], self._best(names, answer)
        cells = [share for _, share in best] if self._top is None else [cell for pair in best for cell in pair]
        missing = len(self._columns(names)) - len(cells)
        prediction = self._separator.join(found) if isinstance(found, list) else found
        return _line([*answer["place"].values(), prediction, *cells, *[""] * missing, answer["error"]])


def _line(cells: Sequence[object]) -> str:
    """A line of CSV. Cells are written as they are; None is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _print_to_stderr(sentences: Iterator[str]) -> None:
    for sentence in sentences:
        sys.stderr.write(f"{clean(sentence)}\n")
