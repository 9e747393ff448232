"""The tensors that a weights file holds, by name and shape, compared with the catalogue. Nothing in the file is executed."""

import io
import json
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import trainer.catalogue as catalogue
from search_spaces import Fault
from service.domain.spec import StudySpec

PLACE = ("model", "weights")
MAX_HEADER = 100 * 2**20  # bytes, as in the safetensors format
LISTED = 5
WRAPPER = re.compile(r"^(?:module\.)+")
NESTED_KEYS = ("state_dict", "model", "model_state_dict")


class Unreadable(Exception):
    """The file is not what its name says."""


def weights_faults(spec: StudySpec) -> Iterator[Fault]:
    """What is wrong with the weights file: missing, unreadable, or made for another network."""
    if (path := spec.model.weights_file) is None:
        return
    if not _is_there(Path(path)):
        yield Fault(
            PLACE,
            "missing_weights",
            "there is no such file here; correct the path, or write data.location: workers if only the workers see it",
        )
        return
    try:
        shapes = read_shapes(Path(path))
    except (Unreadable, OSError):
        yield Fault(
            PLACE,
            "unreadable_weights",
            "this is neither a safetensors file nor a state dict saved by torch.save; convert it to safetensors",
        )
        return
    yield from _unfit(catalogue.load(spec.model.name), {WRAPPER.sub("", name): shape for name, shape in shapes.items()})


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long for the disk
        return False


def _unfit(model: catalogue.Model, found: Mapping[str, tuple[int, ...]]) -> Iterator[Fault]:
    """The head is made anew, so only the stages must be there; `num_batches_tracked` counts steps and may be missing."""
    wanted = {name: shape for stage in model.stages for name, shape in stage.tensors.items() if not name.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - found.keys())
    strange = sorted(name for name in found.keys() - model.tensors.keys())
    unlike = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name] and name not in model.resizable)
    parts = [
        f"{len(names)} {what} ({', '.join(name[:80] for name in names[:LISTED])}{', …' if len(names) > LISTED else ''})"
        for what, names in (("missing", missing), ("unexpected", strange), ("of another shape", unlike))
        if names
    ]
    if parts:
        yield Fault(
            PLACE,
            "unfit_weights",
            f"the file's tensors do not fit {model.name}: {'; '.join(parts)}; give weights of this model, or name the model they are for",
        )


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a safetensors file or a zipped state dict. Raises Unreadable."""
    with path.open("rb") as file:
        try:
            return _safetensors(file) if path.suffix.lower() == ".safetensors" else _state_dict(file)
        except (OSError, Unreadable):
            raise
        except Exception as error:  # zipfile, zlib, pickle and json answer a damaged or foreign file with nearly anything
            raise Unreadable(str(error)) from None


def _safetensors(file: BinaryIO) -> dict[str, tuple[int, ...]]:
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= MAX_HEADER:
        raise Unreadable("no header")
    header: dict[str, Any] = json.loads(file.read(length))
    return {name: tuple(int(size) for size in entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


class _Shape(tuple[int, ...]):
    """Stands for a tensor while its file is read."""


class _ShapeUnpickler(pickle.Unpickler):
    """Rebuilds the structure of a state dict with shapes in place of tensors; knows these names and no others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda _storage, _offset, size, *_rest: _Shape(size)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda shape, *_rest: shape
        if module in ("torch", "torch.storage") and name.endswith(("Storage", "16", "32", "64", "uint8", "int8", "bool")):
            return name
        raise Unreadable("it holds more than tensors")

    def persistent_load(self, _pid: Any) -> None:
        return None


def _state_dict(file: BinaryIO) -> dict[str, tuple[int, ...]]:
    with zipfile.ZipFile(file) as archive:
        entry = next(name for name in [*archive.namelist(), ""] if name.endswith("data.pkl") or not name)
        if archive.getinfo(entry).file_size > MAX_HEADER:
            raise Unreadable("too large")
        content = _ShapeUnpickler(io.BytesIO(archive.read(entry))).load()
    for key in NESTED_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    return {str(name): tuple(shape) for name, shape in content.items() if isinstance(shape, _Shape)}
