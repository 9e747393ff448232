"""Builds the model of an ImageTrainConfig and loads its weights: torchvision's, or those of a file."""

import hashlib
import io
import json
import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import cast
from urllib.parse import unquote, urlparse

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights

import trainer.tasks.images.catalogue as catalogue
from trainer.adapters.adapt import adapt, initial_values
from trainer.adapters.config import fault_of
from trainer.configuration import LoadedWeights
from trainer.files import UnfitFile, read_regular
from trainer.models import Infeasible, MissingWeights, StagedModel, UnfitModel, UnfitWeights, WeightsUnavailable
from trainer.tasks.images.config import IMAGENET_MEAN, IMAGENET_STD, ImageModel, ImageTrainConfig, Normalisation
from trainer.tasks.images.networks.families import BY_MODEL, Family
from trainer.tasks.images.selection import Selection, select
from trainer.weight_files import MOST_WEIGHTS_BYTES, Outline, read_outline
from trainer.weight_files.pickles import UnfitTensors, UnreadableWeights, conversion

MOST_NAMED = 5


def load_into(model: StagedModel, family: Family, tensors: Mapping[str, Tensor], config: ImageModel) -> frozenset[str]:
    """Load the tensors into the network except those of the classifier. Returns the names of the tensors that keep their initial values.

    Besides the classifier these are the head's other tensors if all are absent or have values that are not finite (torchvision's
    feature-only weights). Raises UnfitWeights with the names of the tensors that do not fit.
    """
    state = family.adapt(dict(tensors), model.network)
    wanted = model.network.state_dict()
    left = set(family.classifier_tensors)
    head = [name for name in model.tensors_of(model.head) if name not in left]
    if not _is_usable(state, head):
        left.update(head)
    state = {name: tensor for name, tensor in state.items() if name not in left}
    wanted = {name: tensor for name, tensor in wanted.items() if name not in left}
    if misfits := _misfits(state, wanted):
        raise UnfitWeights(unfit(str(config.weights), config.name, misfits))
    model.network.load_state_dict(state, strict=False)
    return frozenset(left)


def unfit(weights: str, model: str, misfits: str) -> str:
    """The error message for weights whose tensors do not fit."""
    return f"the tensors in {weights} do not fit {model}: {misfits}; give weights of this model, or name the model they are for"


def _is_usable(state: Mapping[str, Tensor], names: Collection[str]) -> bool:
    found = [state[name] for name in names if name in state]
    return bool(found) and all(map(_is_finite, found))


