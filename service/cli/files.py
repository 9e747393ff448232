"""Files of the user: reads them with a list of all errors, writes them atomically, and exports, imports and converts studies."""

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Literal

from search_spaces import Fault, Faulty
from search_spaces.documents import MAX_BYTES, from_file, from_json, text_of
from service.cli.console import Failure, FaultyFile, console, print_json
from service.client import Client, Refused, without_user
from service.domain.errors import InvalidInput
from service.rest_models import StudyView
from service.settings import Settings
from trainer.configuration import counted, resolve_paths


def write_whole(file: Path, text: str, *, mode: int = 0o666) -> None:
    """Write the file atomically, with fsync and the mode, less the umask. Raises Failure if that is not possible."""
    write_pieces(file, [text.encode()], mode=mode)


def write_pieces(file: Path, pieces: Iterable[bytes], *, mode: int = 0o666) -> None:
    """As `write_whole`, in pieces. An error of the iterator leaves the file as it was."""
    if file.exists() and not file.is_file():  # renaming a file to the name of a device or pipe would remove that
        raise Failure(f"{file} cannot be written: it is not a regular file")
    partial = beside(file)
    try:
        with open(partial, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as opened:
            opened.writelines(pieces)
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(file)
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def beside(file: Path) -> Path:
    """An unpredictable path for the temporary file. Open it in mode `x`, so that an existing symbolic link is not followed."""
    return file.with_name(f".{file.name[:200]}.{secrets.token_hex(8)}.tmp")


def read_document(file: Path) -> Any:
    """Parse the file and make the relative paths in it absolute; they are relative to the file. Raises FaultyFile."""
    return resolve_paths(read_value(file), file.absolute().parent)


def read_list(file: Path) -> list[Any]:
    """Parse a YAML or JSON list, or a .jsonl file. Raises FaultyFile."""
    if file.suffix.lower() == ".jsonl":
        return _json_lines(file)
    value = read_value(file)
    if not isinstance(value, list):
        raise FaultyFile(file, (("#", "expected a list of parameter sets; begin each with a dash"),))
    return value


def _json_lines(file: Path) -> list[Any]:
    values: list[Any] = []
    for place, line in enumerate(read_text(file, MAX_BYTES).splitlines(), 1):
        try:
            values += [from_json(line)] if line.strip() else []
        except Faulty as error:
            raise FaultyFile(file, tuple((f"line {place}", fault.message) for fault in error.faults)) from None
    return values


def read_value(file: Path) -> Any:
    """Parse the file: as JSON if its suffix is .json, otherwise as YAML. Raises FaultyFile."""
    with faults_of(file):
        return from_file(file)


def read_text(file: Path, limit: int) -> str:
    """Read UTF-8 text of at most `limit` bytes. Raises FaultyFile."""
    with faults_of(file):
        return text_of(file, limit)


@contextlib.contextmanager
def faults_of(file: Path) -> Iterator[None]:
    """Convert Faulty, InvalidInput, and Refused with faults, from the parser and the server, to FaultyFile."""
    try:
        yield
    except (Faulty, InvalidInput, Refused) as error:
        if not error.faults:
            raise
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in error.faults)) from None


SQLITE = b"SQLite format 3\0"
SPEC = "#/line 1/spec"
Form = Literal["jsonl", "csv", "optuna", "tensorboard", "wandb"]
TO_STANDARD_OUTPUT = ("jsonl", "csv")
FOLDERS = ("tensorboard", "wandb")  # each with the library of that name


def export_study(settings: Settings, name: str, form: Form, output: Path | None) -> None:
    """Write the study atomically to a file or folder, or as JSON lines or CSV to standard output. Raises Failure."""
    what, place = ("An Optuna database", "file") if form == "optuna" else ("A folder", "folder")
    if form not in TO_STANDARD_OUTPUT and output is None:
        raise Failure(f"{what} cannot be written to standard output; name a {place} with -o {place.upper()}.")
    if form not in TO_STANDARD_OUTPUT and output is not None and output.exists():
        raise Failure(f"{output} exists already; choose another {place}.")
    if form in FOLDERS and find_spec(form) is None:
        raise Failure(f"--format {form} needs the package {form}: pip install 'thawline[{form}]'")
    with _downloaded(settings, name) as file:
        if output is None:
            with os.fdopen(os.dup(1), "wb") as out:
                out.writelines(_lines(file) if form == "jsonl" else _table(file))
        elif form in FOLDERS:
            _to_runs(file, form, output)
        elif form == "optuna":
            _to_optuna(file, output)
        else:
            write_pieces(output, _lines(file) if form == "jsonl" else _table(file))


