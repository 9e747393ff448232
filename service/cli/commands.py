"""Defines the commands and their options. The other modules of this package implement them."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from service.cli.processes import WorkerOptions
    from service.settings import Settings

app = typer.Typer(name="thaw", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
study = typer.Typer(help="Create, watch and control studies.", no_args_is_help=True)
workers = typer.Typer(help="List and drain workers.", no_args_is_help=True)
data = typer.Typer(help="Look at data sets.", no_args_is_help=True)
models = typer.Typer(help="Look at pretrained models.", no_args_is_help=True)
db = typer.Typer(help="Manage the database schema.", no_args_is_help=True)
app.add_typer(study, name="study")
app.add_typer(workers, name="workers")
app.add_typer(data, name="data")
app.add_typer(models, name="models")
app.add_typer(db, name="db")

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name or id of the study.", show_default=False)]
SlotsPerGpu = Annotated[
    str | None, typer.Option(metavar="N|auto", help="Trials to run at once on each GPU, or auto: by measured memory and speed; default: 1.")
]
Gpus = Annotated[
    str | None,
    typer.Option(help="GPUs to use, by index as in nvidia-smi or by UUID: 0,2. Without a usable one, wait; default: all, else the CPU."),
]
AllowScripts = Annotated[
    list[Path] | None,
    typer.Option(metavar="DIR", help="Run scripts of studies (task: script) in this folder and below, as this user. May be repeated."),
]
Parent = Annotated[int | None, typer.Option(hidden=True, help="Exit when the process with this id is no longer the parent.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, and exit with a code of docs/commands.md."""
    code: int | str | None
    if sys.stdout is None:  # closed; a file that is opened later must not get its descriptor
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (until the process exits)
    try:
        app(args=arguments)
        code = None
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        code = _explained(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or _explained(error)
    sys.exit(code)


def _explained(error: Exception) -> int:
    from service.cli.console import explain

    return explain(error)


@app.callback()
def thaw(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="Folder for database, caches and checkpoints [THAW_HOME, ~/.thaw].")] = None,
    database_url: Annotated[str | None, typer.Option(help="sqlite:///… or postgresql://… [THAW_DATABASE_URL].")] = None,
    server: Annotated[str | None, typer.Option(help="Address of the server [THAW_SERVER, http://127.0.0.1:8000].")] = None,
) -> None:
    """Hyperparameter search as a service for fine-tuning runs."""
    context.obj = {"home": home, "database_url": database_url, "server": server}


@app.command()
def serve(  # noqa: PLR0913  (the options of the command)
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to bind to. Addresses other than loopback require THAW_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to bind to; 0 picks a free port.")] = 8000,
    workers: Annotated[int | None, typer.Option(min=0, help="Local workers; default: 1 if torch is installed, else 0.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Slots of each local worker; see `thaw worker`.")] = None,
    slots_per_gpu: SlotsPerGpu = None,
    gpus: Gpus = None,
    webhook: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Send events to this URL, or to Slack: slack:URL; repeatable [THAW_WEBHOOKS]. See docs/monitoring.md."
        ),
    ] = None,
    parent: Parent = None,
) -> None:
    """Run the server with its dashboard, and local workers that use the same database."""
    from service.cli.processes import LocalOptions, run_server

    settings = _settings(context, webhooks=webhook)
    run_server(settings, host, port, LocalOptions(workers, _worker_options(slots, slots_per_gpu, gpus)), parent)


@app.command()
def dashboard(
    context: typer.Context,
    database: Annotated[str | None, typer.Option(help="sqlite:///… or postgresql://… [THAW_DATABASE_URL].")] = None,
    host: Annotated[str, typer.Option(help="Address to bind to. Addresses other than loopback require THAW_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to bind to; 0 picks a free port.")] = 8001,
) -> None:
    """Serve the dashboard read-only for an existing database."""
    from service.cli.processes import run_dashboard

    run_dashboard(_settings(context, database_url=database), host, port)


