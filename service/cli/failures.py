"""What the user reads when a command fails, and the exit code that goes with it."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from service.domain.text import clean

FAILED, FAULTY, NO_SERVER = 1, 2, 3


@dataclass
class FaultyFile(Exception):
    """A file has faults: for each its JSON pointer and a sentence."""

    file: Path
    faults: tuple[tuple[str, str], ...]


class Failure(Exception):
    """The command cannot do what was asked; the text is meant for the user."""


def explain(error: Exception) -> int:
    """Tell the user on standard error what went wrong; the exit code. Raises the error again when it is none that we know."""
    from service.client import Refused, Unreachable
    from service.domain.errors import InvalidInput, ThawlineError

    match error:
        case FaultyFile():
            _say(f"{error.file}: {pointer}  {message}" for pointer, message in error.faults)
            return FAULTY
        case InvalidInput():
            _say(f"{fault.pointer}  {fault.message}" for fault in error.faults)
            return FAULTY
        case Refused():
            _say([str(error), *(f"{fault.pointer}  {fault.detail}" for fault in error.faults)])
            return FAILED
        case Unreachable():
            _say([str(error), "Start one with `thaw serve`, or name another with --server or THAW_SERVER."])
            return NO_SERVER
        case ThawlineError() | Failure():
            _say([str(error)])
            return FAILED
        case BrokenPipeError():  # the reader of our output has gone
            sys.stderr.close()
            return FAILED
        case _:
            raise error


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(clean(line) + "\n")