@contextlib.contextmanager
def _downloaded(settings: Settings, name: str) -> Iterator[BinaryIO]:
    """Download the export of the study into a temporary file. Raises Failure if it is incomplete."""
    from service.study_io.format import is_whole

    with tempfile.TemporaryFile() as file, Client(settings.server, settings.token) as client:
        for piece in client.export(name):
            try:
                file.write(piece)
                file.flush()
            except OSError as error:
                raise Failure(f"{tempfile.gettempdir()} cannot be written: {error.strerror}") from None
        if not is_whole(file):
            raise Failure("The download of the study was incomplete; try again.")
        yield file


def _lines(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    yield from file


def _table(file: BinaryIO) -> Iterator[bytes]:
    from service.study_io.export import rows

    return (row.encode() for row in rows(file))


def _to_optuna(file: BinaryIO, output: Path) -> None:
    """Write an Optuna database. Does not overwrite a file. Raises Failure."""
    from service.search.optuna_export import write_database
    from service.study_io.import_ import Header, checked

    file.seek(0)
    items = checked(file)
    header = next(items)
    assert isinstance(header, Header)  # noqa: S101  (`checked` yields the header first)
    # Creates an empty file first, so that a file that another process creates meanwhile is not overwritten.
    try:
        output.touch(exist_ok=False)
    except OSError as error:
        raise Failure(f"{output} cannot be created: {error.strerror}") from None
    partial = beside(output)
    try:
        left_out = write_database(partial, header, (item for item in items if not isinstance(item, Header)))
        partial.replace(output)
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    finally:
        partial.unlink(missing_ok=True)
    if left_out:
        trials = counted(left_out, "trial of the confirmation was", "trials of the confirmation were")
        console().print(f"{trials} left out: Optuna would not distinguish them from trials of the search.")


def _to_runs(file: BinaryIO, form: Form, output: Path) -> None:
    """Write a folder of runs, under another name until it is complete. Raises Failure."""
    from service.outputs.runs import trials_in

    writer = import_module(f"service.outputs.{form}_runs")
    partial = beside(output)
    try:
        partial.mkdir()
        writer.write_runs(partial, trials_in(file))
        partial.rename(output)
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def import_study(  # noqa: PLR0913
    settings: Settings, source: str, name: str | None, like: Path | None, theirs: str | None, *, paused: bool, as_json: bool
) -> None:
    """Import a study from an export file or from an Optuna database. Raises FaultyFile with the errors by line, and Failure."""
    file = _local(source)
    if _is_database(file):
        study = _from_optuna(settings, file, name, like, theirs)
    elif like is not None or theirs is not None:
        raise Failure("--like and --study apply only to Optuna databases, and this file is not an SQLite database.")
    else:
        with Client(settings.server, settings.token) as client, faults_of(file):
            study = client.import_study(file, name, paused=paused)
    if as_json:
        print_json(study)
        return
    trials = counted(study.created, "trial") + (", paused: run `thaw study resume` to continue it" if study.state == "paused" else "")
    link = f"{without_user(settings.server)}/studies/{study.id}"
    console().print(f"Study {study.name} ({study.id}) was imported, {study.state}, with {trials}: {link}")


def convert_study(source: str, output: Path | None, task: str | None, theirs: str | None, *, as_json: bool) -> None:
    """Convert the search of another tool to a study file. Raises FaultyFile, InvalidInput, Failure.

    Prints on standard error what changed, what has no equivalent, and the places to complete.
    """
    from service.domain.fault_messages import unknown_task
    from service.study_io.conversion import convert, limited
    from service.study_io.other_tools import read
    from trainer.configuration import FIRST_TASK
    from trainer.tasks.registry import specs

    if (task := task or FIRST_TASK) not in specs():
        raise InvalidInput([unknown_task(("task",))])
    file = _local(source)
    if output is not None and output.exists() and file.exists() and output.samefile(file):
        raise Failure(f"{output} is the file to convert; choose another one for the study.")
    with faults_of(file):
        if _is_database(file):
            from service.search import optuna_import

            found = optuna_import.search_of(optuna_import.read_database(file, theirs))
        elif theirs is not None:
            raise Failure("--study applies only to Optuna databases, and this file is not an SQLite database.")
        else:
            found = read(read_value(file))
        converted = convert(found, task, file.stem)
    if output is not None:
        write_whole(output, converted.text)
    places = [".".join(map(str, place)) for place in converted.places]
    if as_json:
        print_json(
            {"study_file": converted.text, "to_complete": places, "without_equivalent": converted.lost, "changed": converted.changed}
        )
        return
    if output is None:
        sys.stdout.write(converted.text)
    for title, notes in (("without equivalent", converted.lost), ("changed", converted.changed)):
        sys.stderr.writelines(f"{title}: {line}\n" for line in limited(notes))
    if converted.places:
        sys.stderr.write(f"to complete: {', '.join(places)}\n")


def _local(source: str) -> Path:
    """The file that a path, or a URL of an SQLite database, names. Raises Failure for other URLs."""
    if "://" in source and not source.startswith("sqlite:///"):
        raise Failure("Only SQLite databases of Optuna can be read (sqlite:///FILE). Copy the study into one with `optuna.copy_study`.")
    return Path(source.removeprefix("sqlite:///"))


def _is_database(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise FaultyFile(file, (("#", f"the file cannot be read: {error.strerror}"),)) from None


def _from_optuna(settings: Settings, file: Path, name: str | None, like: Path | None, theirs: str | None) -> StudyView:
    from service.domain.parsing import parse_study
    from service.search import optuna_import

    spec_file = file if like is None else like
    with faults_of(file):
        imported = optuna_import.read_database(file, theirs)
    if like is None and not imported.is_ours:
        raise Failure(f"{file} was not exported by Thawline: give a study file with its data, model and search space (--like STUDY_FILE).")
    with _faults_of_spec(spec_file):
        spec = optuna_import.spec_in(imported) if like is None else parse_study(read_document(like))
        if (most := spec.budget.max_trials) <= len(imported.trials) and like is not None:
            count = len(imported.trials)
            trials = counted(count, "imported trial counts", "imported trials count")
            message = f"the {trials} towards the budget of {most}; raise it above {count}"
            raise FaultyFile(spec_file, (("#/budget/trials", message),))
        lines = optuna_import.documents(imported, spec, optuna_import.facts_in(imported) if like is None else None, time.time())
        with _as_file(lines) as lines_file, Client(settings.server, settings.token) as client:
            return client.import_study(lines_file, name, paused=True)


@contextlib.contextmanager
def _as_file(documents: Iterable[dict[str, Any]]) -> Iterator[Path]:
    """Write the documents to a temporary export file, and yield its path. Raises InvalidInput."""
    from service.study_io.export import StudyLines

    lines = StudyLines()
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        for number, document in enumerate(documents, 1):
            try:
                file.write(lines.line(document))
            except (ValueError, RecursionError):  # an attribute that JSON cannot represent
                message = "an attribute contains NaN or Infinity, or is nested too deeply; correct it"
                fault = Fault((f"line {number}",), "not_finite", message)
                raise InvalidInput([fault]) from None
        file.write(lines.end())
        file.flush()
        yield Path(file.name)


@contextlib.contextmanager
def _faults_of_spec(file: Path) -> Iterator[None]:
    """As `faults_of`, with pointers into the study file: the server received the spec in the first line of an export file."""
    try:
        with faults_of(file):
            yield
    except FaultyFile as error:
        raise FaultyFile(file, tuple((pointer.replace(SPEC, "#", 1), message) for pointer, message in error.faults)) from None
