"""Commands for studies and workers, which call the REST interface."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import typer

from service.cli.console import assignments, console, duration, number, print_json, saved, table, time_left
from service.cli.files import faults_of, read_document, read_list, write_whole
from service.cli.watching import confirmed, print_events, remark, watch
from service.client import Client
from service.domain.export import read_export
from service.domain.pruning import SimulatedPruner
from service.domain.states import StudyState, TrialState
from service.rest_models import (
    ConfirmationView,
    ExportFormat,
    ListedStudyView,
    QueuedView,
    StudiesPage,
    StudyView,
    TrialView,
    View,
    WorkersView,
    WorkerView,
)  # fmt: skip
from service.settings import Settings
from trainer.configuration import counted
from trainer.tasks.script.config import ScriptConfig, UnfitFiles, info_of

OF_SCRIPT = re.compile(r"""^[ \t]*"?task"?: "?script"?,?$""", re.MULTILINE)


def create_study(settings: Settings, file: Path, and_watch: bool, replace: bool = False, *, as_json: bool = False) -> None:
    """Create a study from the file. Raises FaultyFile with the errors of the parser or the server, Exit if the watched study fails."""
    document = read_document(file)
    with Client(settings.server, settings.token) as client:
        with faults_of(file):
            study = client.create_study(document, replace=replace)
        if not as_json:
            console().print(f"Study {study.name} ({study.id}) was created: {client.server}/studies/{study.id}")
            for line in _notices(study):
                console().print(line)
        elif not and_watch:
            print_json(study)
        if and_watch:
            _watch(client, study, as_json)


def watch_study(settings: Settings, name: str, *, as_json: bool) -> None:
    """Show the study until it has ended. Raises Exit if it fails."""
    with Client(settings.server, settings.token) as client:
        _watch(client, client.study(name), as_json)


def _watch(client: Client, study: StudyView, as_json: bool) -> None:
    last = print_events(client, study) if as_json else watch(client, study)
    if last.state is StudyState.FAILED:
        raise typer.Exit(1)


def list_studies(settings: Settings, *, as_json: bool) -> None:
    """Print a table with a row per study."""
    with Client(settings.server, settings.token) as client:
        studies = list(client.studies())
    if as_json:
        print_json(StudiesPage(studies=studies, next=None))
        return
    rows = [(study.name, study.state, *_counted(study), _best(study), study.id) for study in studies]
    console().print(table(("name", "state", "trials", "running", "best", "id"), rows))


class WholeStudy(View):
    """A study as `thaw study show --json` prints it: the bodies of three answers of the REST interface."""

    study: StudyView
    trials: list[TrialView]
    confirmation: ConfirmationView


def show_study(settings: Settings, name: str, *, as_json: bool) -> None:
    """Print the study, its notices, notes about its data, a table of its trials, the time left and saved, and the confirmed value."""
    with Client(settings.server, settings.token) as client:
        study, trials = client.study(name), list(client.trials(name))
        if as_json:
            print_json(WholeStudy(study=study, trials=trials, confirmation=client.confirmation(name)))
            return
        ends = list(confirmed(client, study))
    out = console()
    out.print(f"{study.name} ({study.id}): {study.state}" + (f", {study.reason}" if study.reason else ""))
    if study.waiting:
        out.print(study.waiting)
    out.print(f"best: {_best(study)}" + (f"  {assignments(study.best.params)}" if study.best else ""))
    for line in (*_notices(study), *_notes(study)):
        out.print(line)
    out.print(table(("trial", "state", "epoch", study.metric, "parameters", "remark"), [_row(study, trial) for trial in trials]))
    for line in filter(None, (time_left(study), saved(study), *ends)):
        out.print(line)


def _notices(study: ListedStudyView) -> Iterator[str]:
    for notice in study.notices:
        yield f"notice: {notice.pointer}  {notice.message}"


def _notes(study: StudyView) -> Iterator[str]:
    """Notes on how the data was read, on files left out, on assumptions, and on the score of the best constant prediction."""
    listing = study.facts.listing if study.facts is not None else None
    if listing is not None:
        yield from (f"note: {sentence}" for sentence in listing.notes)
        if listing.unused_columns:
            yield f"note: unused columns: {', '.join(listing.unused_columns)}"
        for group in listing.left_out:
            more = ", …" if group.count > len(group.examples) else ""
            examples = f" ({', '.join(group.examples)}{more})" if group.examples else ""
            yield f"note: {group.count:,} left out: {group.reason}{examples}"
    yield from (f"note: {sentence}" for sentence in study.notes)
    if study.majority is not None:
        yield f"note: {study.majority.sentence}"
        if study.majority.better is False:
            yield f"note: the best result so far is not better than this. {study.majority.advice}".rstrip()


def _row(study: ListedStudyView, trial: TrialView) -> tuple[str, ...]:
    last = remark(study, trial, detailed=True)
    return str(trial.number), trial.state, str(trial.step), number(trial.value), assignments(trial.params), last


def queue_trials(settings: Settings, name: str, file: Path, *, as_json: bool) -> None:
    """Queue a trial for each parameter set in the file, or none. Raises FaultyFile with the errors of the parser or the server."""
    trials = read_list(file)
    with Client(settings.server, settings.token) as client, faults_of(file):
        queued = client.queue_trials(name, trials)
    if as_json:
        print_json(QueuedView(trials=queued))
        return
    numbers = f"number {queued[0].number}" if len(queued) == 1 else f"numbers {queued[0].number} to {queued[-1].number}"
    console().print(f"{name}: {counted(len(queued), 'trial')} queued, {numbers}")


def command_study(settings: Settings, name: str, action: Literal["pause", "resume", "stop"], *, as_json: bool) -> None:
    """Pause, resume or stop the study, and print its new state."""
    with Client(settings.server, settings.token) as client:
        study = client.command(name, action)
    if as_json:
        print_json(study)
    else:
        console().print(f"{study.name}: {study.state}")


def extend_study(settings: Settings, name: str, trials: int | None, hours: float | None, *, as_json: bool) -> None:
    """Increase the study's budget and print it."""
    with Client(settings.server, settings.token) as client:
        study = client.extend_study(name, trials, hours)
    if as_json:
        print_json(study)
        return
    trial_bound = None if study.budget.trials is None else counted(study.budget.trials, "trial")
    hour_bound = None if study.budget.hours is None else f"{study.budget.hours:g} {'hour' if study.budget.hours == 1 else 'hours'}"
    bounds = " and ".join(filter(None, (trial_bound, hour_bound)))
    out = console()
    out.print(f"{study.name}: {study.state}, budget {bounds}, {counted(study.created, 'trial')} created")
    if study.state in (StudyState.FAILED, StudyState.STOPPED):
        out.print(f"run `thaw study resume {study.name}` to continue it")