@app.command()
def worker(  # noqa: PLR0913  (the options of the command)
    context: typer.Context,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Trials to run at once; default: one per GPU, or without GPUs one per core, at most 4.")
    ] = None,
    slots_per_gpu: SlotsPerGpu = None,
    gpus: Gpus = None,
    cores: Annotated[int | None, typer.Option(min=1, help="CPU cores to divide among the slots; default: all.")] = None,
    allow_scripts: AllowScripts = None,
    gpu_workers: Annotated[int, typer.Option(hidden=True, min=1, help="Workers that use the same GPUs, with as many slots each.")] = 1,
    parent: Parent = None,
) -> None:
    """Run a worker that trains the trials of the database THAW_DATABASE_URL."""
    from service.cli.processes import run_worker

    run_worker(_settings(context, allow_scripts=allow_scripts), _worker_options(slots, slots_per_gpu, gpus, gpu_workers), cores, parent)


@app.command()
def doctor(context: typer.Context) -> None:
    """Check this machine: torch, driver, each device by a computation, disk, database. Exits with 1 if something is wrong."""
    from service.cli.doctor import examine

    examine(_settings(context))


@study.command()
def create(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Study file, in YAML or JSON.", show_default=False)],
    watch: Annotated[bool, typer.Option("--watch", help="Show the progress of the trials until the study has ended.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Rename an ended study with the same name to NAME~1.")] = False,
) -> None:
    """Create a study from a file."""
    from service.cli.studies import create_study

    create_study(_settings(context), file, watch, replace)


@study.command("list")
def list_(context: typer.Context) -> None:
    """List all studies."""
    from service.cli.studies import list_studies

    list_studies(_settings(context))


@study.command()
def show(context: typer.Context, name: StudyName) -> None:
    """Show a study and its trials."""
    from service.cli.studies import show_study

    show_study(_settings(context), name)


@study.command()
def schema(task: Annotated[str | None, typer.Option(help="Name of an installed task; default: image_classification.")] = None) -> None:
    """Print the JSON Schema of study files, for use in editors. Does not need a server."""
    import json

    from service.domain.study_schema import document_schema
    from trainer.configuration import FIRST_TASK

    typer.echo(json.dumps(document_schema(task or FIRST_TASK), indent=2))


@study.command()
def pruning(context: typer.Context, name: StudyName) -> None:
    """Report how many epochs pruning saved, and whether another pruner would have changed the winner."""
    from service.cli.studies import show_pruning

    show_pruning(_settings(context), name)


@study.command()
def log(
    context: typer.Context,
    name: StudyName,
    number: Annotated[int, typer.Argument(min=0, help="Number of the trial.", show_default=False)],
    attempt: Annotated[int | None, typer.Option(min=1, help="Number of the attempt; default: the newest.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Keep printing new lines until the trial has ended.")] = False,
) -> None:
    """Print the log of a trial."""
    from service.cli.watching import show_log

    show_log(_settings(context), name, number, attempt, follow)


@study.command()
def queue(
    context: typer.Context,
    name: StudyName,
    file: Annotated[
        Path, typer.Argument(help="List of parameter sets in YAML or JSON, or one set per line in .jsonl.", show_default=False)
    ],
) -> None:
    """Queue trials with given parameters. Queues no trial if one of them is invalid."""
    from service.cli.studies import queue_trials

    queue_trials(_settings(context), name, file)


@study.command()
def pause(context: typer.Context, name: StudyName) -> None:
    """Pause a study: running trials continue, and no new ones start."""
    _command(context, name, "pause")


@study.command()
def resume(context: typer.Context, name: StudyName) -> None:
    """Resume a paused, failed or stopped study."""
    _command(context, name, "resume")


@study.command()
def extend(
    context: typer.Context,
    name: StudyName,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials to add to the budget.")] = None,
    hours: Annotated[float | None, typer.Option(help="Number of hours to add to the budget.")] = None,
) -> None:
    """Increase the budget of a study. A complete study continues."""
    from service.cli.studies import extend_study

    if trials is None and hours is None:
        raise typer.BadParameter("give --trials, --hours, or both")
    extend_study(_settings(context), name, trials, hours)


@study.command()
def objective(
    context: typer.Context, name: StudyName, metric: Annotated[str, typer.Argument(help="A metric that its trials recorded.")]
) -> None:
    """Rank the trials of a study that has ended by another metric, without training."""
    from service.cli.studies import rerank_study

    rerank_study(_settings(context), name, metric)


