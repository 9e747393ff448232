"""The frozen stages of a model, and the keys under which their outputs are stored."""

import hashlib
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer import devices
from trainer.cache import CacheKey
from trainer.preparation import PreparedRun
from trainer.sequences import Features, Sequences


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """Shape, dtype and memory order of one example's output of a stage. An entry has a row for each example."""

    shape: tuple[int, ...]  # [C, H, W] of convolutions, [T, D] of tokens, [D] behind a pool
    dtype: torch.dtype
    channels_last: bool  # memory order; an output is stored in the order in which the next stage reads it

    @classmethod
    def of(cls, output: Tensor) -> "TensorLayout":
        """The layout of a batch's output [B, ...]."""
        contiguous = output.is_contiguous()
        channels_last = output.ndim == 4 and not contiguous and output.is_contiguous(memory_format=torch.channels_last)
        return cls(tuple(output.shape[1:]), output.dtype, channels_last)

    @property
    def size(self) -> int:
        """Bytes of one example's output."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def rows(self, output: Tensor) -> Tensor:
        """A batch's output [B, ...] → rows as they are stored, contiguous."""
        return (output.permute(0, 2, 3, 1) if self.channels_last else output).contiguous()

    def output(self, rows: Tensor) -> Tensor:
        """The inverse of `rows`, without a copy."""
        if not self.channels_last:
            return rows.view(-1, *self.shape)
        channels, *places = self.shape
        return rows.view(-1, *places, channels).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class SequenceLayout:
    """Shape and dtype of a stage's output at one position of a sequence. An entry has a row for each position, without padding."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes of the output at one position."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


Layout = TensorLayout | SequenceLayout


def layout_of(output: Features) -> Layout:
    """The layout of a batch's output."""
    if isinstance(output, Sequences):
        return SequenceLayout(tuple(output.values.shape[2:]), output.values.dtype)
    return TensorLayout.of(output)


def stored_rows(output: Features, layout: Layout) -> Tensor:
    """A batch's output as rows of an entry, [R, W]."""
    if isinstance(output, Sequences):
        return output.packed().flatten(1)
    if isinstance(layout, SequenceLayout):
        raise TypeError("the output of a stage was a sequence for one batch and a tensor for another")
    return layout.rows(output).flatten(1)


class FrozenPrefix:
    """The stages in the order of the forward pass, and as the last one the optional `tail`. Outputs of frozen stages can be stored.

    `tail` is the head's prefix (`trainer.heads.stack`): layers without parameters and random numbers, whose output can be stored too.
    """

    def __init__(self, run: PreparedRun, tail: nn.Module | None = None) -> None:
        self._config, self._device, self._model = run.config, run.device, run.model
        self.tail = tail
        self.device_name = devices.environment(run.device, run.config)["device"]
        self.modules = run.model.stages if tail is None else (*run.model.stages, tail)
        self.names = run.model.stage_names if tail is None else (*run.model.stage_names, " ".join(f"head {tail}".split()))

    @property
    def frozen(self) -> int:
        """The number of leading stages that are pure functions of the examples."""
        return self._model.frozen + (self.tail is not None and self._model.frozen == len(self._model.stages))

    def run(self, features: Features, start: int, end: int) -> Features:
        """The output of the first `start` stages → the output of the first `end`, in the run's precision, without gradient.

        Raises ValueError when one of them is not frozen.
        """
        if end > self.frozen:
            raise ValueError(f"the output of {end} stages cannot be stored; only {self.frozen} are frozen")
        for output in self.steps(features, start, end):
            features = output
        return features

    def steps(self, features: Features, start: int, end: int) -> Generator[Features, None, None]:
        """As `run`, one stage at a time. Also runs trainable stages, which must be in evaluation mode."""
        for module in self.modules[start:end]:
            with torch.no_grad(), devices.autocast(self._config, self._device):
                features = module(features)
            yield features


VERSION = 1  # raise it when the same stages compute other numbers, or when an entry's layout changes


def digest_of(run: PreparedRun, rows: Tensor) -> str:
    """SHA-256 over the contents of those rows, in order."""
    return hashlib.sha256(run.examples.keys[rows].numpy().tobytes()).hexdigest()


def key_of(run: PreparedRun, prefix: FrozenPrefix, depth: int, contents: str, view: int | None) -> CacheKey:
    """The key of the output of the first `depth` stages for the examples with the digest `contents`; `view` None if not augmented."""
    # The key holds everything that the stored numbers depend on. A missing field would let a run read another run's numbers without any
    # error. Equality is meant bit for bit, so everything that changes rounding is in it too: device, number of CPU threads, versions.
    return CacheKey(
        "features",
        {
            "version": VERSION,
            "model": run.config.model.name,
            "stages": prefix.names[:depth],
            "precision": run.config.precision,
            **({"tf32": True} if devices.computes_tf32(run.config, run.device) else {}),
            "view": view,
            "torch": torch.__version__,
            "device": [run.device.type, prefix.device_name],
            "threads": torch.get_num_threads() if run.device.type == "cpu" else None,
            **run.task.cache_key(run.config, run.info, contents, augmented=view is not None),
        },
    )
