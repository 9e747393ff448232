"""Room for a new entry: what was not used for longest goes, and a disk is never filled."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.cache import locks
from trainer.memory import readable

ENTRY = ".tensor"
DRAFT = ".draft"
DISK_RESERVE = 10**9  # bytes of the disk that are left to others; of a small disk, a share
DISK_RESERVE_SHARE = 0.05
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
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


def stored(folder: Path, suffix: str) -> Iterator[Stored]:
    """The cache's files of one sort, of all kinds of keys."""
    for path in folder.glob(f"*/*{suffix}"):
        try:
            status = path.stat()
        except FileNotFoundError:  # another process removed it
            continue
        yield Stored(path, status.st_size, status.st_mtime_ns)


def sweep(folder: Path) -> None:
    """Remove drafts whose builders are dead."""
    for orphan in folder.glob(f"*/*{DRAFT}"):
        if (descriptor := locks.take(orphan, create=False, patience=0)) is not None:
            orphan.unlink(missing_ok=True)
            locks.free(descriptor)
            log.info("%s was left by a builder that died", orphan.name)
