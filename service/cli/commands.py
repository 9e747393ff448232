"""The commands and their options; what they do is in the modules beside this one."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.failures import explain

if TYPE_CHECKING:
    from service.settings import Settings

app = typer.Typer(name="thaw", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
study = typer.Typer(help="Create, watch and steer studies.", no_args_is_help=True)
workers = typer.Typer(help="See workers, and let them go.", no_args_is_help=True)
db = typer.Typer(help="Care for the database.", no_args_is_help=True)
app.add_typer(study, name="study")
app.add_typer(workers, name="workers")
app.add_typer(db, name="db")

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name or id of the study.", show_default=False)]
Parent = Annotated[int | None, typer.Option(hidden=True, help="End when this process is not our parent any more.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exits with 0, 1 (failed), 2 (faulty input), 3 (no server) or 130 (Ctrl-C)."""
    try:
        app(args=arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(explain(error))


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
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to bind to; any but loopback needs THAW_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int | None, typer.Option(min=0, help="Local workers; by default one where torch is installed.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Trials at one time of each; see `thaw worker`.")] = None,
    parent: Parent = None,
) -> None:
    """Run the server with its dashboard, and local workers on the same database."""
    from service.cli.serving import run_server

    run_server(_settings(context), host, port, workers, slots, parent)


@app.command()
def dashboard(
    context: typer.Context,
    database: Annotated[str | None, typer.Option(help="sqlite:///… or postgresql://… [THAW_DATABASE_URL].")] = None,
    host: Annotated[str, typer.Option(help="Address to bind to; any but loopback needs THAW_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8001,
) -> None:
    """Show the pages on a database, and change nothing in it."""
    from service.cli.serving import run_dashboard

    run_dashboard(_settings(context, database), host, port)


@app.command()
def worker(
    context: typer.Context,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Trials at one time; by default one a GPU; on a CPU one a core, at most 4.")
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Processor cores to divide among the slots; by default all.")] = None,
    parent: Parent = None,
) -> None:
    """Run a worker against THAW_DATABASE_URL."""
    from service.cli.worker import run_worker

    run_worker(_settings(context), slots, cores, parent)


@study.command()
def create(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The study, in YAML or JSON.", show_default=False)],
    watch: Annotated[bool, typer.Option("--watch", help="Show the trials as they go, until the study has ended.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Reuse the name of an ended study, which is renamed to NAME~1.")] = False,
) -> None:
    """Post a study to the server."""
    from service.cli.studies import create_study

    create_study(_settings(context), file, watch, replace)


@study.command("list")
def list_(context: typer.Context) -> None:
    """Show all studies."""
    from service.cli.studies import list_studies

    list_studies(_settings(context))


@study.command()
def show(context: typer.Context, name: StudyName) -> None:
    """Show a study and its trials."""
    from service.cli.studies import show_study

    show_study(_settings(context), name)


@study.command()
def schema(task: Annotated[str | None, typer.Option(help="Name of an installed task; by default image_classification.")] = None) -> None:
    """Print the JSON Schema of study files, for editors. Needs no server."""
    import json

    from service.domain.study_schema import document_schema
    from trainer.configuration import FIRST_TASK

    typer.echo(json.dumps(document_schema(task or FIRST_TASK), indent=2))


@study.command()
def pruning(context: typer.Context, name: StudyName) -> None:
    """Look back on the pruning: what it saved, and whether another pruner would have changed the winner."""
    from service.cli.studies import show_pruning

    show_pruning(_settings(context), name)


@study.command()
def log(
    context: typer.Context,
    name: StudyName,
    number: Annotated[int, typer.Argument(min=0, help="Number of the trial.", show_default=False)],
    attempt: Annotated[int | None, typer.Option(min=1, help="By default the newest one.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the trial has ended.")] = False,
) -> None:
    """Show what a trial's trainer printed."""
    from service.cli.watching import show_log

    show_log(_settings(context), name, number, attempt, follow)


@study.command()
def queue(
    context: typer.Context,
    name: StudyName,
    file: Annotated[Path, typer.Argument(help="A list of parameters in YAML or JSON; .jsonl has a trial a line.", show_default=False)],
) -> None:
    """Queue trials with parameters of your own, all or none of them."""
    from service.cli.studies import queue_trials

    queue_trials(_settings(context), name, file)


@study.command()
def pause(context: typer.Context, name: StudyName) -> None:
    """Let running trials go on, and start none."""
    _command(context, name, "pause")


@study.command()
def resume(context: typer.Context, name: StudyName) -> None:
    """Resume a paused, failed or stopped study."""
    _command(context, name, "resume")


@study.command()
def extend(
    context: typer.Context,
    name: StudyName,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials to add.")] = None,
    hours: Annotated[float | None, typer.Option(help="Number of hours to add.")] = None,
) -> None:
    """Add to a study's budget; a complete study continues."""
    from service.cli.studies import extend_study

    if trials is None and hours is None:
        raise typer.BadParameter("give --trials, --hours, or both")
    extend_study(_settings(context), name, trials, hours)


@study.command()
def stop(context: typer.Context, name: StudyName) -> None:
    """End the study and cancel its trials."""
    _command(context, name, "stop")


@study.command()
def delete(context: typer.Context, name: StudyName) -> None:
    """Remove the study with all its trials."""
    from service.cli.studies import delete_study

    delete_study(_settings(context), name)


@workers.command("list")
def list_workers_(context: typer.Context) -> None:
    """Show all workers and what each runs."""
    from service.cli.studies import list_workers

    list_workers(_settings(context))


@workers.command()
def drain(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="WORKER", help="Id of the worker.", show_default=False)]
) -> None:
    """Let a worker take no more trials, end those it has, and go."""
    from service.cli.studies import drain_worker

    drain_worker(_settings(context), name)


