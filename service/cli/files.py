"""Reads the user's files with a list of all errors, and writes files atomically."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search_spaces import Faulty
from search_spaces.documents import MAX_BYTES, MAX_YAML_BYTES, from_json, from_yaml, too_large
from service.cli.failures import Failure, FaultyFile
from service.client import Refused
from service.domain.parsing import resolve_paths


def write_whole(file: Path, text: str) -> None:
    """Write the file atomically, with fsync. Raises Failure if that is not possible."""
    partial = beside(file)
    try:
        with partial.open("x", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise Failure(f"{file} cannot be written: {error.strerror}") from None


def beside(file: Path) -> Path:
    """An unpredictable path for the temporary file. Open it in mode `x`, so that an existing symbolic link is not followed."""
    return file.with_name(f".{file.name[:200]}.{secrets.token_hex(8)}.tmp")


def read_document(file: Path) -> Any:
    """Parse the file and make the relative paths in it absolute; they are relative to the file. Raises FaultyFile."""
    return resolve_paths(read_value(file), file.absolute().parent)


def read_list(file: Path) -> list[Any]:
    """Parse a YAML or JSON list, or a .jsonl file. Raises FaultyFile."""
    if file.suffix.lower() == ".jsonl":
        return _json_lines(file)
    value = read_value(file)
    if not isinstance(value, list):
        raise FaultyFile(file, (("#", "expected a list of parameter sets; begin each with a dash"),))
    return value


def _json_lines(file: Path) -> list[Any]:
    values: list[Any] = []
    for place, line in enumerate(read_text(file, MAX_BYTES).splitlines(), 1):
        try:
            values += [from_json(line)] if line.strip() else []
        except Faulty as error:
            raise FaultyFile(file, tuple((f"line {place}", fault.message) for fault in error.faults)) from None
    return values


def read_value(file: Path) -> Any:
    """Parse the file: as JSON if its suffix is .json, otherwise as YAML. Raises FaultyFile."""
    is_json = file.suffix.lower() == ".json"
    text = read_text(file, MAX_BYTES if is_json else MAX_YAML_BYTES)
    with faults_of(file):
        return from_json(text) if is_json else from_yaml(text)


def read_text(file: Path, limit: int) -> str:
    """Read UTF-8 text of at most `limit` bytes. Raises FaultyFile."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(limit + 1)
        if len(raw) > limit:
            raise FaultyFile(file, (("#", too_large(limit).message),))
        return raw.decode("utf-8")
    except OSError as error:
        raise FaultyFile(file, (("#", f"the file cannot be read: {error.strerror}"),)) from None
    except UnicodeDecodeError:
        raise FaultyFile(file, (("#", "the file is not UTF-8 text; save it as UTF-8"),)) from None


@contextlib.contextmanager
def faults_of(file: Path) -> Iterator[None]:
    """Convert Faulty and Refused errors with faults, from the parser and the server, to FaultyFile."""
    try:
        yield
    except Faulty as error:
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in error.faults)) from None
    except Refused as refusal:
        if not refusal.faults:
            raise
        raise FaultyFile(file, tuple((fault.pointer, fault.detail) for fault in refusal.faults)) from None
