"""The commands by which studies travel, and their flags."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.commands import StudyName, study

if TYPE_CHECKING:
    from service.settings import Settings


@study.command()
def export(
    context: typer.Context,
    name: StudyName,
    form: Annotated[Literal["jsonl", "csv", "optuna"], typer.Option("--format", help="All of it, a table, or a database.")] = "jsonl",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; by default standard output.")] = None,
) -> None:
    """Write a study to a file: JSON lines, CSV, or an SQLite database for Optuna."""
    from service.cli.travelling import export_study

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
    from service.cli.travelling import import_study

    import_study(_settings(context), file, name, like, theirs, paused)


def _settings(context: typer.Context) -> "Settings":
    from service.settings import Settings

    return Settings.from_environment(**context.obj)
