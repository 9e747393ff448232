"""The cache of tensors on disk."""

import logging
import math
import mmap
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from trainer.cache import entry, locks
from trainer.cache.entry import CacheKey, Layout


class Draft:
    """An entry under construction. Leaving the context without `commit` discards it, as does the death of the process."""

    tensor: Tensor
    """Zeros, to be filled. It is a shared mapping of the file: it must not be written to after `commit`."""

    def __init__(self, path: Path, descriptor: int, layout: Layout, committed: Callable[[int], Tensor]) -> None:
        self._path, self._descriptor, self._layout, self._committed = path, descriptor, layout, committed
        self._mapping = mmap.mmap(descriptor, layout.size)
        self._open = True
        self.tensor = layout.tensor(self._mapping)

    def commit(self) -> Tensor:
        """Flush the file to the disk and make it an entry; returns the entry's tensor, mapped as by `find`. Raises OSError."""
        # Order matters: the header is written last and the rename follows the fsync, so that under the entry's name there is never a
        # partial file, even after a power failure. The lock is freed after the rename, so that no waiter builds the entry again.
        self._layout.seal(self._mapping)
        self._mapping.flush()
        os.fsync(self._descriptor)
        self._path.replace(self._path.with_suffix(locks.ENTRY))
        self._open = False
        found = self._committed(self._descriptor)
        locks.free(self._descriptor)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._open:
            self._open = False
            self._path.unlink(missing_ok=True)
            locks.free(self._descriptor)


log = logging.getLogger(__name__)


class Cache:
    """Tensors by key in one folder for all processes of the machine, evicted by least recent use.

    Without a folder, or with a size of 0, it keeps nothing. Disk errors are logged, not raised: `find` and `begin` then return None.
    """

    def __init__(self, folder: Path | None, max_bytes: int, floor_bytes: int = 0) -> None:
        """`floor_bytes` of the disk stay free."""
        self.folder = folder = folder if max_bytes > 0 else None
        self.max_bytes = max_bytes  # of entries and drafts together
        self.floor_bytes = floor_bytes
        self._live = WeakValueDictionary[str, Tensor]()  # by digest: one mapping while it is in use
        self._checked = dict[str, tuple[int, int]]()  # by digest: device and inode of the file whose SHA-256 was checked
        self._lock = threading.Lock()
        if folder is not None and folder.is_dir():
            locks.sweep(folder)

    @classmethod
    def none(cls) -> "Cache":
        """A cache that keeps nothing."""
        return cls(None, 0)

    def find(self, key: CacheKey) -> Tensor | None:
        """The entry, mapped and shared, read-only; None if it is absent. A damaged entry is removed and counts as absent."""
        if self.folder is None:
            return None
        digest = key.digest
        path = _place(self.folder, key, digest, locks.ENTRY)
        with self._lock:  # threads wait for one check of the SHA-256 in place of each reading the whole file
            if (live := self._live.get(digest)) is not None:
                with suppress(OSError):
                    os.utime(path)
                return live
            try:
                return self._opened(path, key, digest)
            except FileNotFoundError:
                return None
            except OSError as error:
                log.warning("%s cannot be read: %s", path, error)
            except entry.DamagedEntry as fault:
                log.warning("%s is removed: %s", path, fault)
                with suppress(OSError):
                    path.unlink()
            return None

    def _opened(self, path: Path, key: CacheKey, digest: str) -> Tensor:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # not permitted in a folder of another owner
                os.utime(descriptor)
            identity = _identity(descriptor)
            found = entry.read(descriptor, key, check=self._checked.get(digest) != identity)
        finally:
            os.close(descriptor)
        self._checked[digest], self._live[digest] = identity, found
        return found

    def holds(self, key: CacheKey) -> bool:
        """Whether the entry's file exists. Does not check it, and does not count as a use."""
        return self.folder is not None and _place(self.folder, key, key.digest, locks.ENTRY).exists()

    def begin(self, key: CacheKey, shape: Sequence[int], dtype: torch.dtype) -> Draft | None:
        """Begin a new entry. None if it is empty, does not fit, is being built (`busy`), or has just been built (`find`)."""
        if self.folder is None or math.prod(shape) == 0:
            return None
        path = _place(self.folder, key, key.digest, locks.DRAFT)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if (descriptor := locks.take(path, create=True)) is None:
                return None
            with ExitStack() as undo:
                undo.callback(locks.free, descriptor)
                undo.callback(path.unlink, missing_ok=True)
                layout = entry.Layout.of(key, shape, dtype)
                if path.with_suffix(locks.ENTRY).exists() or not self._reserved(self.folder, descriptor, layout.size):
                    return None
                draft = Draft(path, descriptor, layout, partial(self._adopted, key))
                undo.pop_all()  # the draft frees the lock from now on
                return draft
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error)
            return None

    def busy(self, key: CacheKey) -> bool:
        """Whether another process or thread is building the entry."""
        return self.folder is not None and locks.is_held(_place(self.folder, key, key.digest, locks.DRAFT))

    def _reserved(self, folder: Path, descriptor: int, size: int) -> bool:
        """Make room for the draft and allocate all of its blocks. Returns False if it does not fit.

        A sparse file would fail later: when the disk is full, a write to the mapping raises SIGBUS and kills the process.
        """
        # One process at a time counts and allocates. Two at once would each count without the other's draft and exceed the limit together.
        with locks.exclusive(folder / "room.lock"):
            for digest in list(self._live):  # reading a mapping does not update the time of use
                for path in folder.glob(f"*/{digest}{locks.ENTRY}"):
                    with suppress(OSError):
                        os.utime(path)
            os.ftruncate(descriptor, 0)  # discard the content that a dead builder left, so that the tensor is zeros
            if not locks.make(folder, size, self.max_bytes, self.floor_bytes):
                return False
            if sys.platform == "linux":
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.ftruncate(descriptor, size)
        return True

    def _adopted(self, key: CacheKey, descriptor: int) -> Tensor:
        """Map the file that this process has just committed; its SHA-256 needs no check."""
        digest, found = key.digest, entry.read(descriptor, key, check=False)
        with self._lock:
            self._checked[digest], self._live[digest] = _identity(descriptor), found
        return found


def _place(folder: Path, key: CacheKey, digest: str, suffix: str) -> Path:
    return folder / key.kind / f"{digest}{suffix}"


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
