"""Locks on files, which the kernel frees when their holder dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
