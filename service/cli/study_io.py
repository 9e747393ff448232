"""`thaw study export` and `thaw study import`: files of Thawline, and databases of Optuna."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from search_spaces import Fault
from service.cli.console import console
from service.cli.failures import Failure, FaultyFile
from service.cli.files import beside, faults_of, read_document
from service.client import Client
from service.domain.errors import InvalidInput
from service.rest_models import StudyView
from service.settings import Settings

SQLITE = b"SQLite format 3\0"
SPEC = "#/line 1/spec"
Form = Literal["jsonl", "csv", "optuna"]


def export_study(settings: Settings, name: str, form: Form, output: Path | None) -> None:
    """Write the study atomically to a file, or as JSON lines or CSV to standard output. Raises Failure."""
    if form == "optuna" and output is None:
        raise Failure("An Optuna database cannot be written to standard output; name a file with -o FILE.")
    if form == "optuna" and output is not None and output.exists():
        raise Failure(f"{output} exists already; choose another file.")
    with _downloaded(settings, name) as file:
        if form == "optuna" and output is not None:
            _to_optuna(file, output)
        else:
            _write(output, _lines(file) if form == "jsonl" else _table(file))


@contextlib.contextmanager
def _downloaded(settings: Settings, name: str) -> Iterator[BinaryIO]:
    """Download the export of the study into a temporary file. Raises Failure if it is incomplete."""
    from service.study_io.format import is_whole

    with tempfile.TemporaryFile() as file, Client(settings.server, settings.token) as client:
        for piece in client.export(name):
            file.write(piece)
        if not is_whole(file):
            raise Failure("The download of the study was incomplete; try again.")
        yield file


def _lines(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    yield from file


def _table(file: BinaryIO) -> Iterator[bytes]:
    from service.study_io.export import rows

    return (row.encode() for row in rows(file))


def _write(output: Path | None, pieces: Iterable[bytes]) -> None:
    if output is None:
        with os.fdopen(os.dup(1), "wb") as out:
            out.writelines(pieces)
        return
    partial = beside(output)
    try:
        with partial.open("xb") as opened:
            opened.writelines(pieces)
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(output)
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


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
        console().print(f"{left_out} confirmation trials were left out: Optuna would not distinguish them from trials of the search.")


def import_study(settings: Settings, source: str, name: str | None, like: Path | None, theirs: str | None, paused: bool) -> None:
    """Import a study from an export file or from an Optuna database. Raises FaultyFile with the errors by line, and Failure."""
    file = Path(source.removeprefix("sqlite:///"))
    if "://" in str(source) and not source.startswith("sqlite:///"):
        raise Failure("Only SQLite databases of Optuna can be imported (sqlite:///FILE). Copy the study into one with `optuna.copy_study`.")
    if _is_database(file):
        study = _from_optuna(settings, file, name, like, theirs)
    elif like is not None or theirs is not None:
        raise Failure("--like and --study apply only to Optuna databases, and this file is not an SQLite database.")
    else:
        with Client(settings.server, settings.token) as client, _faults(file):
            study = client.import_study(file, name, paused=paused)
    trials = f"{study.created} trials" + (", paused: run `thaw study resume` to continue it" if study.state == "paused" else "")
    console().print(f"Study {study.name} ({study.id}) was imported, {study.state}, with {trials}: {settings.server}/studies/{study.id}")


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
    with _faults(file):
        imported = optuna_import.read_database(file, theirs)
    if like is None and not imported.is_ours:
        raise Failure(f"{file} was not exported by Thawline: give a study file with its data, model and search space (--like STUDY_FILE).")
    with _faults_of_spec(spec_file):
        spec = optuna_import.spec_in(imported) if like is None else parse_study(read_document(like))
        if (most := spec.budget.max_trials) <= len(imported.trials) and like is not None:
            count = len(imported.trials)
            message = f"the {count} imported trials count towards the budget of {most}; raise it above {count}"
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
def _faults(file: Path) -> Iterator[None]:
    """Convert InvalidInput, and what `faults_of` converts, to FaultyFile."""
    try:
        with faults_of(file):
            yield
    except InvalidInput as error:
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in error.faults)) from None


@contextlib.contextmanager
def _faults_of_spec(file: Path) -> Iterator[None]:
    """As `_faults`, with pointers into the study file: the server received the spec in the first line of an export file."""
    try:
        with _faults(file):
            yield
    except FaultyFile as error:
        raise FaultyFile(file, tuple((pointer.replace(SPEC, "#", 1), message) for pointer, message in error.faults)) from None