@app.command()
def best(
    context: typer.Context,
    name: StudyName,
    form: Annotated[
        Literal["yaml", "json", "python", "card", "requirements"],
        typer.Option("--format", help="python: a script that trains without Thawline; card: the model card."),
    ] = "yaml",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; by default standard output.")] = None,
) -> None:
    """Give the recommended configuration, confirmed or the best so far, ready for `thaw train`."""
    from service.cli.studies import export_best

    export_best(_settings(context), name, form, output)


@app.command()
def train(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A file from `thaw best`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the model, the result and a copy of the configuration.")] = Path("trained"),
) -> None:
    """Train from an exported configuration, and compare with the metric that its trial reached."""
    from service.cli.training import train_exported

    train_exported(_settings(context), file, out)


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A file from `thaw best`, of a study that confirms.", show_default=False)],
    seed: Annotated[int | None, typer.Option(min=0, max=2**53, help="By default one that the study never had.")] = None,
) -> None:
    """Train again with a fresh seed; exit code 1 when the test metric lies outside the interval that the file states."""
    from service.cli.training import verify_exported

    verify_exported(_settings(context), file, seed)


@app.command()
def demo(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Another one is taken when it is in use.")] = 8000,
    trials: Annotated[int, typer.Option(min=2, max=500)] = 40,
    keep: Annotated[bool, typer.Option("--keep", help="Leave server and worker running until Ctrl-C.")] = False,
) -> None:
    """Run a real study on the handwritten digits that ship with scikit-learn, end to end."""
    from service.cli.demo import run_demo

    run_demo(_settings(context), port, trials, keep)


@db.command()
def upgrade(context: typer.Context) -> None:
    """Bring the database to this version's schema; does nothing when it is there."""
    from service.cli.serving import upgrade_database

    upgrade_database(_settings(context))


@db.command()
def check(context: typer.Context) -> None:
    """Say whether the database answers and has this version's schema; exit code 1 when not."""
    from service.cli.serving import check_database

    check_database(_settings(context))


def _command(context: typer.Context, name: str, word: Literal["pause", "resume", "stop"]) -> None:
    from service.cli.studies import command_study

    command_study(_settings(context), name, word)


def _settings(context: typer.Context, database_url: str | None = None) -> "Settings":
    from service.settings import Settings

    flags = context.obj if database_url is None else {**context.obj, "database_url": database_url}
    return Settings.from_environment(**flags)


@study.command()
def export(
    context: typer.Context,
    name: StudyName,
    form: Annotated[Literal["jsonl", "csv", "optuna"], typer.Option("--format", help="All of it, a table, or a database.")] = "jsonl",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; by default standard output.")] = None,
) -> None:
    """Write a study to a file: JSON lines, CSV, or an SQLite database for Optuna."""
    from service.cli.study_io import export_study

    export_study(_settings(context), name, form, output)


@study.command("import")
def import_(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(help="JSON lines from `thaw study export`, or an SQLite database of Optuna's.", show_default=False)
    ],
    name: Annotated[str | None, typer.Option(help="What to call it here.")] = None,
    like: Annotated[Path | None, typer.Option(help="Study file that says what an Optuna study's trials are of.")] = None,
    theirs: Annotated[str | None, typer.Option("--study", help="Name of the Optuna study, where there are several.")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="So that it can be resumed; a study from Optuna always is.")] = False,
) -> None:
    """Bring in a study from a file."""
    from service.cli.study_io import import_study

    import_study(_settings(context), file, name, like, theirs, paused)
