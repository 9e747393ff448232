"""The help of every command, at a fixed width."""

from collections.abc import Iterator
from typing import Any

import typer.main
from typer.testing import CliRunner

from service.cli import app
from tests.goldens.golden import Goldens

TERMINAL = {"COLUMNS": "80", "TERM": "dumb"}


def commands(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The words that name the command, and those of all commands below it."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *path, name)


def test_the_help_of_every_command(goldens: Goldens) -> None:
    paths = list(commands(typer.main.get_command(app)))
    shown = [CliRunner().invoke(app, [*path, "--help"], prog_name="thaw", env=TERMINAL) for path in paths]
    assert [answer.exit_code for answer in shown] == [0] * len(paths)
    pages = [f"$ {' '.join(('thaw', *path))} --help\n{answer.output}" for path, answer in zip(paths, shown, strict=True)]
    goldens.check("cli.txt", "\n".join(pages))
