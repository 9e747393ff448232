"""What a process says of itself on standard error: a line a record, whatever is in it, and no secret."""

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
PASSWORD = re.compile(r"\A[\w+]*://[^:/]*:([^@]*)@")  # as SQLAlchemy reads a URL, which takes a worker too long to import
QUERY_PASSWORD = re.compile(r"[?&](?:ssl)?password=([^&]*)", re.IGNORECASE)


def configure_logging(settings: Settings, name: str, stream: TextIO | None = None) -> None:
    """Write the records of this process, a JSON object a line; on a terminal as a sentence."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(name, secrets_of(settings), sentences=stream.isatty()))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("alembic", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """What must never be written, the longest first: the token, the database's password, both as they are in an address too."""
    url = settings.database_url
    written = [*PASSWORD.findall(url), *QUERY_PASSWORD.findall(url)]
    known = {settings.token or "", *written, *map(unquote, written), *map(unquote_plus, written)}
    return tuple(sorted(filter(None, known), key=len, reverse=True))


class JsonFormatter(logging.Formatter):
    """Records as lines. A traceback is a field of its record; control characters are written as escapes."""

    def __init__(self, name: str, secrets: tuple[str, ...], sentences: bool = False) -> None:
        super().__init__()
        self.name = name
        self.secrets = secrets
        self.sentences = sentences

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end."""
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
    """Printable characters as they are, the others as Python writes them."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)
