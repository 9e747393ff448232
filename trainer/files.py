"""Files that appear whole or not at all."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp"


def write(path: Path, fill: Callable[[BinaryIO], object]) -> str:
    """Write the file beside its place, flush it to the disk, rename it there, flush the folder; its SHA-256.

    Whoever looks at `path` sees the old file, or the new one whole. A crash leaves at most a `*.tmp` for `sweep`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("w+b") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)
    return sha256


def sweep(folder: Path) -> None:
    """Remove what a crash left half written in the folder, if the disk lets us."""
    with suppress(OSError):
        for orphan in folder.glob(f"*{TEMPORARY}"):
            orphan.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
