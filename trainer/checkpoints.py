"""Checkpoints of runs, and the file of an exported model."""

import errno
import hashlib
import io
import json
import logging
import pickle
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from trainer import files
from trainer.configuration import DatasetInfo, TrainConfig
from trainer.protocol import Checkpoint, ModelExported

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """The state from which, with the config, the next epoch is computed. It holds no generator state: random numbers follow from seed and
    epoch.
    """

    step: int  # whole epochs
    run: str  # digest of config, data and weights; only a run with an equal digest may resume from this state
    model: Mapping[str, Tensor]  # trainable parameters and all buffers
    optimizer: Mapping[str, Any]  # torch's state dict
    train_loss: float
    lr: float
    seconds: float  # of training so far
    scaler: Mapping[str, Any] | None = None  # the state of the loss scaling; None without it, and then left out of the file


class Checkpoints:
    """The checkpoints of one attempt at a run: their folder, their interval, and the earlier ones to resume from.

    The state of the last whole epoch is held in host memory until it is written or the next epoch ends. So a run that is cancelled in the
    middle of an epoch loses no whole epoch. Without a folder nothing is held or written. The supervisor removes old files, since only it
    can read from the store which checkpoints are still referenced.
    """

    def __init__(
        self, folder: Path | None = None, *, seconds: float = 60.0, resume: Sequence[Checkpoint] = (), floor_bytes: int = 0
    ) -> None:
        """`seconds` is the least time between two checkpoints; `floor_bytes` of the disk stay free."""
        self.step = 0  # completed epochs
        self._folder, self._seconds, self._resume, self._floor_bytes = folder, seconds, tuple(resume), floor_bytes
        self._warned = False
        self._held: Callable[[], TrainingState] | None = None
        self._written_at = time.monotonic()
        if folder is not None:
            files.sweep(folder)

    def restore(self, run: str) -> TrainingState | None:
        """The newest sound state of that run, on the host; None when there is none, and the run starts at epoch 1."""
        for checkpoint in sorted(self._resume, key=lambda checkpoint: -checkpoint.step):
            try:
                state = read(checkpoint, run)
            except DamagedCheckpoint as fault:
                log.warning("checkpoint %s is passed over: %s", checkpoint.path, fault)
            else:
                self.step = state.step
                return state
        return None

    def hold(self, step: int, state: Callable[[], TrainingState]) -> None:
        """Record that round `step` is done. `state` is called only when the checkpoint is written, possibly during a later round."""
        self.step = step
        if self.keeps:
            self._held = state

    def detach(self, state: TrainingState | None) -> None:
        """Replace the function that is held, which may refer to a learner on the device, by its result; None discards it."""
        if self._held is not None:
            self._held = None if state is None else lambda: state

    @property
    def keeps(self) -> bool:
        """Whether there is a folder for checkpoints."""
        return self._folder is not None

    @property
    def due(self) -> bool:
        """Whether the held state should be written now."""
        return self._held is not None and time.monotonic() - self._written_at >= self._seconds

    def write(self) -> Checkpoint | None:
        """Write the held state. Returns None when nothing is held or the disk refuses; the run continues without a checkpoint."""
        if self._folder is None or self._held is None:
            return None
        self._written_at = time.monotonic()
        try:
            self._refuse_below_floor(self._folder)
            state, self._held = self._held(), None
            return _written(state, self._folder)
        except OSError as error:
            if not self._warned:
                log.warning("checkpoint after epoch %d is skipped, as are later ones while the cause persists: %s", self.step, error)
            self._warned = True
            return None

    def _refuse_below_floor(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < self._floor_bytes:
            raise OSError(errno.ENOSPC, f"{free} bytes of the disk are free, and {self._floor_bytes} must stay free")


def _written(state: TrainingState, folder: Path) -> Checkpoint:
    """Raises OSError."""
    path = folder / f"epoch-{state.step:06}.pt"
    content = {field.name: getattr(state, field.name) for field in fields(state) if field.name != "scaler" or state.scaler is not None}
    try:
        sha256 = files.write(path, lambda file: torch.save(content, file))
    except RuntimeError as error:  # torch's writer reports a failed write as RuntimeError
        raise OSError(errno.EIO, str(error)) from error
    return Checkpoint(step=state.step, path=str(path), sha256=sha256, size=path.stat().st_size)


def digest(config: TrainConfig, info: DatasetInfo) -> str:
    """SHA-256 of the resolved config, data, split and weights. A run resumes only from states with an equal digest.

    A run must be able to resume after an upgrade. So fields that are newer than version 0.1 are left out while they have their defaults,
    and random initial values are null, as in version 0.1.
    """
    resolved = config.model_dump(mode="json")
    if not config.model.pretrained:
        resolved["model"]["weights"] = None
    return hashlib.sha256(json.dumps([resolved, *info.identity], sort_keys=True).encode()).hexdigest()


class HeldState:
    """A copy of nested containers of tensors, each on the device of the tensor.

    The memory is allocated at the first copy, and again if a shape changes. Copying waits for no device; each copy overwrites the last.
    """

    def __init__(self) -> None:
        self._twins = list[Tensor]()
        self.state: Any = None  # the copy

    def hold(self, state: Any) -> None:
        """Copy all tensors with one operation for each device and number format."""
        tensors = tensors_in(state)
        if [_layout(tensor) for tensor in tensors] != [_layout(twin) for twin in self._twins]:
            self._twins = [torch.empty_like(tensor) for tensor in tensors]
        _copy(self._twins, tensors)
        twins = iter(self._twins)
        self.state = mapped(state, lambda tensor: next(twins))

    def put_back(self, state: Any) -> None:
        """Copy the held state into the tensors of `state`, which has the same layout."""
        _copy(tensors_in(state), self._twins)

    def on_host(self) -> Any:
        """The state on the host. Waits for the device."""
        return copied(self.state)


def _copy(into: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    groups = dict[tuple[torch.device, torch.dtype], list[int]]()
    for place, tensor in enumerate(tensors):
        groups.setdefault((tensor.device, tensor.dtype), []).append(place)
    with torch.no_grad():
        for places in groups.values():
            torch._foreach_copy_([into[place] for place in places], [tensors[place] for place in places])


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device, tensor.stride()


def tensors_in(state: Any) -> list[Tensor]:
    """The tensors of nested containers, in the order of `mapped`."""
    found = list[Tensor]()

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(state, note)
    return found


def copied(state: Any) -> Any:
    """A copy of nested containers of tensors on the host."""
    return mapped(state, lambda tensor: tensor.detach().to("cpu", copy=True))


def mapped(state: Any, change: Callable[[Tensor], Any]) -> Any:
    """The nested containers with each tensor replaced by `change` of it, in order."""
    match state:
        case Tensor():
            return change(state)
        case dict():
            return {key: mapped(item, change) for key, item in state.items()}
        case list() | tuple():
            return type(state)(mapped(item, change) for item in state)
        case _:
            return state


class DamagedCheckpoint(Exception):
    """The file is not the checkpoint that was written, or it belongs to another run."""


def read(checkpoint: Checkpoint, run: str) -> TrainingState:
    """The state in the file. Raises DamagedCheckpoint. The file is parsed only if its SHA-256 is right, and no code in it is executed."""
    try:
        content = Path(checkpoint.path).read_bytes()
    except OSError as error:
        raise DamagedCheckpoint(error.strerror or type(error).__name__) from None
    if hashlib.sha256(content).hexdigest() != checkpoint.sha256:
        raise DamagedCheckpoint(f"its SHA-256 differs ({len(content)} bytes, {checkpoint.size} were written)")
    try:
        state = TrainingState(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, TypeError, ValueError, EOFError, KeyError) as error:
        raise DamagedCheckpoint(f"it does not hold a state ({type(error).__name__})") from None
    if state.run != run or state.step != checkpoint.step:
        raise DamagedCheckpoint("it belongs to another run")
    return state


FORMAT = "thawline/1"


def export(network: nn.Module, config: TrainConfig, described: Mapping[str, str], path: Path) -> ModelExported:
    """Write the network's state dict atomically; the metadata holds `format`, the entries of `described`, and `config` as JSON."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {"format": FORMAT, **described, "config": config.model_dump_json()}
    content = safetensors.torch.save(tensors, metadata)
    return ModelExported(path=str(path), sha256=files.write(path, lambda file: file.write(content)))
