"""Defines the commands below `thaw study` and their options."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.arguments import AsJson, StudyName, settings_of

study = typer.Typer(help="Create, watch and control studies.", no_args_is_help=True)


@study.command()
def create(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Study file, in YAML or JSON.", show_default=False)],
    watch: Annotated[bool, typer.Option("--watch", help="Show the progress of the trials until the study has ended.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Rename an ended study with the same name to NAME~1.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the study as JSON; with --watch its events, as JSON lines.")] = False,
) -> None:
    """Create a study from a file."""
    from service.cli.studies import create_study

    create_study(settings_of(context), file, watch, replace, as_json=as_json)


@study.command()
def watch(
    context: typer.Context,
    name: StudyName,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events as JSON lines, the last one with the study.")] = False,
) -> None:
    """Show the progress of a study until it has ended. Exits with 1 if it failed."""
    from service.cli.studies import watch_study

    watch_study(settings_of(context), name, as_json=as_json)


@study.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List all studies."""
    from service.cli.studies import list_studies

    list_studies(settings_of(context), as_json=as_json)


@study.command()
def show(context: typer.Context, name: StudyName, as_json: AsJson = False) -> None:
    """Show a study and its trials."""
    from service.cli.studies import show_study

    show_study(settings_of(context), name, as_json=as_json)


@study.command()
def schema(task: Annotated[str | None, typer.Option(help="Name of an installed task; default: image_classification.")] = None) -> None:
    """Print the JSON Schema of study files, for use in editors. Does not need a server."""
    import json

    from service.domain.study_schema import document_schema
    from trainer.configuration import FIRST_TASK

    typer.echo(json.dumps(document_schema(task or FIRST_TASK), indent=2))


@study.command()
def pruning(context: typer.Context, name: StudyName, as_json: AsJson = False) -> None:
    """Report how many epochs pruning saved, and whether another pruner would have changed the winner."""
    from service.cli.studies import show_pruning

    show_pruning(settings_of(context), name, as_json=as_json)


@study.command()
def log(
    context: typer.Context,
    name: StudyName,
    number: Annotated[int, typer.Argument(min=0, help="Number of the trial.", show_default=False)],
    attempt: Annotated[int | None, typer.Option(min=1, help="Number of the attempt; default: the newest.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Keep printing new lines until the trial has ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the log as JSON; with --follow its parts, as JSON lines.")] = False,
) -> None:
    """Print the log of a trial."""
    from service.cli.watching import show_log

    show_log(settings_of(context), name, number, attempt, follow=follow, as_json=as_json)


@study.command()
def queue(
    context: typer.Context,
    name: StudyName,
    file: Annotated[
        Path, typer.Argument(help="List of parameter sets in YAML or JSON, or one set per line in .jsonl.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Queue trials with given parameters. Queues no trial if one of them is invalid."""
    from service.cli.studies import queue_trials

    queue_trials(settings_of(context), name, file, as_json=as_json)


@study.command()
def pause(context: typer.Context, name: StudyName, as_json: AsJson = False) -> None:
    """Pause a study: running trials continue, and no new ones start."""
    _control(context, name, "pause", as_json)


@study.command()
def resume(context: typer.Context, name: StudyName, as_json: AsJson = False) -> None:
    """Resume a paused, failed or stopped study."""
    _control(context, name, "resume", as_json)


@study.command()
def extend(
    context: typer.Context,
    name: StudyName,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials to add to the budget.")] = None,
    hours: Annotated[float | None, typer.Option(help="Number of hours to add to the budget.")] = None,
    as_json: AsJson = False,
) -> None:
    """Increase the budget of a study. A complete study continues."""
    from service.cli.studies import extend_study

    if trials is None and hours is None:
        raise typer.BadParameter("give --trials, --hours, or both")
    extend_study(settings_of(context), name, trials, hours, as_json=as_json)


@study.command()
def objective(
    context: typer.Context,
    name: StudyName,
    metric: Annotated[str, typer.Argument(help="A metric that its trials recorded.")],
    as_json: AsJson = False,
) -> None:
    """Rank the trials of a study that has ended by another metric, without training."""
    from service.cli.studies import rerank_study

    rerank_study(settings_of(context), name, metric, as_json=as_json)


@study.command()
def stop(context: typer.Context, name: StudyName, as_json: AsJson = False) -> None:
    """Stop a study and cancel its trials."""
    _control(context, name, "stop", as_json)


@study.command()
def delete(context: typer.Context, name: StudyName, as_json: AsJson = False) -> None:
    """Delete a study and all its trials."""
    from service.cli.studies import delete_study

    delete_study(settings_of(context), name, as_json=as_json)


def _control(context: typer.Context, name: str, action: Literal["pause", "resume", "stop"], as_json: bool) -> None:
    from service.cli.studies import command_study

    command_study(settings_of(context), name, action, as_json=as_json)


@study.command()
def export(
    context: typer.Context,
    name: StudyName,
    form: Annotated[
        Literal["jsonl", "csv", "optuna", "tensorboard", "wandb"],
        typer.Option(
            "--format",
            help="csv: a table of the trials; optuna: an SQLite database; tensorboard, wandb: a folder of event files or offline runs.",
        ),
    ] = "jsonl",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder to write; default: standard output, for jsonl and csv.")
    ] = None,
) -> None:
    """Export a study as JSON lines, as CSV, or for Optuna, TensorBoard or W&B."""
    from service.cli.files import export_study

    export_study(settings_of(context), name, form, output)


@study.command("import")
def import_(  # noqa: PLR0913  (the options of the command)
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="JSON lines from `thaw study export`, or an SQLite database of Optuna.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Name of the new study; default: the name in the file.")] = None,
    like: Annotated[Path | None, typer.Option(help="Study file with the data, model and search space of an Optuna study.")] = None,
    theirs: Annotated[str | None, typer.Option("--study", help="Name of the Optuna study, if the database contains several.")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Import the study as paused; always the case for Optuna databases.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import a study from a file."""
    from service.cli.files import import_study

    import_study(settings_of(context), file, name, like, theirs, paused=paused, as_json=as_json)


@study.command()
def convert(
    file: Annotated[
        str, typer.Argument(help="W&B sweep, Ray Tune space or Katib experiment (YAML or JSON), or Optuna database.", show_default=False)
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Study file to write; default: standard output.")] = None,
    task: Annotated[str | None, typer.Option(help="Name of an installed task; default: image_classification.")] = None,
    theirs: Annotated[str | None, typer.Option("--study", help="Name of the Optuna study, if the database contains several.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the file and the notes as one JSON document.")] = False,
) -> None:
    """Convert the search of another tool to a study file, and name what has no equivalent. Does not need a server."""
    from service.cli.files import convert_study

    convert_study(file, output, task, theirs, as_json=as_json)
