"""Defines the commands and their options. The other modules of this package implement them."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.arguments import AsJson, StudyName, WorkerId, settings_of
from service.cli.study_commands import study
from service.cli.trial_commands import trial

if TYPE_CHECKING:
    from service.cli.processes import WorkerOptions

app = typer.Typer(name="thaw", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
workers = typer.Typer(help="List and drain workers.", no_args_is_help=True)
data = typer.Typer(help="Look at data sets.", no_args_is_help=True)
models = typer.Typer(help="Look at pretrained models.", no_args_is_help=True)
db = typer.Typer(help="Manage the database schema.", no_args_is_help=True)
app.add_typer(study, name="study")
app.add_typer(trial, name="trial")
app.add_typer(workers, name="workers")
app.add_typer(data, name="data")
app.add_typer(models, name="models")
app.add_typer(db, name="db")

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
    mlflow_uri: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Write the trials as runs to this MLflow server [THAW_MLFLOW_URI]. Needs the extra mlflow."),
    ] = None,
    parent: Parent = None,
) -> None:
    """Run the server with its dashboard, and local workers that use the same database."""
    from service.cli.processes import LocalOptions, run_server

    settings = settings_of(context, webhooks=webhook, mlflow_uri=mlflow_uri)
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

    run_dashboard(settings_of(context, database_url=database), host, port)


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

    run_worker(settings_of(context, allow_scripts=allow_scripts), _worker_options(slots, slots_per_gpu, gpus, gpu_workers), cores, parent)


@app.command()
def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Check this machine: packages, driver, each device by a computation, disk, database, server. Exits with 1 if something is wrong."""
    from service.cli.doctor import examine

    examine(settings_of(context), as_json=as_json)


@workers.command("list")
def list_workers_(context: typer.Context, as_json: AsJson = False) -> None:
    """List all workers and the trials that they run."""
    from service.cli.studies import list_workers

    list_workers(settings_of(context), as_json=as_json)


@workers.command()
def drain(context: typer.Context, name: WorkerId, as_json: AsJson = False) -> None:
    """Drain a worker: it finishes its trials, claims no new ones, and exits."""
    from service.cli.studies import drain_worker

    drain_worker(settings_of(context), name, as_json=as_json)


@models.command("inspect")
def inspect_folder(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with config.json, tokenizer.json and safetensors files.", show_default=False)
    ],
    as_json: AsJson = False,
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

    export_best(settings_of(context), name, form, output)


@app.command()
def train(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="File that `thaw best` wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the model, the result and a copy of the configuration.")] = Path("trained"),
    allow_scripts: AllowScripts = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json, and the progress on standard error.")] = False,
) -> None:
    """Train an exported configuration and compare the result with the metric of its trial."""
    from service.cli.training import train_exported

    train_exported(settings_of(context, allow_scripts=allow_scripts), file, out, as_json=as_json)


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
    as_json: AsJson = False,
) -> None:
    """Convert a trained model to ONNX, and check that it gives the same outputs. Needs the extra onnx."""
    from service.cli.predicting import convert_model

    convert_model(settings_of(context), folder, to, fields or [], as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="File that `thaw best` wrote, from a study with `confirm`.", show_default=False)
    ],
    seed: Annotated[int | None, typer.Option(min=0, max=2**53, help="Random seed; default: a seed that the study did not use.")] = None,
    allow_scripts: AllowScripts = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, and the progress on standard error.")] = False,
) -> None:
    """Train again with a new seed. Exits with 1 if the test metric is outside the interval stated in the file."""
    from service.cli.training import verify_exported

    verify_exported(settings_of(context, allow_scripts=allow_scripts), file, seed, as_json=as_json)


@app.command()
def demo(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the server; if it is in use, a free port is picked.")] = 8000,
    trials: Annotated[int, typer.Option(min=2, max=500, help="Number of trials.")] = 40,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the server and the worker running until Ctrl-C.")] = False,
) -> None:
    """Run a complete study on the handwritten digits dataset of scikit-learn."""
    from service.cli.demo import run_demo

    run_demo(settings_of(context), port, trials, keep)


@data.command()
def inspect(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="Study file, in YAML or JSON.", show_default=False)] = None,
    task: Annotated[str | None, typer.Option(help="Name of an installed task; default: that of the file, or image_classification.")] = None,
    fields: Annotated[
        list[str] | None, typer.Option("--data", metavar="KEY=VALUE", help="Field of the section data, such as path=train.csv; repeatable.")
    ] = None,
    as_json: AsJson = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only what a server checks: no duplicates, and no lengths in tokens.")] = False,
) -> None:
    """Show what a study would read: examples, labels, lengths, split, duplicates. Exits with 2 if the data has faults. Needs no server."""
    from service.cli.data import inspect_data

    if file is None and not fields:
        raise typer.BadParameter("give a study file, or --data path=...")
    inspect_data(settings_of(context), file, task, fields or [], as_json=as_json, quick=quick)


@db.command()
def upgrade(context: typer.Context, as_json: AsJson = False) -> None:
    """Migrate the database to the schema of this version. Does nothing if it is up to date."""
    from service.cli.processes import upgrade_database

    upgrade_database(settings_of(context), as_json=as_json)


@db.command()
def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Check that the database is reachable and has the schema of this version. Exits with 1 otherwise."""
    from service.cli.processes import check_database

    check_database(settings_of(context), as_json=as_json)


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