def rerank_study(settings: Settings, name: str, metric: str, *, as_json: bool) -> None:
    """Rank the study's trials by another metric, and print the best one."""
    with Client(settings.server, settings.token) as client:
        study = client.rerank_study(name, metric)
    if as_json:
        print_json(study)
        return
    best = "no complete trial" if study.best is None else f"the best is trial {study.best.number}, {study.best.value:g}"
    console().print(f"{study.name}: ranked by {metric}; {best}")


def delete_study(settings: Settings, name: str, *, as_json: bool) -> None:
    """Delete the study and its trials."""
    with Client(settings.server, settings.token) as client:
        client.delete_study(name)
    if as_json:
        print_json({"deleted": name})
    else:
        console().print(f"{name}: deleted")


def export_best(settings: Settings, name: str, form: ExportFormat, output: Path | None) -> None:
    """Write the recommended configuration, its model card or its requirements to standard output, or atomically to a file.

    Warns on standard error if files of a script, where they are here, are not those of the study's trials any more.
    """
    with Client(settings.server, settings.token) as client:
        text = client.best(name, form)
    if form in ("yaml", "json") and (changed := _changed_files(text)):
        console(stderr=True).print(f"warning: {changed}, so that `thaw train` refuses the configuration; restore them", markup=False)
    if output is None:
        console().out(text, end="", highlight=False)
    else:
        write_whole(output, text)