@study.command()
def stop(context: typer.Context, name: StudyName) -> None:
    """Stop a study and cancel its trials."""
    _command(context, name, "stop")


@study.command()
def delete(context: typer.Context, name: StudyName) -> None:
    """Delete a study and all its trials."""
    from service.cli.studies import delete_study

    delete_study(_settings(context), name)


@workers.command("list")
def list_workers_(context: typer.Context) -> None:
    """List all workers and the trials that they run."""
    from service.cli.studies import list_workers

    list_workers(_settings(context))


@workers.command()
def drain(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="WORKER", help="Id of the worker.", show_default=False)]
) -> None:
    """Drain a worker: it finishes its trials, claims no new ones, and exits."""
    from service.cli.studies import drain_worker

    drain_worker(_settings(context), name)


@models.command("inspect")
def inspect_folder(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with config.json, tokenizer.json and safetensors files.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe a text model in Hugging Face's format: type, stages, parameters, tokenizer. Exits with 2 if it cannot be trained."""
    from service.cli.models import inspect_model

    inspect_model(folder, as_json)


@app.command()
def best(
    context: typer.Context,
    name: StudyName,
    form: Annotated[
        Literal["yaml", "json", "python", "card", "requirements"],
        typer.Option("--format", help="Output format. python: a script, without Thawline for plain configurations; card: the model card."),
    ] = "yaml",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: standard output.")] = None,
) -> None:
    """Export the recommended configuration for `thaw train`: the confirmed one, or else the best so far."""
    from service.cli.studies import export_best

    export_best(_settings(context), name, form, output)


@app.command()
def train(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="File that `thaw best` wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the model, the result and a copy of the configuration.")] = Path("trained"),
    allow_scripts: AllowScripts = None,
) -> None:
    """Train an exported configuration and compare the result with the metric of its trial."""
    from service.cli.training import train_exported

    train_exported(_settings(context, allow_scripts=allow_scripts), file, out)


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `thaw train` wrote.", show_default=False)],
    file: Annotated[
        Path, typer.Argument(help="Examples without targets: a table, or another file or folder that the task reads.", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    form: Annotated[
        Literal["csv", "jsonl"] | None, typer.Option("--format", help="Default: jsonl if --out ends with .jsonl, else csv.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Write only this many of the most probable labels, with their probabilities.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="KEY=VALUE", help="Field that differs from the study's section data, such as text=review."),
    ] = None,
) -> None:
    """Predict each row of a file, or each file of a folder, with a trained model. Rows that cannot be read get an error."""
    from service.cli.predicting import predict_file

    predict_file(folder, file, out, fields or [], form=form, top=top)


@app.command("convert")
def convert_trained(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `thaw train` wrote.", show_default=False)],
    to: Annotated[
        Literal["onnx", "int8"], typer.Option(help="onnx: model.onnx; int8: model.int8.onnx, quantized, with its loss of the metric.")
    ] = "onnx",
    fields: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="KEY=VALUE", help="int8: labelled examples, such as path=test.csv; default: those of the study."),
    ] = None,
) -> None:
    """Convert a trained model to ONNX, and check that it gives the same outputs. Needs the extra onnx."""
    from service.cli.predicting import convert_model

    convert_model(_settings(context), folder, to, fields or [])


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="File that `thaw best` wrote, from a study with `confirm`.", show_default=False)
    ],
    seed: Annotated[int | None, typer.Option(min=0, max=2**53, help="Random seed; default: a seed that the study did not use.")] = None,
    allow_scripts: AllowScripts = None,
) -> None:
    """Train again with a new seed. Exits with 1 if the test metric is outside the interval stated in the file."""
    from service.cli.training import verify_exported

    verify_exported(_settings(context, allow_scripts=allow_scripts), file, seed)


@app.command()
def demo(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the server; if it is in use, a free port is picked.")] = 8000,
    trials: Annotated[int, typer.Option(min=2, max=500, help="Number of trials.")] = 40,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the server and the worker running until Ctrl-C.")] = False,
) -> None:
    """Run a complete study on the handwritten digits dataset of scikit-learn."""
    from service.cli.demo import run_demo

    run_demo(_settings(context), port, trials, keep)


