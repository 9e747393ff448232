"""Creates, lists and steers studies and workers through the REST interface."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from service.cli.console import assignments, console, duration, number, saved, speed, table, time_left
from service.cli.files import faults_of, read_document, read_list, write_whole
from service.cli.watching import watch
from service.client import Client
from service.domain.pruning import SimulatedPruner
from service.domain.states import StudyState, TrialState
from service.rest_models import ExportFormat, ListedStudyView, StudyView, TrialView, WorkerView
from service.settings import Settings
from trainer.tasks.registry import spec_of


def create_study(settings: Settings, file: Path, and_watch: bool, replace: bool = False) -> None:
    """Post the study that the file describes. Raises FaultyFile with the server's sentences, or the parser's."""
    document = read_document(file)
    with Client(settings.server, settings.token) as client:
        with faults_of(file):
            study = client.create_study(document, replace=replace)
        console().print(f"Study {study.name} ({study.id}) is created: {settings.server}/studies/{study.id}")
        for line in _notices(study):
            console().print(line)
        if and_watch:
            watch(client, study)


def list_studies(settings: Settings) -> None:
    """A line for each study."""
    with Client(settings.server, settings.token) as client:
        rows = [(study.name, study.state, *_counted(study), _best(study), study.id) for study in client.studies()]
    console().print(table(("name", "state", "trials", "running", "best", "id"), rows))


def show_study(settings: Settings, name: str) -> None:
    """The study with its notices and the notes about its data, a line for each trial, then the time left and saved where known."""
    with Client(settings.server, settings.token) as client:
        study, trials = client.study(name), list(client.trials(name))
    out = console()
    out.print(f"{study.name} ({study.id}): {study.state}" + (f", {study.reason}" if study.reason else ""))
    if study.waiting:
        out.print(study.waiting)
    out.print(f"best: {_best(study)}" + (f"  {assignments(study.best.params)}" if study.best else ""))
    for line in (*_notices(study), *_notes(study)):
        out.print(line)
    out.print(table(("trial", "state", "epoch", study.metric, "parameters", "remark"), [_row(study, trial) for trial in trials]))
    for line in filter(None, (time_left(study), saved(study))):
        out.print(line)


def _notices(study: ListedStudyView) -> Iterator[str]:
    for notice in study.notices:
        yield f"notice: {notice.pointer}  {notice.message}"


def _notes(study: StudyView) -> Iterator[str]:
    """How the data was read, what was left out, what was assumed, and the score of the best constant prediction."""
    listing = study.facts.listing if study.facts is not None else None
    if listing is not None:
        yield from (f"note: {sentence}" for sentence in listing.notes)
        if listing.unused_columns:
            yield f"note: columns that are not used: {', '.join(listing.unused_columns)}"
        for one in listing.left_out:
            more = ", …" if one.count > len(one.examples) else ""
            named = f" ({', '.join(one.examples)}{more})" if one.examples else ""
            yield f"note: {one.count:,} {'file' if one.count == 1 else 'files'} left out: {one.reason}{named}"
    yield from (f"note: {sentence}" for sentence in study.notes)
    if study.majority is not None:
        yield f"note: {study.majority.sentence}"
        if study.majority.better is False:
            yield f"note: the best result so far is not better than this. {study.majority.advice}"


def _row(study: ListedStudyView, trial: TrialView) -> tuple[str, ...]:
    remark = trial.detail or trial.reason or speed(trial, spec_of(study.spec.task).example)
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


def extend_study(settings: Settings, name: str, trials: int | None, hours: float | None) -> None:
    """Add to the study's budget and print the new one."""
    with Client(settings.server, settings.token) as client:
        study = client.extend_study(name, trials, hours)
    budget = {"trials": study.budget.trials, "hours": study.budget.hours}
    bounds = " and ".join(f"{value:g} {what}" for what, value in budget.items() if value is not None)
    out = console()
    out.print(f"{study.name}: {study.state}, its budget is {bounds}; it has {study.created} trials")
    if study.state in (StudyState.FAILED, StudyState.STOPPED):
        out.print(f"run `thaw study resume {study.name}` to continue it")


def delete_study(settings: Settings, name: str) -> None:
    """Remove the study."""
    with Client(settings.server, settings.token) as client:
        client.delete_study(name)
    console().print(f"{name}: deleted")


def export_best(settings: Settings, name: str, form: ExportFormat, output: Path | None) -> None:
    """Write the recommended configuration, or what goes with it, to a file, whole or not at all, or to standard output."""
    with Client(settings.server, settings.token) as client:
        text = client.best(name, form)
    if output is None:
        console().out(text, end="", highlight=False)
    else:
        write_whole(output, text)


def _counted(study: ListedStudyView) -> tuple[str, str]:
    most = study.budget.trials
    return f"{study.created}" + (f"/{most}" if most else ""), str(study.counts.get(TrialState.RUNNING, 0))


def _best(study: ListedStudyView) -> str:
    return "-" if study.best is None else f"{study.metric} {number(study.best.value)} (trial {study.best.number})"


def show_pruning(settings: Settings, name: str) -> None:
    """The sentences, then a line for each pruner."""
    with Client(settings.server, settings.token) as client:
        found = client.pruning(name)
    out = console()
    for sentence in found.words:
        out.print(sentence, markup=False)
    if found.pruners:
        out.print(table(("pruner", "the winner", "its best", "pruned", "epochs"), map(_pruner_row, found.pruners)))


def _pruner_row(one: SimulatedPruner) -> tuple[str, ...]:
    best = "-" if one.winner is None else f"trial {one.winner}"
    return one.label + (" (the study's)" if one.own else ""), _fate(one), best, str(one.trials_pruned), _span(*one.epochs)


def _fate(one: SimulatedPruner) -> str:
    if one.likely is None:
        return "-"
    word = "kept" if one.likely else "pruned"
    return word if one.kept_winner is not None else f"perhaps {word}"


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def list_workers(settings: Settings) -> None:
    """A line for each worker."""
    with Client(settings.server, settings.token) as client:
        workers = client.workers()
    console().print(table(("worker", "state", "slots", "devices", "runs", "heartbeat"), [_worker_row(worker) for worker in workers]))
    for worker in workers:
        for remark in _remarks(worker):
            console().print(f"{worker.id}: {remark}")


def drain_worker(settings: Settings, worker: str) -> None:
    """Tell the worker to end its trials and go, and say what its state is now."""
    with Client(settings.server, settings.token) as client:
        drained = client.drain_worker(worker)
    console().print(f"{drained.id}: {drained.state}, {len(drained.running)} under way")


def _remarks(worker: WorkerView) -> Iterator[str]:
    for one in worker.unavailable:
        yield f"claims no trials of {one.study}, because it cannot read the {one.what}: {one.detail}"
    if worker.set_aside:
        yield f"the database did not accept {worker.set_aside} of its results; they are in THAW_HOME/spool, and its log has the reasons"


def _worker_row(worker: WorkerView) -> tuple[str, ...]:
    runs = " ".join(f"{one.study}:{one.number}" for one in worker.running)
    devices = " ".join(dict.fromkeys(worker.devices))
    return worker.id, worker.state, str(worker.slots), devices, runs or "-", f"{duration(worker.silent_seconds)} ago"
