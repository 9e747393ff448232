"""Commands on studies: each one call to the server, with its answer as a table."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from search_spaces import Faulty
from search_spaces.documents import MAX_BYTES, MAX_YAML_BYTES, from_json, from_yaml, too_large
from service.cli.console import assignments, console, number, table
from service.cli.failures import Failure, FaultyFile
from service.cli.watching import watch
from service.client import Client, Refused, Study, Trial
from service.domain.parsing import resolve_paths
from service.settings import Settings


def create_study(settings: Settings, file: Path, and_watch: bool) -> None:
    """Post the study that the file describes. Raises FaultyFile with the server's sentences, or the parser's."""
    document = read_document(file)
    with Client(settings.server, settings.token) as client:
        with faults_of(file):
            study = client.create_study(document)
        console().print(f"Study {study.name} ({study.id}) is created: {settings.server}/studies/{study.id}")
        if and_watch:
            watch(client, study)


def list_studies(settings: Settings) -> None:
    """A line for each study."""
    with Client(settings.server, settings.token) as client:
        rows = [(study.name, study.state, *_counted(study), _best(study), study.id) for study in client.studies()]
    console().print(table(("name", "state", "trials", "running", "best", "id"), rows))


def show_study(settings: Settings, name: str) -> None:
    """The study, then a line for each trial."""
    with Client(settings.server, settings.token) as client:
        study, trials = client.study(name), list(client.trials(name))
    out = console()
    out.print(f"{study.name} ({study.id}): {study.state}" + (f", {study.reason}" if study.reason else ""))
    out.print(f"best: {_best(study)}" + (f"  {assignments(study.best.params)}" if study.best else ""))
    out.print(table(("trial", "state", "epoch", study.metric, "parameters", "remark"), map(_row, trials)))


def _row(trial: Trial) -> tuple[str, ...]:
    remark = trial.detail or trial.reason or ""
    return str(trial.number), trial.state, str(trial.step), number(trial.value), assignments(trial.params), remark


def command_study(settings: Settings, name: str, word: Literal["pause", "resume", "stop"]) -> None:
    """Pause, resume or stop, and say what the study's state is now."""
    with Client(settings.server, settings.token) as client:
        study = client.command(name, word)
    console().print(f"{study.name}: {study.state}")


def delete_study(settings: Settings, name: str) -> None:
    """Remove the study."""
    with Client(settings.server, settings.token) as client:
        client.delete_study(name)
    console().print(f"{name}: deleted")


def export_best(settings: Settings, name: str, form: Literal["yaml", "json"], output: Path | None) -> None:
    """Write the best configuration to a file, whole or not at all, or to standard output."""
    with Client(settings.server, settings.token) as client:
        text = client.best(name, form)
    if output is None:
        console().out(text, end="", highlight=False)
    else:
        write_whole(output, text)


def write_whole(file: Path, text: str) -> None:
    """Put the text into the file in one step. Raises Failure when the folder does not take it."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}") from None


def read_document(file: Path) -> Any:
    """The file's value, with the paths in it made absolute: they are relative to the file. Raises FaultyFile."""
    is_json = file.suffix.lower() == ".json"
    limit = MAX_BYTES if is_json else MAX_YAML_BYTES
    try:
        with file.open("rb") as opened:
            raw = opened.read(limit + 1)
        if len(raw) > limit:
            raise FaultyFile(file, (("#", too_large(limit).message),))
        text = raw.decode("utf-8")
    except OSError as error:
        raise FaultyFile(file, (("#", f"the file cannot be read: {error.strerror}"),)) from None
    except UnicodeDecodeError:
        raise FaultyFile(file, (("#", "the file is not UTF-8 text; save it as such"),)) from None
    with faults_of(file):
        document = from_json(text) if is_json else from_yaml(text)
    return resolve_paths(document, file.absolute().parent)


@contextlib.contextmanager
def faults_of(file: Path) -> Iterator[None]:
    """Faults found inside, by us or by the server, are the file's."""
    try:
        yield
    except Faulty as error:
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in error.faults)) from None
    except Refused as refusal:
        if not refusal.faults:
            raise
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in refusal.faults)) from None


def _counted(study: Study) -> tuple[str, str]:
    most = study.spec["budget"].get("trials")
    return f"{study.created}" + (f"/{most}" if most else ""), str(study.counts.get("running", 0))


def _best(study: Study) -> str:
    return "-" if study.best is None else f"{study.metric} {number(study.best.value)} (trial {study.best.number})"
