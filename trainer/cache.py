"""A cache of tensors as memory-mapped files, shared by all runs and processes of the machine."""

import fcntl
import hashlib
import json
import logging
import math
import mmap
import os
import shutil
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, Union
from weakref import WeakValueDictionary

import torch
from filelock import FileLock, lock_descriptor, unlock_descriptor
from torch import Tensor

from trainer.memory import readable

log = logging.getLogger(__name__)

JSON = Union[None, bool, int, float, str, Sequence["JSON"], Mapping[str, "JSON"]]  # noqa: UP007  # a string has no `|`


@dataclass(frozen=True, slots=True)
class CacheKey:
    """All facts that determine the content of an entry. Equal facts give the same entry, in any order.

    The file is found by the digest alone, and runs read it without computing anything themselves. So a fact that is missing from the
    key leads to wrong results without an error; a superfluous fact only to a second entry. When in doubt, add the fact.
    """

    kind: str  # of content, such as features; a folder of the cache
    facts: Mapping[str, JSON]

    @property
    def text(self) -> str:
        """The canonical JSON of the key. Raises ValueError for numbers that are not finite."""
        return json.dumps({"kind": self.kind, "facts": self.facts}, sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of `text`, the file's name."""
        return hashlib.sha256(self.text.encode()).hexdigest()


MAGIC = b"THAWTENS"
VERSION = 1
PREFIX = struct.Struct("<8sII32s")  # magic, version, bytes of header, SHA-256 as of `Layout.sha256`
PAGE = 4096
PART = 32 * 2**20  # bytes hashed by one task
WITHOUT_RESERVE = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE, which Python names from 3.13 on


class DamagedEntry(Exception):
    """The file is not a whole entry of its key; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of the file: prefix, header as JSON, padding to a page, data."""

    header: bytes
    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, key: CacheKey, shape: Sequence[int], dtype: torch.dtype) -> "Layout":
        """The layout of a new entry."""
        form = {"key": json.loads(key.text), "shape": list(shape), "dtype": str(dtype).removeprefix("torch.")}
        return cls(json.dumps(form, sort_keys=True, separators=(",", ":")).encode(), tuple(shape), dtype)

    @property
    def offset(self) -> int:
        """Bytes before the data."""
        return -(-(PREFIX.size + len(self.header)) // PAGE) * PAGE

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def tensor(self, mapping: mmap.mmap) -> Tensor:
        """The data of the mapping as a tensor, which keeps the mapping alive."""
        count = math.prod(self.shape)
        return torch.frombuffer(mapping, dtype=self.dtype, count=count, offset=self.offset).view(self.shape)

    def sha256(self, mapping: mmap.mmap, *, alone: bool = False) -> bytes:
        """SHA-256 over the header and the SHA-256s of the data's parts, computed by several threads; with `alone` by this one."""
        whole, firsts = memoryview(mapping), range(self.offset, self.size, PART)

        def part(first: int) -> bytes:
            return hashlib.sha256(whole[first : first + PART]).digest()

        if alone:
            return hashlib.sha256(self.header + b"".join(map(part, firsts))).digest()
        with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as threads:
            return hashlib.sha256(self.header + b"".join(threads.map(part, firsts))).digest()

    def seal(self, mapping: mmap.mmap, *, alone: bool = False) -> None:
        """Write prefix and header. Without them `read_entry` refuses the file. `alone` as in `sha256`."""
        mapping[PREFIX.size : PREFIX.size + len(self.header)] = self.header
        mapping[: PREFIX.size] = PREFIX.pack(MAGIC, VERSION, len(self.header), self.sha256(mapping, alone=alone))


def read_entry(descriptor: int, key: CacheKey, *, check: bool) -> Tensor:
    """The entry's tensor, mapped. With `check` the whole file is read and its SHA-256 compared. Raises DamagedEntry, OSError.

    The mapping is copy-on-write: its pages are shared with all processes that map the file, and an accidental write does not reach it.
    """
    if (size := os.fstat(descriptor).st_size) < PAGE:
        raise DamagedEntry("truncated")
    mapping = mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE | WITHOUT_RESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    magic, version, length, sha256 = PREFIX.unpack_from(mapping)
    if magic != MAGIC or version != VERSION:
        raise DamagedEntry("no entry of this version")
    layout = _layout(bytes(mapping[PREFIX.size : PREFIX.size + length]), key)
    if layout.size != size:
        raise DamagedEntry(f"{size} bytes in place of {layout.size}")
    if check and layout.sha256(mapping) != sha256:
        raise DamagedEntry("other content than when it was written")
    return layout.tensor(mapping)


def _layout(header: bytes, key: CacheKey) -> Layout:
    try:
        form = json.loads(header)
        dtype = getattr(torch, form["dtype"])
        layout = Layout(header, tuple(int(length) for length in form["shape"]), dtype)
        same = form["key"] == json.loads(key.text)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DamagedEntry("its header is damaged") from None
    if not isinstance(dtype, torch.dtype) or min(layout.shape, default=1) < 1:
        raise DamagedEntry("its header is damaged")
    if not same:
        raise DamagedEntry("the entry of another key")
    return layout


RETRY_SECONDS = 0.02  # `is_building` takes a lock itself, for microseconds; a single try could fail because of it
ROOM_POLL_SECONDS = 0.01


def lock_draft(path: Path, *, create: bool, retry_seconds: float = RETRY_SECONDS) -> int | None:
    """A descriptor that holds the lock of the draft; None if another holder has it, or the file does not exist.

    The descriptor is not inherited by child processes. The lock excludes other threads as well as other processes: it belongs to the
    open file, and each call opens the file again. The kernel frees it when the process dies, so no lock is ever stale.
    """
    deadline = time.monotonic() + retry_seconds
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
        except FileNotFoundError:
            return None
        # Between open and lock the previous holder may have renamed or removed the file. A lock on such a file excludes nobody, since
        # others open a new file at the path; so it counts only if the path still names the locked file. `filelock.FileLock` notices a
        # removed file, but not one that was renamed: it would lock the committed entry.
        if lock_descriptor(descriptor, blocking=False) and _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.001)


