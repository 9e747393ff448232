"""Output of the commands: tables and values on standard output, errors of failed commands and log lines on standard error."""

import errno
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import unquote, unquote_plus

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.domain.states import TrialState
from service.domain.text import clean

if TYPE_CHECKING:  # a worker logs before these slow imports
    from pydantic import BaseModel

    from service.rest_models import ListedStudyView, TrialView
    from service.settings import Settings

WIDE = 10_000  # columns, if the output goes to a file or a pipe, so that rich does not truncate cells


class _Console(Console):
    """Removes control characters, because names and values from the server are untrusted."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(clean(one) if isinstance(one, str) else one for one in objects), **options)


def console(*, stderr: bool = False) -> Console:
    """A console on standard output, or standard error, that does not interpret markup and removes control characters."""
    wide = None if (sys.stderr if stderr else sys.stdout).isatty() else WIDE
    return _Console(markup=False, highlight=False, emoji=False, width=wide, stderr=stderr)


def print_json(value: "BaseModel | Mapping[str, Any]", *, line: bool = False) -> None:
    """Print a JSON document, with the fields of the REST interface, or a line of several. It is ASCII, so a terminal interprets nothing."""
    from search_spaces.documents import finite

    document = finite(value) if isinstance(value, Mapping) else json.loads(value.model_dump_json())  # null for a number that is not finite
    sys.stdout.write(json.dumps(document, indent=None if line else 2) + "\n")
    if line:
        sys.stdout.flush()


def plain_text(text: str, style: str = "") -> Text:
    """Text for a table or a group, without control characters."""
    return Text(clean(text), style=style)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """A table without borders."""
    head = None if title is None else plain_text(title)
    result = Table(*map(clean, columns), box=None, title=head, title_justify="left", pad_edge=False, header_style="bold")
    for row in rows:
        result.add_row(*map(plain_text, row))
    return result


def number(value: float | None) -> str:
    """A metric with four decimals, or `-`."""
    return "-" if value is None else f"{value:.4f}"


def duration(seconds: float) -> str:
    """A duration in its two largest units, such as `3 min 20 s`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def assignments(params: Mapping[str, Any]) -> str:
    """Parameters in one line, such as `lr=0.0013 optimizer=sgd`."""
    return " ".join(f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items())


def time_left(study: "ListedStudyView") -> str:
    """Such as `about 3 min 20 s left`; empty when unknown."""
    return "" if study.seconds_left is None else f"about {duration(study.seconds_left)} left"


def saved(study: "ListedStudyView") -> str:
    """Such as `saved 40 s by stored outputs and 12 s by duplicates`; empty if less than a second was saved."""
    parts = ((study.saved.features_seconds, "stored outputs"), (study.saved.duplicates_seconds, "duplicates"))
    savings = [f"{duration(seconds)} by {source}" for seconds, source in parts if seconds >= 1]
    return f"saved {' and '.join(savings)}" if savings else ""


def speed(trial: "TrialView", example: str) -> str:
    """Such as `1240 rows/s, 12 s left`; empty unless the trial runs and has reported its pace. `example` is a singular noun."""
    if trial.state is not TrialState.RUNNING or trial.pace is None:
        return ""
    samples, left = trial.pace.samples_per_second, trial.pace.seconds_left
    parts = ["" if samples is None else f"{samples:.0f} {example}s/s", "" if left is None else f"{duration(left)} left"]
    return ", ".join(filter(None, parts))


FAILED, FAULTY, NO_SERVER = 1, 2, 3
NOTHING_TO_CLAIM, STOP, LEASE_LOST = 4, 5, 6  # of `thaw trial`
CLAIM_CODES = {"lease-lost": LEASE_LOST, "claim-not-found": LEASE_LOST, "trial-cancelled": STOP, "trial-closed": STOP}
"""Exit codes by the kind of a problem."""
UNWRITTEN = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
)  # of standard output: files have their names in errors


@dataclass
class FaultyFile(Exception):
    """A file is invalid. `faults` has a JSON pointer and a message for each error; the pointer is empty for the file as a whole."""

    file: Path
    faults: tuple[tuple[str, str], ...]


class Failure(Exception):
    """The command failed. The message is shown to the user."""


