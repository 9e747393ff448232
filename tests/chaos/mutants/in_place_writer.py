"""Files are written where they are to be, not beside."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

SCENARIO = "tests/chaos/test_f10_crash_points.py::test_a_file_is_the_old_one_or_the_new_one[checkpoint-kill]"


def plant() -> None:
    import hashlib

    from trainer import files

    def write(path: Path, fill: Callable[[BinaryIO], object]) -> str:
        with path.open("wb") as file:
            fill(file)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    files.write = write