def _misfits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    shared = [name for name in wanted if name in state]
    kinds = {
        "missing": [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")],
        "unexpected": [name for name in sorted(state) if name not in wanted],
        "of another shape": [name for name in shared if state[name].shape != wanted[name].shape],
        "not of floating point": [n for n in shared if wanted[n].is_floating_point() and not state[n].is_floating_point()],
        "not finite": [name for name in shared if not _is_finite(state[name])],
    }
    return "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names)


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _some(names: list[str]) -> str:
    return ", ".join(name[:80] for name in names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")


LISTED, LONGEST = 5, 120  # names in LoadedWeights, and characters of each
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.")  # torch.hub's convention: resnet18-f37072fd.pth
SILENCE_SECONDS = 30.0  # socket timeout of a download


@dataclass(frozen=True, slots=True)
class Weights:
    """The model's tensors in a weights file, by the network's names. Shared between trials, so read-only."""

    sha256: str
    tensors: Mapping[str, Tensor]
    loaded: LoadedWeights
    normalisation: Normalisation  # of the images that the weights were trained on, as stated or assumed


def load(model: ImageModel) -> Weights | None:
    """The config's weights; None for random initial values. The last file is kept in memory for the following trials.

    Raises WeightsUnavailable if they cannot be loaded (MissingWeights if another machine may be able to), and UnfitWeights if the file is
    damaged or contains another model's tensors.
    """
    if not model.pretrained:
        return None
    if model.weights_file is not None:
        return _load(Path(model.weights_file), model.name, "")
    published = named(model.name, model.weights)
    return _load(_downloaded(published), model.name, _hash_prefix(published.url))


def _load(path: Path, model: str, hash_prefix: str) -> Weights:
    try:
        facts = path.stat()
        return _read(path, facts.st_mtime_ns, facts.st_size, model, hash_prefix)
    except FileNotFoundError:
        raise MissingWeights(f"there is no weights file {path}; correct the path") from None
    except UnfitFile as error:
        raise WeightsUnavailable(f"the weights file {path} cannot be read: {error.strerror}; give a regular file") from None
    except OSError as error:
        raise MissingWeights(f"the weights file {path} cannot be read ({error.strerror}); mend path or permissions") from None


def names(model: str) -> tuple[str, ...]:
    """Names of torchvision's weights of a model, without the enum's name; empty for a model that is not torchvision's."""
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
    raise WeightsUnavailable(f"{model} has no weights named {weights}; {listed}; or give a .safetensors, .pt or .pth file, or write random")


def _downloaded(weights: WeightsEnum) -> Path:
    """The file in torch.hub's cache, downloaded if it is not there yet."""
    name = unquote(PurePosixPath(urlparse(weights.url).path).name)
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if not path.is_file():
        try:
            with _bounded_silence():
                weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
        except Exception as error:  # network, proxy and disk errors of many types
            reason = getattr(error, "reason", None) or error
            raise MissingWeights(
                f"the weights {weights} could not be downloaded from {weights.url} ({reason}); "
                f"connect this machine to the internet, or put the file into {path.parent}, or give a local file as model.weights; "
                "write model.weights: random only if random initial values are meant"
            ) from None
    return path


@contextmanager
def _bounded_silence() -> Iterator[None]:
    """Set a socket timeout within the context: torch.hub sets none, so a server that stops sending would block the run forever."""
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
def _read(path: Path, mtime_ns: int, size: int, model: str, hash_prefix: str) -> Weights:
    content = read_regular(path, MOST_WEIGHTS_BYTES)  # read once, so that exactly the hashed bytes are loaded
    sha256 = hashlib.sha256(content).hexdigest()
    if not sha256.startswith(hash_prefix):
        raise MissingWeights(f"{path} is not the file that was published, perhaps cut short; delete it to download it again")
    try:
        outline = read_outline(io.BytesIO(content), path.name)
        selection = select(outline, catalogue.load(model), path.name)
    except UnreadableWeights as error:
        raise UnfitWeights(f"the weights file {path} cannot be used: {error}") from None
    except UnfitTensors as error:
        raise UnfitWeights(unfit(str(path), model, str(error))) from None
    state = _from_safetensors(content, path) if outline.format == "safetensors" else _from_torch(content, path, selection.container)
    try:
        tensors = {name: state[original] for name, original in selection.names.items()}
    except KeyError as error:  # for example a checkpoint with duplicate keys
        raise UnfitWeights(f"the weights file {path} cannot be used: it is damaged, the tensor {error} is missing") from None
    known = _known(model, sha256)
    return Weights(sha256, tensors, _loaded(outline, selection, known), _normalisation(outline, known))


def normalisation_of(model: ImageModel, found: Weights | None) -> Normalisation:
    """Mean and standard deviation of the model's input: the study's, else those of the weights, else ImageNet's."""
    own = found.normalisation if found is not None else Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD, source="default")
    if model.mean is None and model.std is None:
        return own
    return Normalisation(mean=model.mean or own.mean, std=model.std or own.std, source="study")


def _known(model: str, sha256: str) -> WeightsEnum | None:
    """The published weights with that SHA-256, if any: torchvision's file names contain the beginning of the hash."""
    enums = get_model_weights(model) if names(model) else ()
    return next((one for one in enums if (prefix := _hash_prefix(one.url)) and sha256.startswith(prefix)), None)


def _normalisation(outline: Outline, known: WeightsEnum | None) -> Normalisation:
    if known is not None:
        preset = known.transforms()
        return Normalisation(mean=tuple(preset.mean), std=tuple(preset.std), source="weights")
    if (stated := _stated(outline.metadata)) is not None:
        return stated
    return Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD, source="assumed")


