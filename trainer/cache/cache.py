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
from trainer.cache.entry import Key, Layout


class Draft:
    """Leaving the context without `commit` abandons it; so does the process's death."""

    tensor: Tensor
    """To be filled; zeros at first. It is the file itself: not to be written to after `commit`."""

    def __init__(self, path: Path, descriptor: int, layout: Layout, committed: Callable[[int], Tensor]) -> None:
        self._path, self._descriptor, self._layout, self._committed = path, descriptor, layout, committed
        self._mapping = mmap.mmap(descriptor, layout.size)
        self._open = True
        self.tensor = layout.tensor(self._mapping)

    def commit(self) -> Tensor:
        """Make it an entry, flushed to the disk; the entry's tensor, mapped as `find` does. OSError when the disk fails."""
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
    """Tensors by key, in one folder for all processes of the machine; least recently used ones go when it is full.

    Without a folder, or bytes, it keeps nothing. Trouble with the disk never raises: an entry is then absent, and cannot be built.
    """

    def __init__(self, folder: Path | None, max_bytes: int, floor_bytes: int = 0) -> None:
        """`floor_bytes` of the disk stay free."""
        self.folder = folder = folder if max_bytes > 0 else None
        self.max_bytes = max_bytes  # of entries and drafts together
        self.floor_bytes = floor_bytes
        self._live = WeakValueDictionary[str, Tensor]()  # by digest: one mapping, as long as somebody uses it
        self._checked = dict[str, tuple[int, int]]()  # device and inode of files whose content this process has checked
        self._lock = threading.Lock()
        if folder is not None and folder.is_dir():
            locks.sweep(folder)

    @classmethod
    def none(cls) -> "Cache":
        """A cache that keeps nothing."""
        return cls(None, 0)

    def find(self, key: Key) -> Tensor | None:
        """The entry, mapped and shared, not to be written to; None when absent. What is unsound is removed and absent."""
        if self.folder is None:
            return None
        digest = key.digest
        path = _place(self.folder, key, digest, locks.ENTRY)
        with self._lock:  # the others wait for one check in place of reading the file too
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

    def _opened(self, path: Path, key: Key, digest: str) -> Tensor:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # a folder that others own
                os.utime(descriptor)
            identity = _identity(descriptor)
            found = entry.read(descriptor, key, check=self._checked.get(digest) != identity)
        finally:
            os.close(descriptor)
        self._checked[digest], self._live[digest] = identity, found
        return found

    def holds(self, key: Key) -> bool:
        """Whether an entry of that name is there; only `find` tells whether it is sound, and counts as a use."""
        return self.folder is not None and _place(self.folder, key, key.digest, locks.ENTRY).exists()

    def begin(self, key: Key, shape: Sequence[int], dtype: torch.dtype) -> Draft | None:
        """A new entry to be filled. None when it is empty, finds no room, is being built (`busy`), or was built meanwhile (`find`)."""
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
                undo.pop_all()  # the draft's to do from now on
                return draft
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error)
            return None

    def busy(self, key: Key) -> bool:
        """Whether another process, or thread, is building the entry at present."""
        return self.folder is not None and locks.is_held(_place(self.folder, key, key.digest, locks.DRAFT))

    def _reserved(self, folder: Path, descriptor: int, size: int) -> bool:
        """Give the draft its size with all blocks: a full disk is told here, not by a fatal signal while the mapping is written."""
        with locks.alone(folder / "room.lock"):  # until the draft has its size, which others count
            for digest in list(self._live):  # what is in use here counts as used now
                for path in folder.glob(f"*/{digest}{locks.ENTRY}"):
                    with suppress(OSError):
                        os.utime(path)
            os.ftruncate(descriptor, 0)  # what a dead builder left
            if not locks.make(folder, size, self.max_bytes, self.floor_bytes):
                return False
            if sys.platform == "linux":
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.ftruncate(descriptor, size)
        return True

    def _adopted(self, key: Key, descriptor: int) -> Tensor:
        """The tensor of the file that this process has just made an entry of."""
        digest, found = key.digest, entry.read(descriptor, key, check=False)
        with self._lock:
            self._checked[digest], self._live[digest] = _identity(descriptor), found
        return found


def _place(folder: Path, key: Key, digest: str, suffix: str) -> Path:
    return folder / key.kind / f"{digest}{suffix}"


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
