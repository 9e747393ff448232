"""The key of a cache entry, and the format of its file."""

import hashlib
import json
import math
import mmap
import os
import struct
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Union

import torch
from torch import Tensor

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

    def sha256(self, mapping: mmap.mmap) -> bytes:
        """SHA-256 over the header and the SHA-256s of the data's parts, computed by several threads."""
        whole = memoryview(mapping)
        with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as threads:
            parts = threads.map(lambda first: hashlib.sha256(whole[first : first + PART]).digest(), range(self.offset, self.size, PART))
            return hashlib.sha256(self.header + b"".join(parts)).digest()

    def seal(self, mapping: mmap.mmap) -> None:
        """Write prefix and header. Without them `read` refuses the file."""
        mapping[PREFIX.size : PREFIX.size + len(self.header)] = self.header
        mapping[: PREFIX.size] = PREFIX.pack(MAGIC, VERSION, len(self.header), self.sha256(mapping))


def read(descriptor: int, key: CacheKey, *, check: bool) -> Tensor:
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
