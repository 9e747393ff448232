"""A toy trainer on a disk that is nearly full, or full, while a file says so: the kernel cuts its checkpoints short."""

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from trainer import files

FLAG = "THAW_CHAOS_DISK"  # the file; it holds `low` or `full`, and is not there while there is room
FREE_BYTES = 5_000  # when it is low; who asks before he writes does not learn that it has run full
MOST_BYTES = 10  # of a file on the full disk: less than any checkpoint has


def state() -> str:
    """What the file says."""
    try:
        return Path(os.environ[FLAG]).read_text()
    except FileNotFoundError:
        return ""


def shrink() -> None:
    """Whoever asks how much is free is told that it is little."""
    ask = shutil.disk_usage

    def asking(path: os.PathLike[str]) -> object:
        found = ask(path)
        return found._replace(free=FREE_BYTES) if state() == "low" else found

    shutil.disk_usage = asking  # type: ignore[assignment]


def install() -> None:
    shrink()
    write, (soft, hard) = files.write, resource.getrlimit(resource.RLIMIT_FSIZE)

    def writing(path: Path, fill: Callable[[BinaryIO], object]) -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES if state() == "full" else soft, hard))
        try:
            return write(path, fill)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    files.write = writing
