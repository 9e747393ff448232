"""Locks between processes that share the cache, and the room that it may take."""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.devices import readable

PATIENCE_SECONDS = 0.02  # a look by `is_held` holds the lock for microseconds


def take(path: Path, *, create: bool, patience: float = PATIENCE_SECONDS) -> int | None:
    """A descriptor that holds the lock of the file at the path; None when another holds it, or no such file is there.

    Not inherited by child processes. It excludes other threads as well as other processes.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
        except FileNotFoundError:
            return None
        if _locked(descriptor, fcntl.LOCK_EX) and _is_at(descriptor, path):  # it may have been renamed or removed meanwhile
            return descriptor
        os.close(descriptor)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.001)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock of the file at the path."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def free(descriptor: int) -> None:
    """Give the lock back, also where a mapping keeps the file open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait for the lock of the file at the path, and hold it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    return False


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


ENTRY = ".tensor"
DRAFT = ".draft"
DISK_RESERVE = 10**9  # bytes of the disk that are left to others; of a small disk, a share
DISK_RESERVE_SHARE = 0.05
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file of the cache."""

    path: Path
    size: int  # bytes
    used: int  # nanoseconds


def make(folder: Path, needed: int, max_bytes: int, floor_bytes: int = 0) -> bool:
    """Remove what must go for `needed` more bytes; False, and nothing removed, when they cannot be had.

    Of the disk `floor_bytes` stay free, or the usual reserve where that is more.
    """
    sweep(folder)
    entries, drafts = list(stored(folder, ENTRY)), list(stored(folder, DRAFT))
    disk = shutil.disk_usage(folder)
    reserve = max(floor_bytes, min(DISK_RESERVE, int(disk.total * DISK_RESERVE_SHARE)))
    held = sum(file.size for file in entries + drafts)
    excess = max(held + needed - max_bytes, needed + reserve - disk.free)
    if excess > sum(file.size for file in entries) or needed > max_bytes:
        log.info("no room for %s in %s", readable(needed), folder)
        return False
    for file in sorted(entries, key=lambda file: file.used):
        if excess <= 0:
            break
        file.path.unlink(missing_ok=True)  # whoever has it mapped keeps it
        excess -= file.size
        log.info("%s was removed from the cache for room", file.path.name)
    return True


def stored(folder: Path, suffix: str) -> Iterator[CachedFile]:
    """The cache's files of one sort, of all kinds of keys."""
    for path in folder.glob(f"*/*{suffix}"):
        try:
            status = path.stat()
        except FileNotFoundError:  # another process removed it
            continue
        yield CachedFile(path, status.st_size, status.st_mtime_ns)


def sweep(folder: Path) -> None:
    """Remove drafts whose builders are dead."""
    for orphan in folder.glob(f"*/*{DRAFT}"):
        if (descriptor := take(orphan, create=False, patience=0)) is not None:
            orphan.unlink(missing_ok=True)
            free(descriptor)
            log.info("%s was left by a builder that died", orphan.name)