def _changed_files(text: str) -> str | None:
    """How the files of an exported script differ from those of the study's trials; None also where they are not on this machine."""
    if not OF_SCRIPT.search(text):  # others may have manifests of many thousand lines
        return None
    exported = read_export(text)
    if not isinstance(exported.config, ScriptConfig) or not Path(exported.config.workdir).is_dir():
        return None
    try:
        changed = exported.facts.differences_from(info_of(exported.config))
    except (UnfitFiles, OSError) as error:
        return str(error)
    return f"{changed[0]} in {exported.config.workdir} are not those of the study's trials" if changed else None


def _counted(study: ListedStudyView) -> tuple[str, str]:
    most = study.budget.trials
    return f"{study.created}" + (f"/{most}" if most else ""), str(study.counts.get(TrialState.RUNNING, 0))


def _best(study: ListedStudyView) -> str:
    return "-" if study.best is None else f"{study.metric} {number(study.best.value)} (trial {study.best.number})"


def show_pruning(settings: Settings, name: str, *, as_json: bool) -> None:
    """Print the pruning report, then a table of simulated pruners."""
    with Client(settings.server, settings.token) as client:
        found = client.pruning(name)
    if as_json:
        print_json(found)
        return
    out = console()
    for sentence in found.words:
        out.print(sentence, markup=False)
    if found.pruners:
        out.print(table(("pruner", "winner", "best", "pruned", "epochs"), map(_pruner_row, found.pruners)))


def _pruner_row(pruner: SimulatedPruner) -> tuple[str, ...]:
    best = "-" if pruner.winner is None else f"trial {pruner.winner}"
    label = pruner.label + (" (of the study)" if pruner.own else "")
    return label, _winner_outcome(pruner), best, str(pruner.trials_pruned), _range(*pruner.epochs)


def _winner_outcome(pruner: SimulatedPruner) -> str:
    if pruner.likely is None:
        return "-"
    outcome = "kept" if pruner.likely else "pruned"
    return outcome if pruner.kept_winner is not None else f"perhaps {outcome}"


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def list_workers(settings: Settings, *, as_json: bool) -> None:
    """Print a table with a row per worker, then its problems."""
    with Client(settings.server, settings.token) as client:
        workers = client.workers()
    if as_json:
        print_json(WorkersView(workers=workers))
        return
    console().print(table(("worker", "state", "slots", "devices", "trials", "heartbeat"), [_worker_row(worker) for worker in workers]))
    for worker in workers:
        for problem in _problems(worker):
            console().print(f"{worker.id}: {problem}")


def drain_worker(settings: Settings, worker: str, *, as_json: bool) -> None:
    """Drain the worker and print its state."""
    with Client(settings.server, settings.token) as client:
        drained = client.drain_worker(worker)
    if as_json:
        print_json(drained)
        return
    console().print(f"{drained.id}: {drained.state}, {counted(len(drained.running), 'trial')} running")


def _problems(worker: WorkerView) -> Iterator[str]:
    for one in worker.unusable:
        yield f"cannot use {one.name}: {one.detail}. {one.remedy}."
    if worker.unusable and set(worker.devices) == {"cpu"}:
        yield "trains on the CPU, because it can use no GPU"
    for study in worker.unavailable:
        verb = "run" if study.what == "script" else "read"
        yield f"claims no trials of {study.study}, because it cannot {verb} the {study.what}: {study.detail}"
    if worker.set_aside:
        yield f"the database did not accept {worker.set_aside} of its results; they are in THAW_HOME/spool, and its log gives the reasons"


def _worker_row(worker: WorkerView) -> tuple[str, ...]:
    runs = " ".join(f"{trial.study}:{trial.number}" for trial in worker.running)
    slots = Counter(zip(worker.devices, worker.device_names or worker.devices, strict=False))
    shared = (f"{name} ({count} slots)" if count > 1 and device != "cpu" else name for (device, name), count in slots.items())
    devices = ", ".join(shared) or "-"
    return worker.id, worker.state, str(worker.slots), devices, runs or "-", f"{duration(worker.silent_seconds)} ago"
