"""Reads the content of weights files without torch: format, tensor names and shapes. Used by the server and the trainer."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import IO, Any, BinaryIO, Literal

from trainer.weight_files.pickles import (
    MOST_DIMENSIONS,
    DamagedPickle,
    Pickled,
    Storage,
    TensorOutline,
    UnreadableWeights,
    conversion,
    read_pickle,
)

MOST_WEIGHTS_BYTES = 32 * 2**30  # of a file; a ViT-H with its optimizer's state has 8 GB
MOST_HEADER_BYTES = 2 * 2**20  # of a safetensors header; the parsed JSON takes 25 times as much memory; 1,500 tensors take 200 KB
MOST_PICKLE_BYTES = 8 * 2**20
MOST_ENTRIES = 50_000  # tensors in a header, files in an archive

Format = Literal["safetensors", "torch", "legacy torch"]

DTYPES: Mapping[str, tuple[str, int]] = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2), "I64": ("int64", 8), "I32": ("int32", 4),
    "I16": ("int16", 2), "I8": ("int8", 1), "U8": ("uint8", 1), "BOOL": ("bool", 1),
}  # fmt: skip
LFS = b"version https://git-lfs.github.com/spec/"
PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of torch.save's format before torch 1.6
LEGACY_PROTOCOL = 1001
CUT_SHORT = "it is cut short, perhaps by a download that broke off; download it again"


@dataclass(frozen=True, slots=True)
class Outline:
    """The content of a weights file without the tensors' values."""

    format: Format
    root: Mapping[str, Any]
    """Names to TensorOutlines, to further mappings, or to None for other values."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    """Names and features that torch's safe loader refuses; the file must be converted."""


