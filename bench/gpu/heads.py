"""Speed of heads trained together: time, launches and blocking copies of a step."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from bench.gpu.material import cache, config, step_seconds, steps, synchronise
from bench.gpu.parts import Bench
from bench.launches import KINDS, count
from trainer.heads import HeadEnsemble
from trainer.learners import Member
from trainer.loop import Events, TrainingLoop
from trainer.tasks.images import catalogue

MEASURED = (
    "alike", "own dropout", "own betas", "four optimizers", "label smoothing", "all of these at once, float32",
    "all of these at once, bfloat16",
)  # fmt: skip
COUNTED_STEPS = 8  # from the second step of an epoch on: between two of the loop's checks for divergence, which wait for the device


def speed(bench: Bench) -> None:
    """Members of several kinds at two batch sizes."""
    batches = (64, 256) if not bench.tiny else (8,)
    for batch in batches:
        for kind in MEASURED:
            bench.case(f"{_members(bench)} members, {kind}, batch {batch}", partial(_step, bench, kind, batch), 8)
    for kind in MEASURED if bench.on_gpu else ():
        title = f"{_members(bench)} members, {kind}, batch {batches[0]}, counted by the driver"
        bench.case(title, partial(_counted, bench, kind, batches[0]), 6)
    for batch in batches:
        bench.case(f"launches, batch {batch}", partial(_launches, bench, batch), 5)


def _members(bench: Bench) -> int:
    return bench.sized(128, 6)


def _events(bench: Bench, kind: str, batch: int) -> Events:
    members, model, size = _members(bench), "resnet50" if not bench.tiny else "small_cnn", bench.sized(224, 16)
    stages = len(catalogue.load(model).stages)
    runs = [
        config(
            bench, model, size, bench.sized(6000, 60), pretrained=True, frozen_layers=stages, batch_size=batch, seed=member,
            **{"precision": "float32", **KINDS[kind](member / members)},
        )
        for member in range(members)
    ]  # fmt: skip
    demand = {stages: 10_000.0}  # passes still to come, so that storing the outputs of the frozen stages pays off
    loop = TrainingLoop([Member(config=run, demand=demand) for run in runs], HeadEnsemble.build, device=bench.device, cache=cache(bench))
    return loop.events()


def _step(bench: Bench, kind: str, batch: int) -> Mapping[str, object]:
    seconds = step_seconds(_events(bench, kind, batch), bench.device, bench.sized(10, 1) / 10)
    return {"ms_a_step": 1e3 * seconds, "images_per_second": batch / seconds}


def _launches(bench: Bench, batch: int) -> Mapping[str, object]:
    """Operations that the product dispatches in a step, and copies that wait, as `bench.launches` counts them without a device."""
    counted = {kind: count(KINDS[kind], _members(bench), batch) for kind in MEASURED}
    return {kind: {"launches": one.launches.total(), "copies_that_wait": one.waits.total()} for kind, one in counted.items()}


def _counted(bench: Bench, kind: str, batch: int) -> Mapping[str, object]:
    """Kernels and copies of a step on the GPU, and the lines that wait for it, in COUNTED_STEPS steps of the second epoch."""
    with closing(_events(bench, kind, batch)) as events:
        issued = steps(events)
        for event in issued:
            if event.epoch == 2:
                break
        synchronise(bench.device)
        with _waits() as waits, profile(activities=[ProfilerActivity.CUDA]) as measured:
            for _ in range(COUNTED_STEPS):
                next(issued)
            synchronise(bench.device)
    names = [event.name for event in measured.events() or () if event.device_type.name == "CUDA"]
    copies = sum(name.startswith("Memcpy") for name in names)
    return {
        "kernels_a_step": (len(names) - copies) / COUNTED_STEPS,
        "copies_a_step": copies / COUNTED_STEPS,
        "waits_a_step": waits.total() / COUNTED_STEPS,
        "waiting_lines": dict(waits.most_common(5)),
    }


@contextmanager
def _waits() -> Iterator[Counter[str]]:
    """Counts the operations for which the host waits, by the line that calls them. `synchronize` itself is not counted."""
    found = Counter[str]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            for warning in caught:
                if "synchronizing" in str(warning.message):
                    found[f"{Path(warning.filename).name}:{warning.lineno}"] += 1
