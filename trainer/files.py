"""Atomic writes, and safe opening of files with paths from users. Imports no torch, since the server uses it too."""

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

    Raises UnfitFile, or the OSError of a path that cannot be opened.
    """
    # The path may be anything: opening a named pipe blocks, /dev/zero never ends, /dev/stdin is the process's own input, and opening some
    # devices has side effects. So the type is checked before the file is opened. It is checked again on the open file, because another
    # process may have replaced the file in between; O_NONBLOCK keeps that open from blocking.
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
        content = file.read(size + 1) if size else b""  # some files in /proc report size 0 and block on reading
    if len(content) > size:
        raise UnfitFile(errno.EAGAIN, "it grew while it was read")
    return content


def is_readable(path: Path) -> bool:
    """Whether a file can be opened and read, or a folder and its subfolders can be listed.

    False for an empty folder, which may be an unmounted mount point. True for a path that is neither a file nor a folder. May block on a
    dead mount.
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
    """The lines of a text file, with line ends. Raises UnfitFile for a line above the limit, without reading the whole line."""
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
    """Write a file atomically and durably. Returns its SHA-256.

    Readers of `path` see either the old file or the complete new one. A crash leaves at most a `*.tmp` file, which `sweep` removes.
    """
    # Order of operations: the content is flushed before the rename, so that the new name never leads to a partial file after a power
    # failure, and the folder is flushed after the rename, so that the name itself is durable.
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
    """Remove temporary files that a crash left in the folder. Ignores OSError."""
    with suppress(OSError):
        for orphan in folder.glob(f"*{TEMPORARY}"):
            orphan.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush the folder's entries to the disk, so that a rename survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