def read_outline(file: BinaryIO | IO[bytes], name: str) -> Outline:
    """The outline of a seekable file; `name` is its name without folders. Reads at most a few megabytes of it.

    Raises UnreadableWeights. A file that torch's safe loader refuses gives an Outline with `foreign` names.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(512)
    if not start:
        raise UnreadableWeights("it is empty; download it again")
    # First safetensors: it has no magic number but begins with the header's length, whose bytes could equal any of the marks below.
    if start[8:9] == b"{" and start[5:8] == bytes(3):
        return _safetensors(file, size)
    if start.startswith(LFS):
        raise UnreadableWeights("it is a Git LFS pointer, not the weights themselves; run `git lfs pull` in its repository")
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGES):
        raise UnreadableWeights("it is an HTML or XML page that was saved under this name; download the file itself")
    if start.startswith(b"\x1f\x8b"):
        raise UnreadableWeights("it is compressed by gzip; unpack it")
    if start.startswith(b"PK\x03\x04"):
        return _zipped(file, name)
    if start.startswith(b"\x80"):
        return _legacy(file, size, name)
    raise UnreadableWeights(
        "it is neither a safetensors file nor written by torch.save; "
        "give a .safetensors file, or a state dict saved by torch.save(model.state_dict(), …)"
    )


def _safetensors(file: BinaryIO | IO[bytes], size: int) -> Outline:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > MOST_HEADER_BYTES:
        raise UnreadableWeights(f"it has a safetensors header of {length:,} bytes; at most {MOST_HEADER_BYTES:,} are read")
    if 8 + length > size:
        raise UnreadableWeights(CUT_SHORT)
    file.seek(8)
    try:
        tensors, metadata, wanted = _header(json.loads(file.read(length)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UnreadableWeights("it is damaged: its safetensors header cannot be read; write it again") from None
    data = size - 8 - length
    if data < wanted:
        raise UnreadableWeights(f"{CUT_SHORT} (it has {data:,} of {wanted:,} bytes)")
    if data > wanted:
        raise UnreadableWeights("it is damaged: bytes follow its last tensor; write it again")
    return Outline("safetensors", tensors, metadata)


def _header(header: Any) -> tuple[dict[str, TensorOutline], dict[str, str], int]:
    """Tensors, metadata, and the number of bytes behind the header. Raises UnreadableWeights; ValueError and others if it is damaged."""
    if len(header) > MOST_ENTRIES:
        raise UnreadableWeights(f"it has more than {MOST_ENTRIES:,} tensors")
    metadata = {str(key): str(value) for key, value in (header.pop("__metadata__", None) or {}).items()}
    tensors, spans = dict[str, TensorOutline](), list[tuple[int, int]]()
    for name, entry in header.items():
        dtype, itemsize = DTYPES.get(entry["dtype"], (str(entry["dtype"]), 0))
        shape, (begin, end) = _shape(entry["shape"]), map(_size, entry["data_offsets"])
        if itemsize and prod(shape) * itemsize != end - begin:
            raise ValueError(name)
        tensors[name] = TensorOutline(shape, dtype)
        spans.append((begin, end))
    ends = [0, *(end for _, end in sorted(spans))]
    if [begin for begin, _ in sorted(spans)] != ends[:-1]:
        raise ValueError("the tensors overlap or have gaps")
    return tensors, metadata, ends[-1]


def _shape(sizes: Any) -> tuple[int, ...]:
    """At most MOST_DIMENSIONS sizes. The product of thousands of large integers takes minutes with the GIL held (denial of service)."""
    if len(sizes) > MOST_DIMENSIONS:
        raise ValueError(len(sizes))
    return tuple(_size(one) for one in sizes)


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError(value)
    return value


class _BoundedReader:
    """A file for zipfile with bounded reads: the end record of a hostile archive can state a directory of any size."""

    def __init__(self, file: BinaryIO | IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, lambda: True

    def read(self, count: int = -1) -> bytes:
        """At most MOST_PICKLE_BYTES. Raises UnreadableWeights."""
        if not 0 <= count <= MOST_PICKLE_BYTES:
            count = MOST_PICKLE_BYTES + 1
        found = self._file.read(count)
        if len(found) > MOST_PICKLE_BYTES:
            raise UnreadableWeights("it has a zip directory or a pickle that is too large for a state dict")
        return found


def _zipped(file: BinaryIO | IO[bytes], name: str) -> Outline:
    try:
        with zipfile.ZipFile(_BoundedReader(file)) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            if len(entries) > MOST_ENTRIES:
                raise UnreadableWeights(f"it is a zip archive of more than {MOST_ENTRIES:,} files")
            pickles = [entry for entry in entries if entry.endswith("/data.pkl") and entry.count("/") == 1]
            if not pickles:
                raise UnreadableWeights("it is a zip archive, but not one that torch.save wrote; give a state dict or a safetensors file")
            folder = pickles[0].removesuffix("data.pkl")
            if f"{folder}constants.pkl" in entries:
                lines = conversion(name).replace("torch.load(", "torch.jit.load(").replace(", weights_only=False)", ").state_dict()")
                raise UnreadableWeights(f"it is a TorchScript archive, not a state dict; {lines}")
            if entries[pickles[0]].file_size > MOST_PICKLE_BYTES:
                raise UnreadableWeights("it has a pickle that is too large for a state dict")
            found = read_pickle(archive.read(pickles[0]))
            sizes = {entry.removeprefix(f"{folder}data/"): info.file_size for entry, info in entries.items()}
    except UnreadableWeights:
        raise
    except OSError:
        raise
    except Exception:  # zipfile and zlib raise many kinds of exceptions for a damaged archive
        raise UnreadableWeights(f"{CUT_SHORT} (it begins as a zip archive by torch.save and has no sound end)") from None
    for storage in found.storages.values():
        if sizes.get(storage.key, -1) < storage.size:
            raise UnreadableWeights("it is damaged: the numbers of a tensor are missing")
    return Outline("torch", _mapping(found, name), foreign=tuple(found.foreign))


def _legacy(file: BinaryIO | IO[bytes], size: int, name: str) -> Outline:
    """torch.save's format before torch 1.6: five pickles (magic number, version, system, object, keys of storages), then the storages."""
    file.seek(0)
    content = file.read(MOST_PICKLE_BYTES)
    magic = read_pickle(content)
    if magic.root != LEGACY_MAGIC:
        whole = "" if magic.foreign or not isinstance(magic.root, Mapping) else " by pickle itself"
        raise UnreadableWeights(
            f"it is a pickle that torch.save did not write{whole}; save the state dict with torch.save(model.state_dict(), …), "
            "or as safetensors"
        )
    try:
        version = read_pickle(content, magic.end)
        system = read_pickle(content, version.end)
        found = read_pickle(content, system.end)
        keys = read_pickle(content, found.end)
    except DamagedPickle:
        if size > MOST_PICKLE_BYTES:
            raise UnreadableWeights("it has a pickle that is too large for a state dict, or is damaged") from None
        raise UnreadableWeights(CUT_SHORT) from None
    if version.root != LEGACY_PROTOCOL or not isinstance(keys.root, list):
        raise UnreadableWeights("it is damaged: its pickle cannot be read")
    wanted = keys.end + sum(8 + _stored(found.storages.get(key)) for key in keys.root if isinstance(key, str))
    if size < wanted:
        raise UnreadableWeights(f"{CUT_SHORT} (it has {size:,} of {wanted:,} bytes)")
    return Outline("legacy torch", _mapping(found, name), foreign=tuple(found.foreign))


def _stored(storage: Storage | None) -> int:
    return 0 if storage is None else storage.size


def _mapping(found: Pickled, name: str) -> Mapping[str, Any]:
    if isinstance(found.root, Mapping):
        return found.root
    if found.root is None and found.foreign:
        raise UnreadableWeights(
            f"it is a whole pickled object ({', '.join(found.foreign[:3])}), not a state dict; {conversion(name, is_model=True)}"
        )
    raise UnreadableWeights("it holds no state dict, a mapping of names to tensors; save model.state_dict()")
