"""Locks between processes that share the cache folder, and eviction of entries."""

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

RETRY_SECONDS = 0.02  # `is_held` takes the lock itself, for microseconds; a single try could fail because of it


def take(path: Path, *, create: bool, retry_seconds: float = RETRY_SECONDS) -> int | None:
    """A descriptor that holds the lock of the file at `path`; None if another holder has it, or the file does not exist.

    The descriptor is not inherited by child processes. The lock excludes other threads as well as other processes: flock locks
    belong to the open file, and each call opens the file again. The kernel frees them when the process dies, so no lock is ever stale.
    """
    deadline = time.monotonic() + retry_seconds
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
        except FileNotFoundError:
            return None
        # Between open and flock the previous holder may have renamed or removed the file. A lock on such a file excludes nobody, since
        # others open a new file at the path; so it counts only if the path still names the locked file.
        if _locked(descriptor, fcntl.LOCK_EX) and _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.001)


def is_held(path: Path) -> bool:
    """Whether the lock of the file at `path` is held."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def free(descriptor: int) -> None:
    """Release the lock and close the descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # explicitly: a memory mapping has duplicated the descriptor, so closing would not release it
    os.close(descriptor)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for the lock of the file at `path`, and hold it within the context."""
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
DISK_RESERVE = 10**9  # bytes of the disk that stay free; of a small disk, DISK_RESERVE_SHARE
DISK_RESERVE_SHARE = 0.05
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file of the cache."""

    path: Path
    size: int  # bytes
    used: int  # time of the last use, nanoseconds since 1970


def make(folder: Path, needed: int, max_bytes: int, floor_bytes: int = 0) -> bool:
    """Evict least recently used entries until `needed` more bytes fit. Returns False, and evicts nothing, if they cannot fit.

    `floor_bytes` of the disk stay free, or the usual reserve if that is more. The caller holds the lock of the folder.
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
        file.path.unlink(missing_ok=True)  # existing mappings of the file stay valid
        excess -= file.size
        log.info("%s was evicted from the cache", file.path.name)
    return True


def stored(folder: Path, suffix: str) -> Iterator[CachedFile]:
    """The cache's files with that suffix, of all kinds of keys."""
    for path in folder.glob(f"*/*{suffix}"):
        try:
            status = path.stat()
        except FileNotFoundError:  # another process removed it
            continue
        yield CachedFile(path, status.st_size, status.st_mtime_ns)


def sweep(folder: Path) -> None:
    """Remove drafts whose builders are dead: those whose lock is free."""
    for orphan in folder.glob(f"*/*{DRAFT}"):
        if (descriptor := take(orphan, create=False, retry_seconds=0)) is not None:
            orphan.unlink(missing_ok=True)
            free(descriptor)
            log.info("%s was removed: its builder died", orphan.name)