def explain(error: Exception) -> int:
    """Print the error on standard error and return the exit code. Raises the error again if it is of an unknown type."""
    from service.client import Refused, Unreachable
    from service.domain.errors import InvalidInput, LeaseLost, ThawlineError
    from trainer.data.examples import shown

    match error:
        case FaultyFile():
            _print_lines(f"{shown(str(error.file))}: {f'{pointer}  ' if pointer else ''}{message}" for pointer, message in error.faults)
            return FAULTY
        case InvalidInput():
            _print_lines(f"{fault.pointer}  {fault.message}" for fault in error.faults)
            return FAULTY
        case Refused():
            _print_lines([error.detail, *(f"{fault.pointer}  {fault.message}" for fault in error.faults)])
            return CLAIM_CODES.get(error.kind, FAILED)
        case Unreachable():
            _print_lines([str(error), "Start a server with `thaw serve`, or set the address of one with --server or THAW_SERVER."])
            return NO_SERVER
        case LeaseLost():
            _print_lines([str(error)])
            return LEASE_LOST
        case ThawlineError() | Failure():
            _print_lines([str(error)])
            return FAILED
        case BrokenPipeError():  # the reader of standard output has exited
            _discard_output()
            return FAILED
        case OSError() if error.errno in UNWRITTEN and error.filename is None:
            _discard_output()
            _print_lines([f"The output cannot be written: {error.strerror}."])
            return FAILED
        case _:
            raise error


def _discard_output() -> None:
    """Send the rest of standard output to the null device: Python would report at exit that it cannot be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(clean(line) + "\n")


MASK = "***"
# Finds the password as SQLAlchemy's make_url does. SQLAlchemy itself is not imported, because that would delay the start of workers.
PASSWORD = re.compile(r"\A[\w+]*://[^:/]*:([^@]*)@")
QUERY_PASSWORD = re.compile(r"[?&](?:ssl)?password=([^&]*)", re.IGNORECASE)


def configure_logging(settings: "Settings", name: str, stream: TextIO | None = None) -> None:
    """Log one JSON object per line, or plain text if the stream is a terminal."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(name, secrets_of(settings), sentences=stream.isatty()))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for verbose in ("alembic", "uvicorn", "httpx2"):  # httpx2 logs the URL of each request, and that of a webhook may be a secret
        logging.getLogger(verbose).setLevel(logging.WARNING)


def secrets_of(settings: "Settings") -> tuple[str, ...]:
    """The token, the passwords of database and MLflow, raw and URL-decoded, the secret and the URLs of webhooks, longest first."""
    url = settings.database_url
    written = [*PASSWORD.findall(url), *QUERY_PASSWORD.findall(url), *PASSWORD.findall(settings.mlflow_uri or "")]
    webhooks = (settings.webhook_secret or "", *(one.removeprefix("slack:") for one in settings.webhooks))
    known = {settings.token or "", *webhooks, *written, *map(unquote, written), *map(unquote_plus, written)}
    # The longest first: masking a secret that is part of another one would leave the rest of the longer one readable.
    return tuple(sorted(filter(None, known), key=len, reverse=True))


class JsonFormatter(logging.Formatter):
    """Formats a record as one line. The traceback is a field of the record; control characters are escaped."""

    def __init__(self, name: str, secrets: tuple[str, ...], sentences: bool = False) -> None:
        super().__init__()
        self.name = name
        self.secrets = secrets
        self.sentences = sentences

    def format(self, record: logging.LogRecord) -> str:
        """The line, without line feed."""
        at = datetime.fromtimestamp(record.created, UTC)
        message = self._masked(record.getMessage())
        error = self._masked(self.formatException(record.exc_info)) if record.exc_info else None
        if self.sentences:
            return f"{at:%H:%M:%S} {self.name} {os.getpid()}: {_escaped(message)}{f' | {_escaped(error)}' if error else ''}"
        fields = {"at": at.isoformat(timespec="milliseconds"), "level": record.levelname.lower(), "process": self.name, "pid": os.getpid()}
        return json.dumps({**fields, "logger": record.name, "message": message, **({"error": error} if error else {})})

    def _masked(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text


def _escaped(text: str) -> str:
    """Replaces non-printable characters by Python escape sequences."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)
