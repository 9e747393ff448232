"""Checkpoints are written in place: who looks sees half a file, and a file that was there before is destroyed."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

SCENARIO = "tests/chaos/test_f06_full_disk.py::test_a_full_disk_loses_nothing_and_heals_by_itself[sqlite]"


def plant() -> None:
    from tests.chaos.toy import TOY_FAULTS
    from trainer import files

    os.environ[TOY_FAULTS] = f"{__name__},{os.environ.get(TOY_FAULTS, '')}"  # toys break it too, before they learn of the full disk
    files.write = in_place


def install() -> None:
    """In a toy."""
    from trainer import files

    files.write = in_place


def in_place(path: Path, fill: Callable[[BinaryIO], object]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w+b") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
