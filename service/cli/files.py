"""Files that people hand to a command: read with every fault named, written whole or not at all."""

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
    """Put the text into the file in one step, flushed to the disk. Raises Failure when the folder does not take it."""
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
    """An unpredictable name for the temporary file. Open it with `x`, so that an existing symbolic link is not followed."""
    return file.with_name(f".{file.name[:200]}.{secrets.token_hex(8)}.tmp")


def read_document(file: Path) -> Any:
    """The file's value, with the paths in it made absolute: they are relative to the file. Raises FaultyFile."""
    return resolve_paths(read_value(file), file.absolute().parent)


def read_list(file: Path) -> list[Any]:
    """The file's list: a YAML or JSON list, or JSON lines where it is named .jsonl. Raises FaultyFile."""
    if file.suffix.lower() == ".jsonl":
        return _json_lines(file)
    value = read_value(file)
    if not isinstance(value, list):
        raise FaultyFile(file, (("#", "the parameters of trials are a list; begin each with a dash"),))
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
    """The file's value: JSON where it is named so, YAML otherwise. Raises FaultyFile."""
    is_json = file.suffix.lower() == ".json"
    text = read_text(file, MAX_BYTES if is_json else MAX_YAML_BYTES)
    with faults_of(file):
        return from_json(text) if is_json else from_yaml(text)


def read_text(file: Path, limit: int) -> str:
    """The file's text, of at most so many bytes. Raises FaultyFile."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(limit + 1)
        if len(raw) > limit:
            raise FaultyFile(file, (("#", too_large(limit).message),))
        return raw.decode("utf-8")
    except OSError as error:
        raise FaultyFile(file, (("#", f"the file cannot be read: {error.strerror}"),)) from None
    except UnicodeDecodeError:
        raise FaultyFile(file, (("#", "the file is not UTF-8 text; save it as such"),)) from None


@contextlib.contextmanager
def faults_of(file: Path) -> Iterator[None]:
    """Faults found inside, by us or by the server, are the file's."""
    try:
        yield
    except Faulty as error:
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in error.faults)) from None
    except Refused as refusal:
        if not refusal.faults:
            raise
        raise FaultyFile(file, tuple((fault.pointer, fault.detail) for fault in refusal.faults)) from None
