"""Write files atomically; open files that somebody else named. Imports no torch, so that the server opens files as the trainer does."""

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TextIO

TEMPORARY = ".tmp"


class UnfitFile(OSError):
    """The path is not a regular file, or the file is too large. `strerror` is a sentence for the user, without the path."""


def open_regular(path: Path, most_bytes: int) -> BufferedReader:
    """Open a regular file of at most `most_bytes` bytes for reading.

    The path may name anything: a named pipe would block the open, /dev/zero never ends, /dev/stdin is the process's own input, and
    opening some devices has effects. So the type is checked before the file is opened, and again on the open file, because another
    process may replace the file between the two. Raises UnfitFile, and the OSError of a path that cannot be opened.
    """
    _require_regular(os.stat(path), most_bytes)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(descriptor), most_bytes)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file. Raises as `open_regular` does, also for a file that grows while it is read."""
    with open_regular(path, most_bytes) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1) if size else b""  # some files of /proc report no size and block when they are read
    if len(content) > size:
        raise UnfitFile(errno.EAGAIN, "it grew while it was read")
    return content


def is_readable(path: Path) -> bool:
    """Whether a file can be opened and read, or a folder and those in it be listed.

    False for an empty folder, which may be a mount point without its mount; True for what is neither a file nor a folder.
    May block on a dead mount.
    """
    try:
        if not path.is_dir():
            with open_regular(path, sys.maxsize) as file:
                file.read(1)
            return True
        with os.scandir(path) as entries:
            found = list(entries)
        for entry in found:
            if entry.is_dir():
                os.scandir(entry).close()
    except UnfitFile:
        return True
    except OSError:
        return False
    return bool(found)


def bounded_lines(file: TextIO, most_characters: int) -> Iterator[str]:
    """The lines of a text file with their ends. Raises UnfitFile for a longer line before the whole line is in memory."""
    while line := file.readline(most_characters + 1):
        if len(line) > most_characters:
            raise UnfitFile(errno.EFBIG, f"it has a line of more than {most_characters:,} characters")
        yield line


def _require_regular(status: os.stat_result, most_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnfitFile(errno.EINVAL, f"it is {_kind(status.st_mode)}, not a regular file")
    if status.st_size > most_bytes:
        raise _too_large(most_bytes)


def _too_large(most_bytes: int) -> UnfitFile:
    return UnfitFile(
        errno.EFBIG, f"it is larger than {most_bytes >> 20:,} MB" if most_bytes >= 2**20 else f"it has more than {most_bytes} bytes"
    )


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a named pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a character device",
        stat.S_ISBLK: "a block device",
    }
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "something else")


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
    flush_folder(path.parent)
    return sha256


def sweep(folder: Path) -> None:
    """Remove what a crash left half written in the folder, if the disk lets us."""
    with suppress(OSError):
        for orphan in folder.glob(f"*{TEMPORARY}"):
            orphan.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush the folder's entries to the disk, so that a rename in it outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
