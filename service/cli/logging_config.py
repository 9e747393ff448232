"""Logging on standard error: one line per record, without secrets and control characters."""

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import TextIO
from urllib.parse import unquote, unquote_plus

from service.settings import Settings

MASK = "***"
# Finds the password as SQLAlchemy's make_url does. SQLAlchemy itself is not imported, because that would delay the start of workers.
PASSWORD = re.compile(r"\A[\w+]*://[^:/]*:([^@]*)@")
QUERY_PASSWORD = re.compile(r"[?&](?:ssl)?password=([^&]*)", re.IGNORECASE)


def configure_logging(settings: Settings, name: str, stream: TextIO | None = None) -> None:
    """Log one JSON object per line, or plain text if the stream is a terminal."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(name, secrets_of(settings), sentences=stream.isatty()))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for verbose in ("alembic", "uvicorn"):
        logging.getLogger(verbose).setLevel(logging.WARNING)


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The token and the database password, raw and URL-decoded, longest first."""
    url = settings.database_url
    written = [*PASSWORD.findall(url), *QUERY_PASSWORD.findall(url)]
    known = {settings.token or "", *written, *map(unquote, written), *map(unquote_plus, written)}
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