def is_building(path: Path) -> bool:
    """Whether the lock of the draft is held."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # A shared lock, which filelock does not have: over NFS an exclusive one needs write access, also to drafts of other users.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def unlock(descriptor: int) -> None:
    """Release the lock and close the descriptor."""
    unlock_descriptor(descriptor)  # explicitly: a memory mapping has duplicated the descriptor, so closing would not release it
    os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


ENTRY = ".tensor"
DRAFT = ".draft"
DISK_RESERVE = 10**9  # bytes of the disk that stay free; of a small disk, DISK_RESERVE_SHARE
DISK_RESERVE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file of the cache."""

    path: Path
    size: int  # bytes
    used: int  # time of the last use, nanoseconds since 1970


def make_room(folder: Path, needed: int, max_bytes: int, floor_bytes: int = 0) -> bool:
    """Evict least recently used entries until `needed` more bytes fit. Returns False, and evicts nothing, if they cannot fit.

    `floor_bytes` of the disk stay free, or the usual reserve if that is more. The caller holds the lock of the folder.
    """
    remove_orphans(folder)
    entries, drafts = list(stored_files(folder, ENTRY)), list(stored_files(folder, DRAFT))
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


def stored_files(folder: Path, suffix: str) -> Iterator[CachedFile]:
    """The cache's files with that suffix, of all kinds of keys."""
    for path in folder.glob(f"*/*{suffix}"):
        try:
            status = path.stat()
        except FileNotFoundError:  # another process removed it
            continue
        yield CachedFile(path, status.st_size, status.st_mtime_ns)


def remove_orphans(folder: Path) -> None:
    """Remove drafts whose builders are dead: those whose lock is free."""
    for orphan in folder.glob(f"*/*{DRAFT}"):
        if (descriptor := lock_draft(orphan, create=False, retry_seconds=0)) is not None:
            orphan.unlink(missing_ok=True)
            unlock(descriptor)
            log.info("%s was removed: its builder died", orphan.name)


