"""Pretrained weights, from a file or from torchvision, as a plain state dict with the hash of the file it came from."""

import hashlib
import io
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torchvision.models import WeightsEnum, get_model_weights

from trainer.contract import ModelConfig
from trainer.models.errors import UnfitWeights, WeightsUnavailable

WRAPPER = re.compile(r"^(?:module\.)+")  # what DataParallel puts before each name
NESTED_KEYS = ("state_dict", "model", "model_state_dict")  # where checkpoints keep their state dict
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.")  # torch.hub's: resnet18-f37072fd.pth
SILENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Weights:
    """A state dict as it lay in its file. Shared between trials: read, never changed."""

    sha256: str
    tensors: Mapping[str, Tensor]


def load(model: ModelConfig) -> Weights | None:
    """The weights that the config names, None when it names none. The last ones read are kept, so that trials do not read them again.

    Raises WeightsUnavailable when they cannot be had, UnfitWeights when the file holds no state dict.
    """
    if model.weights is None:
        return None
    if model.weights_file is not None:
        return _load(Path(model.weights_file), "")
    published = named(model.name, model.weights)
    return _load(_downloaded(published), _hash_prefix(published.url))


def _load(path: Path, hash_prefix: str) -> Weights:
    try:
        facts = path.stat()
        return _read(path, facts.st_mtime_ns, facts.st_size, hash_prefix)
    except FileNotFoundError:
        raise WeightsUnavailable(f"there is no weights file {path}; correct the path") from None
    except OSError as error:
        raise WeightsUnavailable(f"the weights file {path} cannot be read ({error.strerror}); mend path or permissions") from None


def names(model: str) -> tuple[str, ...]:
    """Torchvision's weights of a model, without the enum's own name; none for a model that is not torchvision's."""
    try:
        return tuple(weights.name for weights in get_model_weights(model))
    except ValueError:
        return ()


def named(model: str, weights: str) -> WeightsEnum:
    """Torchvision's weights of that name: `IMAGENET1K_V1`, `DEFAULT` or `ResNet18_Weights.IMAGENET1K_V1`."""
    if known := names(model):
        enum = get_model_weights(model)
        owner, _, name = weights.rpartition(".")
        if owner in ("", enum.__name__) and name in (*known, "DEFAULT"):
            return enum[name]
    listed = f"it has {', '.join(known)}" if known else "it has none"
    raise WeightsUnavailable(f"{model} has no weights named {weights}; {listed}; or give a .safetensors, .pt or .pth file")


def _downloaded(weights: WeightsEnum) -> Path:
    """The file in torch.hub's cache, downloaded if it is not there yet."""
    name = unquote(PurePosixPath(urlparse(weights.url).path).name)
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if not path.is_file():
        try:
            with _bounded_silence():
                weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
        except Exception as error:  # whatever sockets, servers, proxies and disks come up with
            reason = getattr(error, "reason", None) or error
            raise WeightsUnavailable(
                f"the weights {weights} could not be downloaded from {weights.url} ({reason}); "
                "connect this machine to the internet, or give a local file as model.weights"
            ) from None
    return path


@contextmanager
def _bounded_silence() -> Iterator[None]:
    """A server that falls silent ends the download; torch.hub itself would wait without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _hash_prefix(url: str) -> str:
    found = HASH_IN_NAME.search(url)
    return found.group(1) if found else ""


@lru_cache(maxsize=1)
def _read(path: Path, mtime_ns: int, size: int, hash_prefix: str) -> Weights:
    content = path.read_bytes()  # once, so that the hash is of what is loaded, and later changes of the file do not reach it
    sha256 = hashlib.sha256(content).hexdigest()
    if not sha256.startswith(hash_prefix):
        raise WeightsUnavailable(f"{path} is not the file that was published, perhaps cut short; delete it to download it again")
    tensors = _from_safetensors(content, path) if path.suffix.lower() == ".safetensors" else _from_torch(content, path)
    return Weights(sha256, {WRAPPER.sub("", name): tensor for name, tensor in tensors.items()})


def _from_safetensors(content: bytes, path: Path) -> Mapping[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise UnfitWeights(f"{path} is not a sound safetensors file ({error}); write it again") from None


def _from_torch(content: bytes, path: Path) -> Mapping[str, Tensor]:
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # the unpickler answers a damaged or foreign file with nearly anything
        raise UnfitWeights(
            f"{path} is damaged or holds more than tensors, which is never executed; "
            "save the state dict alone with torch.save(model.state_dict(), …), or as safetensors"
        ) from None
    return _state_dict(found, path)


def _state_dict(found: Any, path: Path) -> Mapping[str, Tensor]:
    for key in NESTED_KEYS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise UnfitWeights(f"{path} holds no state dict, a mapping of names to tensors; save model.state_dict()")
    return {str(name): tensor for name, tensor in found.items()}
