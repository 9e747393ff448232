"""Commands by which studies travel: into files, out of files, and from and to Optuna's databases."""

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
    """Write the study to a file, whole or not at all; lines and tables also to standard output. Raises Failure."""
    if form == "optuna" and output is None:
        raise Failure("A database of Optuna's is a file: name it with -o FILE.")
    if form == "optuna" and output is not None and output.exists():
        raise Failure(f"{output} exists; name another file.")
    with _fetched(settings, name) as file:
        if form == "optuna" and output is not None:
            _to_optuna(file, output)
        else:
            _write(output, _lines(file) if form == "jsonl" else _table(file))


@contextlib.contextmanager
def _fetched(settings: Settings, name: str) -> Iterator[BinaryIO]:
    """The study's lines, all of them, in a file that is gone afterwards."""
    from service.study_io.format import is_whole

    with tempfile.TemporaryFile() as file, Client(settings.server, settings.token) as client:
        for piece in client.export(name):
            file.write(piece)
        if not is_whole(file):
            raise Failure("The study did not come whole; try again.")
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
    """The name is taken first, so that nothing is written over, and filled in one step."""
    from service.search.optuna_export import write_database
    from service.study_io.import_ import Header, checked

    file.seek(0)
    found = checked(file)
    header = next(found)
    assert isinstance(header, Header)  # noqa: S101  (what is checked begins with it)
    try:
        output.touch(exist_ok=False)
    except OSError as error:
        raise Failure(f"{output} cannot be made: {error.strerror}") from None
    partial = beside(output)
    try:
        left_out = write_database(partial, header, (line for line in found if not isinstance(line, Header)))
        partial.replace(output)
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    finally:
        partial.unlink(missing_ok=True)
    if left_out:
        console().print(f"{left_out} trials of the confirmation are left out: in Optuna they would look like the search's.")


def import_study(settings: Settings, source: str, name: str | None, like: Path | None, theirs: str | None, paused: bool) -> None:
    """Send a study from our file, or from a database of Optuna's. Raises FaultyFile with the faults, by line. Raises Failure."""
    file = Path(source.removeprefix("sqlite:///"))
    if "://" in str(source) and not source.startswith("sqlite:///"):
        raise Failure(
            "Only SQLite databases of Optuna's can be imported: sqlite:///FILE; copy the study into one with `optuna.copy_study`."
        )
    if _is_database(file):
        study = _from_optuna(settings, file, name, like, theirs)
    elif like is not None or theirs is not None:
        raise Failure("--like and --study go with a database of Optuna's; a file of ours says itself what it holds.")
    else:
        with Client(settings.server, settings.token) as client, _faults(file):
            study = client.import_study(file, name, paused=paused)
    trials = f"{study.created} trials" + (", paused: run `thaw study resume` to continue it" if study.state == "paused" else "")
    console().print(f"Study {study.name} ({study.id}) is imported, {study.state}, with {trials}: {settings.server}/studies/{study.id}")


def _is_database(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise FaultyFile(file, (("#", f"the file cannot be read: {error.strerror}"),)) from None


def _from_optuna(settings: Settings, file: Path, name: str | None, like: Path | None, theirs: str | None) -> StudyView:
    from service.domain.parsing import parse_study
    from service.search import optuna_import

    described = file if like is None else like
    with _faults(file):
        arrived = optuna_import.read_database(file, theirs)
    if like is None and not arrived.is_ours:
        raise Failure(f"{file} was not exported by Thawline: say with --like STUDY_FILE which data, model and space its trials are of.")
    with _faults_of_spec(described):
        spec = optuna_import.spec_in(arrived) if like is None else parse_study(read_document(like))
        if (most := spec.budget.max_trials) <= len(arrived.trials) and like is not None:
            spent = f"the imported trials count: there are {len(arrived.trials)}, and no room for more; raise this above {most}"
            raise FaultyFile(described, (("#/budget/trials", spent),))
        lines = optuna_import.documents(arrived, spec, optuna_import.facts_in(arrived) if like is None else None, time.time())
        with _sent(lines) as sent, Client(settings.server, settings.token) as client:
            return client.import_study(sent, name, paused=True)


@contextlib.contextmanager
def _sent(documents: Iterable[dict[str, Any]]) -> Iterator[Path]:
    """The documents as a study's file."""
    from service.study_io.export import StudyLines

    lines = StudyLines()
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        for number, document in enumerate(documents, 1):
            try:
                file.write(lines.line(document))
            except (ValueError, RecursionError):  # an attribute that JSON cannot represent
                fault = Fault((f"line {number}",), "not_finite", "an attribute holds NaN or Infinity, or is nested too deep; correct it")
                raise InvalidInput([fault]) from None
        file.write(lines.end())
        file.flush()
        yield Path(file.name)


@contextlib.contextmanager
def _faults(file: Path) -> Iterator[None]:
    """Faults found inside are the file's; those of a spec that was read from a study file are at their places there."""
    try:
        with faults_of(file):
            yield
    except InvalidInput as error:
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in error.faults)) from None


@contextlib.contextmanager
def _faults_of_spec(file: Path) -> Iterator[None]:
    """The same for what was sent with the file's spec in its first line: that is how the server has it."""
    try:
        with _faults(file):
            yield
    except FaultyFile as error:
        raise FaultyFile(file, tuple((pointer.replace(SPEC, "#", 1), message) for pointer, message in error.faults)) from None
