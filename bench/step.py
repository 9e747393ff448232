"""Compares implementations of a training step, and of the frozen stages before it, on this machine.

    python -m bench.step [--record] [--rounds 7] [--only layout,optimizer] [--threads 2]

The alternatives run in turn within a round, in one process, so that other load on the machine affects all of them equally. The first
alternative is what the trainer uses; a ratio below 1 means that another one is faster. "differs" is the greatest relative difference of
the first loss or output from the trainer's. For torch.compile the compilation time is given separately, with the number of steps after
which it pays off.
"""

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bench.tables import machine, record, spread, table
from trainer.models import StagedModel
from trainer.tasks.images.networks.factory import staged

CLASSES, SIZE, BATCH = 10, 64, 32
MODELS = ("squeezenet1_1", "mobilenet_v2")
ROUND_SECONDS = 0.15  # per alternative
HEAD = ("what", "rival", "n", "ms", "of the trainer's", "differs")
Work = Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Contest:
    """Alternative implementations of the same work. The first one is what the trainer uses."""

    name: str
    rivals: Mapping[str, Work]
    per: int = 1  # images or steps per call, by which its time is divided
    notes: Mapping[str, str] = field(default_factory=dict)

    def rows(self, rounds: int) -> Iterator[tuple[str, ...]]:
        """The rows of the table."""
        first = {name: work() for name, work in self.rivals.items()}  # also warms up
        repeats = {name: max(1, round(ROUND_SECONDS / seconds(work))) for name, work in self.rivals.items()}
        times: dict[str, list[float]] = {name: [] for name in self.rivals}
        for _ in range(rounds):
            for name, work in self.rivals.items():
                times[name].append(1e3 * seconds(work, repeats[name]))
        ours, *_ = self.rivals
        for name, own in times.items():
            ratios = [mine / yours for mine, yours in zip(own, times[ours], strict=True)]
            ratio, differs = ("", "") if name == ours else (spread(ratios), f"{difference(first[name], first[ours]):.1e}")
            yield self.name, name + self.notes.get(name, ""), str(rounds), spread(own), ratio, differs


def seconds(work: Work, repeats: int = 1) -> float:
    """Mean time of one call over `repeats` calls."""
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - started) / repeats


def difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return 0.0  # the batch sizes differ
    return float((one.float() - other.float()).abs().max() / other.float().abs().max())


def model_of(name: str, frozen: int = 0) -> StagedModel:
    torch.manual_seed(0)
    return staged(name, CLASSES, SIZE).freeze(frozen)