def _stated(metadata: Mapping[str, str]) -> Normalisation | None:
    """The normalisation in the metadata of a safetensors file: in the config of our exports, or `mean` and `std` as JSON."""
    try:
        config = json.loads(metadata.get("config", "{}"))
        model = config.get("model", {}) if isinstance(config, dict) else {}
        if isinstance(model, dict) and model.get("mean") and model.get("std"):
            return Normalisation(mean=model["mean"], std=model["std"], source="metadata")
        if "mean" in metadata and "std" in metadata:
            return Normalisation(mean=json.loads(metadata["mean"]), std=json.loads(metadata["std"]), source="metadata")
    except (ValueError, RecursionError):  # metadata in another program's format
        return None
    return None


def _loaded(outline: Outline, selection: Selection, known: WeightsEnum | None) -> LoadedWeights:
    return LoadedWeights(
        format=outline.format,
        name=None if known is None else str(known),
        container=selection.container,
        prefix=selection.prefix,
        wrappers=selection.wrappers,
        unused=tuple(key[:LONGEST] for key in selection.unused[:LISTED]),
        left_out=len(selection.left_out),
        examples=tuple(name[:LONGEST] for name in selection.left_out[:LISTED]),
    )


def _from_safetensors(content: bytes, path: Path) -> Mapping[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise UnfitWeights(f"{path} is not a sound safetensors file ({error}); write it again") from None


def _from_torch(content: bytes, path: Path, keys: Sequence[str]) -> Mapping[str, Tensor]:
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        for key in keys:
            found = found[key]
    except MemoryError:
        raise
    except Exception:  # the unpickler raises many kinds of exceptions for a damaged file
        raise UnfitWeights(
            f"the weights file {path} cannot be used: torch's safe loader refuses it, because it is damaged or holds more than tensors; "
            f"{conversion(path.name, keys)}"
        ) from None
    return cast(Mapping[str, Tensor], found)


class UnfitImageSize(Infeasible):
    """The network cannot process images of this size."""


def build(config: ImageTrainConfig, outputs: int) -> StagedModel:
    """The model on the CPU with its weights loaded, a new last layer for the outputs, adapted and frozen as the config's method asks.

    Equal configs give models that are equal bit for bit; the new layers depend on the seed alone. Torch's random state is restored.
    Raises WeightsUnavailable, UnfitWeights, Infeasible for more frozen stages than the model has, UnfitImageSize, and UnfitModel
    for an unknown model.
    """
    _check(config)
    found = load(config.model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # the CPU's generator only, since the model is made on the CPU
        model = staged(config.model.name, outputs, config.image_size)
    fresh = initial_values(model, config)
    if found is not None:
        model.drawn = load_into(model, BY_MODEL[config.model.name], found.tensors, config.model)
    model.network.load_state_dict({**fresh, **model.fresh_head(config.seed)}, strict=False)
    for layer in model.head.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = config.dropout
    model.layer_decay = config.layer_decay
    return adapt(model, BY_MODEL[config.model.name].blocks(model), config)


def staged(name: str, outputs: int, image_size: int) -> StagedModel:
    """The model with initial values drawn from torch's random state, nothing frozen. Raises KeyError for an unknown name."""
    family = BY_MODEL[name]
    network = family.make(name, outputs, image_size)
    stages, head = family.split(network)
    return StagedModel(network, stages, head)


def _check(config: ImageTrainConfig) -> None:
    name, size = config.model.name, config.image_size
    if name not in catalogue.names():
        raise UnfitModel(f"the catalogue has no model named {name}; it has {', '.join(catalogue.names())}")
    model = catalogue.load(name)
    for title, count in (("frozen_layers", config.frozen_layers), ("lora_layers", config.lora_layers)):
        if count > len(model.stages):
            raise Infeasible(f"{name} has {len(model.stages)} stages to freeze, not {count}; lower {title}")
    if (fault := fault_of("method", config.method, model=name, stages=len(model.stages), methods=model.methods)) is not None:
        raise Infeasible(fault[1])
    if size < model.smallest_image:
        raise UnfitImageSize(f"{name} needs images of at least {model.smallest_image} pixels, not {size}; raise image_size")
    if size % model.image_step:
        raise UnfitImageSize(f"{name} needs images of a multiple of {model.image_step} pixels, not {size}; change image_size")
