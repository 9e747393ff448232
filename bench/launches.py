"""Counts what a device is asked to do in one step of heads trained together: kernels, and copies for which the host waits.

    python -m bench.launches [--record] [--members 128]

It counts dispatched operations that are not views, of the head of a ResNet-50 with ten classes. Nothing is computed: the tensors are on
the device "meta", for which the trainer takes the same path as for a GPU. An operation is one kernel or, inside cuBLAS, a few.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.tables import machine, record, table
from trainer.heads import ensemble
from trainer.heads.layers import Noise
from trainer.heads.stack import split_head
from trainer.preparation import PreparedRun
from trainer.stopwatch import Stopwatch
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.image_classification.task import TASK
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks.factory import staged

CPU, META = torch.device("cpu"), torch.device("meta")
MODEL, CLASSES, SIZE, WIDTH = "resnet50", 10, 64, 2048
BATCHES = (64, 256)
STEPS = 4  # of which the last is counted; the first ones fill buffers
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
HEAD = ("members", *(f"batch {batch}: {what}" for batch in BATCHES for what in ("launches", "copies that wait")))

Changes = Callable[[float], Mapping[str, Any]]
"""A member's place, 0 to 1 → its hyperparameters."""


def _all_own(place: float) -> dict[str, Any]:
    return {
        "dropout": 0.1 + 0.4 * place, "beta1": 0.8 + 0.1 * place, "label_smoothing": 0.2 * place, "optimizer": _optimizer(place),
    }  # fmt: skip


def _optimizer(place: float) -> str:
    return OPTIMIZERS[int(place * 1000) % 4]


KINDS: Mapping[str, Changes] = {
    "alike": lambda place: {},
    "own dropout": lambda place: {"dropout": 0.1 + 0.4 * place},
    "own betas": lambda place: {"beta1": 0.8 + 0.1 * place, "beta2": 0.9 + 0.09 * place},
    "four optimizers": lambda place: {"optimizer": _optimizer(place)},
    "bfloat16": lambda place: {"precision": "bfloat16"},
    "label smoothing": lambda place: {"label_smoothing": 0.2 * place},
    "all of these at once, float32": _all_own,
    "all of these at once, bfloat16": lambda place: {**_all_own(place), "precision": "bfloat16"},
    "all of these and weight decay, bfloat16": lambda place: {**_all_own(place), "precision": "bfloat16", "weight_decay": 0.1 * place},
}


class Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations inside the `with` block, by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches, self.waits = Counter[str](), Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name in ("lift_fresh", "_local_scalar_dense") or len(_devices((args, found))) > 1:  # new data, `item`, another device
            self.waits[name] += 1
        elif not name.startswith(("empty", "new_empty", "_unsafe_view")) and not _is_view(func):
            self.launches[name] += 1
        return found


def _devices(values: object) -> set[str]:
    """The devices of all tensors but those of a single number, which are passed to kernels as values."""
    match values:
        case Tensor():
            return {values.device.type} if values.ndim else set()
        case list() | tuple():
            return {device for value in values for device in _devices(value)}
        case _:
            return set()


def _is_view(func: Any) -> bool:
    return any(found.alias_info is not None and not found.alias_info.is_write for found in func._schema.returns)


class Outline(Noise):
    """Noise also on the device "meta", which has no generators."""

    def __init__(self, seed: int, device: torch.device) -> None:
        super().__init__(seed, CPU)
        self._device = device

    def field(self, shape: Sequence[int]) -> Tensor:
        return torch.empty(tuple(shape), dtype=torch.int16, device=META).random_() if self._device == META else super().field(shape)


def learner(changes: Changes, members: int, device: torch.device) -> ensemble.HeadEnsemble:
    """The heads of members that differ in `changes`."""
    with device:
        model = staged(MODEL, CLASSES, SIZE)
    model.freeze(len(model.stages)).eval()
    model.drawn = frozenset()  # all members begin with the values of the model, for "meta" has none to draw
    _, stack = split_head(model)
    run = SimpleNamespace(
        model=model,
        task=TASK,
        info=ImageClassificationInfo(classes=("a",) * CLASSES, images={}, fingerprint="", split="", weights_sha256=None),
        device=device,
        training_targets=torch.zeros(1, dtype=torch.int64, device=device),
    )
    data, base = ImageData(path="data"), ImageModel(name=MODEL)
    configs = [ImageClassificationConfig(data=data, model=base, seed=1, **changes(member / members)) for member in range(members)]
    return ensemble.HeadEnsemble.of(cast(PreparedRun, run), stack, configs, Stopwatch())


def count(changes: Changes, members: int, batch: int, device: torch.device = META) -> Dispatched:
    """The operations of one step. Data made by `torch.tensor` shows only on the device "cpu"."""
    with patch.object(ensemble, "Noise", Outline):
        heads = learner(changes, members, device)
        heads.begin(1, torch.full((STEPS, members), 1e-3, dtype=torch.float64))
    stored = torch.bfloat16 if changes(0).get("precision") == "bfloat16" else torch.float32
    features = torch.zeros(batch, WIDTH, dtype=stored, device=device)
    targets = torch.zeros(batch, dtype=torch.int64, device=device)
    for step in range(STEPS - 1):
        heads.step(step, features, targets)
    counted = Dispatched()
    with counted:
        heads.step(STEPS - 1, features, targets)
    return counted


def rows(members: int) -> list[tuple[object, ...]]:
    """The rows of the table."""
    found = list[tuple[object, ...]]()
    kinds = {f"{members} {name}": (changes, members) for name, changes in KINDS.items()}
    for name, (changes, some) in {"one alone": (KINDS["alike"], 1), **kinds}.items():
        counts = [count(changes, some, batch) for batch in BATCHES]
        found.append((name, *(counted.total() for of in counts for counted in (of.launches, of.waits))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    parser.add_argument("--members", type=int, default=128)
    asked = parser.parse_args()
    found = table(HEAD, rows(asked.members))
    print(found)
    if asked.record:
        title = f"Launches of a step of heads trained together: {machine(f'torch {torch.__version__}')}"
        record(title, f"The head of {MODEL}, {CLASSES} classes. `python -m bench.launches`.\n\n{found}")


if __name__ == "__main__":
    main()