@data.command()
def inspect(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="Study file, in YAML or JSON.", show_default=False)] = None,
    task: Annotated[str | None, typer.Option(help="Name of an installed task; default: that of the file, or image_classification.")] = None,
    fields: Annotated[
        list[str] | None, typer.Option("--data", metavar="KEY=VALUE", help="Field of the section data, such as path=train.csv; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only what a server checks: no duplicates, and no lengths in tokens.")] = False,
) -> None:
    """Show what a study would read: examples, labels, lengths, split, duplicates. Exits with 2 if the data has faults. Needs no server."""
    from service.cli.data import inspect_data

    if file is None and not fields:
        raise typer.BadParameter("give a study file, or --data path=...")
    inspect_data(_settings(context), file, task, fields or [], as_json=as_json, quick=quick)


@db.command()
def upgrade(context: typer.Context) -> None:
    """Migrate the database to the schema of this version. Does nothing if it is up to date."""
    from service.cli.processes import upgrade_database

    upgrade_database(_settings(context))


@db.command()
def check(context: typer.Context) -> None:
    """Check that the database is reachable and has the schema of this version. Exits with 1 otherwise."""
    from service.cli.processes import check_database

    check_database(_settings(context))


def _command(context: typer.Context, name: str, action: Literal["pause", "resume", "stop"]) -> None:
    from service.cli.studies import command_study

    command_study(_settings(context), name, action)


def _worker_options(slots: int | None, slots_per_gpu: str | None, gpus: str | None, gpu_workers: int = 1) -> "WorkerOptions":
    from service.cli.processes import WorkerOptions

    if slots is not None and slots_per_gpu is not None:
        raise typer.BadParameter("give --slots or --slots-per-gpu, not both")
    return WorkerOptions(slots=slots, slots_per_gpu=_number_or_auto(slots_per_gpu), gpus=gpus, gpu_workers=gpu_workers)


def _number_or_auto(text: str | None) -> int | Literal["auto"] | None:
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1_000):
        raise typer.BadParameter("--slots-per-gpu is a whole number from 1 on, or auto")
    return int(text)


def _settings(context: typer.Context, **flags: object) -> "Settings":
    from service.settings import Settings

    given = {name: tuple(value) if isinstance(value, list) else value for name, value in flags.items() if value}
    return Settings.from_environment(**{**context.obj, **given})


@study.command()
def export(
    context: typer.Context,
    name: StudyName,
    form: Annotated[
        Literal["jsonl", "csv", "optuna"],
        typer.Option("--format", help="csv: a table of the trials; optuna: an SQLite database."),
    ] = "jsonl",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: standard output.")] = None,
) -> None:
    """Export a study as JSON lines, as CSV, or as an SQLite database of Optuna."""
    from service.cli.files import export_study

    export_study(_settings(context), name, form, output)


@study.command("import")
def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="JSON lines from `thaw study export`, or an SQLite database of Optuna.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Name of the new study; default: the name in the file.")] = None,
    like: Annotated[Path | None, typer.Option(help="Study file with the data, model and search space of an Optuna study.")] = None,
    theirs: Annotated[str | None, typer.Option("--study", help="Name of the Optuna study, if the database contains several.")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Import the study as paused; always the case for Optuna databases.")] = False,
) -> None:
    """Import a study from a file."""
    from service.cli.files import import_study

    import_study(_settings(context), file, name, like, theirs, paused)


@study.command()
def convert(
    file: Annotated[
        str, typer.Argument(help="W&B sweep, Ray Tune space or Katib experiment (YAML or JSON), or Optuna database.", show_default=False)
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Study file to write; default: standard output.")] = None,
    task: Annotated[str | None, typer.Option(help="Name of an installed task; default: image_classification.")] = None,
    theirs: Annotated[str | None, typer.Option("--study", help="Name of the Optuna study, if the database contains several.")] = None,
) -> None:
    """Convert the search of another tool to a study file, and name what has no equivalent. Does not need a server."""
    from service.cli.files import convert_study

    convert_study(file, output, task, theirs)