class Commits:
    """Commits in the background, one at a time."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def start(self, commit: Callable[[], object]) -> None:
        """Begin a commit. Waits for the end of the one before."""
        self.wait()
        # Not a daemon: the interpreter waits for it at its end. A process that is killed leaves a draft whose lock is free.
        self._thread = threading.Thread(target=commit, name="committing")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the commit that is under way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None


class Draft:
    """An entry under construction. Leaving the context without `commit` discards it, as does the death of the process."""

    tensor: Tensor
    """Zeros, to be filled. It is a shared mapping of the file: it must not be written to after `commit`."""

    def __init__(self, path: Path, descriptor: int, layout: Layout, committed: Callable[[int], Tensor], commits: Commits) -> None:
        self._path, self._descriptor, self._layout, self._committed, self._commits = path, descriptor, layout, committed, commits
        self._mapping = mmap.mmap(descriptor, layout.size)
        self._open, self._handed_over = True, False  # handed over to the thread that commits
        self.tensor = layout.tensor(self._mapping)

    def commit(self) -> Tensor:
        """Flush the file to the disk and make it an entry; returns the entry's tensor, mapped as by `find`. Raises OSError."""
        return self._commit(alone=False)

    def commit_later(self) -> None:
        """Begin to commit in a thread, which holds the draft's lock until the end. If the disk refuses it, this is logged.

        The draft may be left at once, and its tensor must not be written to any more. Waits for an earlier commit of the cache.
        """
        self._commits.start(self._commit_alone)
        self._handed_over = True

    def _commit_alone(self) -> None:
        try:
            self._commit(alone=True)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
        finally:
            self._discard()

    def _commit(self, *, alone: bool) -> Tensor:
        # Order matters: the header is written last and the rename follows the fsync, so that under the entry's name there is never a
        # partial file, even after a power failure. The lock is freed after the rename, so that no waiter builds the entry again.
        self._layout.seal(self._mapping, alone=alone)
        self._mapping.flush()
        os.fsync(self._descriptor)
        self._path.replace(self._path.with_suffix(ENTRY))
        self._open = False
        found = self._committed(self._descriptor)
        unlock(self._descriptor)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._handed_over:
            self._discard()

    def _discard(self) -> None:
        """Remove the file unless it is an entry by now."""
        if self._open:
            self._open = False
            self._path.unlink(missing_ok=True)
            unlock(self._descriptor)


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
        self._lock, self._commits = threading.Lock(), Commits()
        if folder is not None and folder.is_dir():
            remove_orphans(folder)

    @classmethod
    def none(cls) -> "Cache":
        """A cache that keeps nothing."""
        return cls(None, 0)

    def find(self, key: CacheKey) -> Tensor | None:
        """The entry, mapped and shared, read-only; None if it is absent. A damaged entry is removed and counts as absent."""
        if self.folder is None:
            return None
        digest = key.digest
        path = _place(self.folder, key, digest, ENTRY)
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
            except DamagedEntry as fault:
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
            found = read_entry(descriptor, key, check=self._checked.get(digest) != identity)
        finally:
            os.close(descriptor)
        self._checked[digest], self._live[digest] = identity, found
        return found

    def holds(self, key: CacheKey) -> bool:
        """Whether the entry's file exists. Does not check it, and does not count as a use."""
        return self.folder is not None and _place(self.folder, key, key.digest, ENTRY).exists()

    def begin(self, key: CacheKey, shape: Sequence[int], dtype: torch.dtype) -> Draft | None:
        """Begin a new entry. None if it is empty, does not fit, is being built (`busy`), or has just been built (`find`)."""
        if self.folder is None or math.prod(shape) == 0:
            return None
        path = _place(self.folder, key, key.digest, DRAFT)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if (descriptor := lock_draft(path, create=True)) is None:
                return None
            with ExitStack() as undo:
                undo.callback(unlock, descriptor)
                undo.callback(path.unlink, missing_ok=True)
                layout = Layout.of(key, shape, dtype)
                if path.with_suffix(ENTRY).exists() or not self._reserved(self.folder, descriptor, layout.size):
                    return None
                draft = Draft(path, descriptor, layout, partial(self._adopted, key), self._commits)
                undo.pop_all()  # the draft frees the lock from now on
                return draft
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error)
            return None

    def busy(self, key: CacheKey) -> bool:
        """Whether another process or thread is building the entry."""
        return self.folder is not None and is_building(_place(self.folder, key, key.digest, DRAFT))

    def wait(self) -> None:
        """Wait until drafts of this process that are committed in the background are entries."""
        self._commits.wait()

    def _reserved(self, folder: Path, descriptor: int, size: int) -> bool:
        """Make room for the draft and allocate all of its blocks. Returns False if it does not fit.

        A sparse file would fail later: when the disk is full, a write to the mapping raises SIGBUS and kills the process.
        """
        # One process at a time counts and allocates. Two at once would each count without the other's draft and exceed the limit together.
        with FileLock(folder / "room.lock", poll_interval=ROOM_POLL_SECONDS, fallback_to_soft=False):
            for digest in list(self._live):  # reading a mapping does not update the time of use
                for path in folder.glob(f"*/{digest}{ENTRY}"):
                    with suppress(OSError):
                        os.utime(path)
            os.ftruncate(descriptor, 0)  # discard the content that a dead builder left, so that the tensor is zeros
            if not make_room(folder, size, self.max_bytes, self.floor_bytes):
                return False
            if sys.platform == "linux":
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.ftruncate(descriptor, size)
        return True

    def _adopted(self, key: CacheKey, descriptor: int) -> Tensor:
        """Map the file that this process has just committed; its SHA-256 needs no check."""
        digest, found = key.digest, read_entry(descriptor, key, check=False)
        with self._lock:
            self._checked[digest], self._live[digest] = _identity(descriptor), found
        return found


def _place(folder: Path, key: CacheKey, digest: str, suffix: str) -> Path:
    return folder / key.kind / f"{digest}{suffix}"


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
