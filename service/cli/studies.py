"""Commands on studies: each one call to the server, with its answer as a table."""

from pathlib import Path
from typing import Literal

from service.answers import Study, Trial
from service.cli.console import assignments, console, number, table
from service.cli.files import faults_of, read_document, read_list, write_whole
from service.cli.progress import saved, speed, time_left
from service.cli.watching import watch
from service.client import Client, Form
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
    """The study, a line for each trial, then the time left and what was saved where they are known."""
    with Client(settings.server, settings.token) as client:
        study, trials = client.study(name), list(client.trials(name))
    out = console()
    out.print(f"{study.name} ({study.id}): {study.state}" + (f", {study.reason}" if study.reason else ""))
    out.print(f"best: {_best(study)}" + (f"  {assignments(study.best.params)}" if study.best else ""))
    out.print(table(("trial", "state", "epoch", study.metric, "parameters", "remark"), map(_row, trials)))
    for line in filter(None, (time_left(study), saved(study))):
        out.print(line)


def _row(trial: Trial) -> tuple[str, ...]:
    remark = trial.detail or trial.reason or speed(trial)
    return str(trial.number), trial.state, str(trial.step), number(trial.value), assignments(trial.params), remark


def queue_trials(settings: Settings, name: str, file: Path) -> None:
    """Queue a trial for each of the file's parameters, all or none. Raises FaultyFile with the server's sentences, or the parser's."""
    trials = read_list(file)
    with Client(settings.server, settings.token) as client, faults_of(file):
        queued = client.queue_trials(name, trials)
    console().print(f"{name}: {len(queued)} queued, from trial {queued[0].number} to trial {queued[-1].number}")


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


def export_best(settings: Settings, name: str, form: Form, output: Path | None) -> None:
    """Write the recommended configuration, or what goes with it, to a file, whole or not at all, or to standard output."""
    with Client(settings.server, settings.token) as client:
        text = client.best(name, form)
    if output is None:
        console().out(text, end="", highlight=False)
    else:
        write_whole(output, text)


def _counted(study: Study) -> tuple[str, str]:
    most = study.spec["budget"].get("trials")
    return f"{study.created}" + (f"/{most}" if most else ""), str(study.counts.get("running", 0))


def _best(study: Study) -> str:
    return "-" if study.best is None else f"{study.metric} {number(study.best.value)} (trial {study.best.number})"