def images(count: int = BATCH) -> Tensor:
    """Normalised images, channels last."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((count, 3, SIZE, SIZE), generator=generator).to(memory_format=torch.channels_last)


LABELS = torch.arange(BATCH) % CLASSES


def training(
    forward: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    batch: Tensor,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Work:
    """A function that performs one training step and returns the loss."""

    def step() -> Tensor:
        torch.manual_seed(0)  # the seed of dropout
        with precision():
            logits = forward(batch)
        loss = F.cross_entropy(logits.float(), LABELS)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), 1e-4, fused=True)


def half() -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16)


def layout() -> Iterator[Contest]:
    """The memory format of images and weights."""
    for name in MODELS:
        plain, last, both = (model_of(name) for _ in range(3))
        both.to(memory_format=torch.channels_last)
        yield Contest(f"{name}: training step", {
            "channels last": training(last, adamw(last), images()),
            "contiguous": training(plain, adamw(plain), images().contiguous()),
            "channels last, weights too": training(both, adamw(both), images()),
        })  # fmt: skip


def optimizer() -> Iterator[Contest]:
    """Implementations of the optimizer step, on the gradients of a whole network."""
    kinds: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
    }
    for name in MODELS:
        for kind, make in kinds.items():
            ways = {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": {"foreach": False}}
            if kind == "rmsprop":
                ways = {"loop": ways["loop"], "foreach": ways["foreach"]}  # has no fused implementation
            yield Contest(f"{name}: {kind} alone", {way: updating(name, make, options) for way, options in ways.items()})


def updating(name: str, make: Callable[..., torch.optim.Optimizer], options: Mapping[str, bool]) -> Work:
    model = model_of(name)
    chosen = make(model.parameters(), lr=1e-6, **({} if make is torch.optim.AdamW else {"momentum": 0.9}), **options)
    generator = torch.Generator().manual_seed(0)
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)

    def step() -> Tensor:
        chosen.step()
        return parameters[0].detach().clone()

    return step


def precision() -> Iterator[Contest]:
    """bfloat16 on a processor that has vector instructions for it but no matrix units."""
    for name in MODELS:
        single, narrow = model_of(name), model_of(name)
        yield Contest(f"{name}: training step", {
            "float32": training(single, adamw(single), images()),
            "bfloat16": training(narrow, adamw(narrow), images(), half),
        })  # fmt: skip
        still = model_of(name).eval()
        yield Contest(f"{name}: evaluation", {"float32": evaluating(still, images()), "bfloat16": evaluating(still, images(), half)})


def evaluating(
    model: Callable[[Tensor], Tensor],
    batch: Tensor,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
    mode: Callable[[], AbstractContextManager[object]] = torch.no_grad,
) -> Work:
    def run() -> Tensor:
        with mode(), precision():
            found: Tensor = model(batch)
        return found

    return run


def prefix() -> Iterator[Contest]:
    """The frozen stages: the autograd mode, and batch normalisation folded into the convolutions."""
    for name in MODELS:
        model = model_of(name).eval()
        stages = nn.Sequential(*model.stages)
        rivals = {
            "no_grad": evaluating(stages, images()),
            "inference_mode": evaluating(stages, images(), mode=torch.inference_mode),
            "no_grad, weights channels last": evaluating(copy.deepcopy(stages).to(memory_format=torch.channels_last), images()),
        }
        if any(isinstance(layer, nn.BatchNorm2d) for layer in stages.modules()):
            rivals["batch normalisation folded"] = evaluating(folded(stages), images())
        yield Contest(f"{name}: all stages", rivals)


def folded(stages: nn.Module) -> nn.Module:
    """A copy in which each BatchNorm2d is folded into the convolution directly before it."""
    stages = copy.deepcopy(stages)
    for layers in [part for part in stages.modules() if isinstance(part, nn.Sequential)]:
        names = list(layers._modules)
        for before, behind in pairwise(names):
            convolution, normalisation = layers._modules[before], layers._modules[behind]
            if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                layers._modules[before], layers._modules[behind] = fuse_conv_bn_eval(convolution, normalisation), nn.Identity()
    return stages


def batch() -> Iterator[Contest]:
    """The batch size of the frozen stages, on 256 images."""
    for name in MODELS:
        stages = nn.Sequential(*model_of(name).eval().stages)
        yield Contest(f"{name}: all stages, 256 images", {
            str(size): in_batches(stages, images(256), size) for size in (64, 32, 128, 256)
        })  # fmt: skip


def in_batches(stages: nn.Module, pixels: Tensor, size: int) -> Work:
    def run() -> Tensor:
        with torch.no_grad():
            return torch.cat([stages(some) for some in torch.split(pixels, size)])

    return run


def denormal() -> Iterator[Contest]:
    """Denormal numbers (below 1e-38) flushed to zero. They occur in Adam's moments, which decay where a gradient stays zero."""
    for name in MODELS:
        model = model_of(name)
        own = training(model, adamw(model), images())

        def flushed(work: Work = own) -> Tensor:
            torch.set_flush_denormal(True)
            found = work()
            torch.set_flush_denormal(False)
            return found

        yield Contest(f"{name}: training step", {"denormal numbers kept": own, "flushed to zero": flushed})


def compiled() -> Iterator[Contest]:
    """torch.compile with inductor, for one shape. A search compiles again for each batch size, depth and head."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # an empty cache, so that the compilation is measured
        model, other = model_of(MODELS[0]), model_of(MODELS[0])
        eager, quick = training(model, adamw(model), images()), training(torch.compile(other), adamw(other), images())
        eager()
        compiling = seconds(quick)
        earned = statistics.median(seconds(eager, 5) for _ in range(3)) - statistics.median(seconds(quick, 5) for _ in range(3))
        after = f"{compiling / earned:,.0f} steps" if earned > 0 else "no number of steps"
        note = f" ({compiling:.0f} s to compile, earned back after {after})"
        yield Contest(f"{MODELS[0]}: training step", {"eager": eager, "torch.compile": quick}, notes={"torch.compile": note})


CONTESTS = (layout, optimizer, precision, prefix, batch, denormal, compiled)


def results(chosen: Sequence[Callable[[], Iterator[Contest]]], rounds: int) -> str:
    """The table. Its rows are also printed on standard error when they are ready."""
    rows = list[tuple[str, ...]]()
    for contest in (contest for contests in chosen for contest in contests()):
        for row in contest.rows(rounds):
            print(*row, sep=" | ", file=sys.stderr)
            rows.append(row)
    return table(HEAD, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help=f"some of {', '.join(contest.__name__ for contest in CONTESTS)}, with commas between")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    wanted = asked.only.split(",") if asked.only else [contest.__name__ for contest in CONTESTS]
    found = results([contest for contest in CONTESTS if contest.__name__ in wanted], asked.rounds)
    print(found)
    if asked.record:
        title = f"The step: {machine(f'torch {torch.__version__}', f'torchvision {torchvision.__version__}')}"
        record(title, f"{SIZE} pixels, batch {BATCH}, {asked.threads} threads, CPU only. `python -m bench.step`.\n\n{found}")


if __name__ == "__main__":
    main()
