"""The command `thaw`. Heavy things are imported by the commands that need them, so that `thaw --help` is quick."""

from service.cli.commands import app, main

__all__ = ["app", "main"]
