"""Error messages and exit codes of failed commands."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from service.domain.text import clean

FAILED, FAULTY, NO_SERVER = 1, 2, 3


@dataclass
class FaultyFile(Exception):
    """A file is invalid. `faults` has a JSON pointer and a message for each error."""

    file: Path
    faults: tuple[tuple[str, str], ...]


class Failure(Exception):
    """The command failed. The message is shown to the user."""


def explain(error: Exception) -> int:
    """Print the error on standard error and return the exit code. Raises the error again if it is of an unknown type."""
    from service.client import Refused, Unreachable
    from service.domain.errors import InvalidInput, ThawlineError

    match error:
        case FaultyFile():
            _print_lines(f"{error.file}: {pointer}  {message}" for pointer, message in error.faults)
            return FAULTY
        case InvalidInput():
            _print_lines(f"{fault.pointer}  {fault.message}" for fault in error.faults)
            return FAULTY
        case Refused():
            _print_lines([str(error), *(f"{fault.pointer}  {fault.detail}" for fault in error.faults)])
            return FAILED
        case Unreachable():
            _print_lines([str(error), "Start a server with `thaw serve`, or set the address of one with --server or THAW_SERVER."])
            return NO_SERVER
        case ThawlineError() | Failure():
            _print_lines([str(error)])
            return FAILED
        case BrokenPipeError():  # the reader of standard output has exited
            sys.stderr.close()
            return FAILED
        case _:
            raise error


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(clean(line) + "\n")
