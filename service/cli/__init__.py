"""The command `thaw`. Slow imports are inside the commands that need them, so that `thaw --help` is fast."""

from service.cli.commands import app, main

__all__ = ["app", "main"]
