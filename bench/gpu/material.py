"""The data, weights and configurations of the measurements, and how a step is timed."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.gpu.parts import Bench, Unexpected
from service.worker.devices import cores
from trainer.cache import Cache
from trainer.loop import Events
from trainer.protocol import BatchProgress, EpochMetrics, Failed, Finished, Pace, RunPrepared, Unavailable
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks.factory import staged

CLASSES = 10
CACHE_BYTES = 20 * 10**9
WARM_STEPS = 4


def images(bench: Bench, count: int, side: int) -> Path:
    """A folder for each class with JPEG files of smooth noise, of a different mean colour for each class."""
    root = bench.folder / f"images-{count}-{side}"
    if root.exists():
        return root
    unfinished = root.with_suffix(".unfinished")
    for label in range(CLASSES):
        (unfinished / str(label)).mkdir(parents=True, exist_ok=True)

    def make(number: int) -> None:
        random, label = np.random.default_rng(number), number % CLASSES
        noise = random.integers(0, 200, (12, 12, 3)) + np.array([5 * label, 50 - 5 * label, 25 * (label % 3)])
        picture = Image.fromarray(noise.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(unfinished / str(label) / f"{number}.jpg", quality=90)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(make, range(count)))
    return unfinished.rename(root)


def weights(bench: Bench, name: str, size: int) -> Path:
    """A file with random weights of the model, which counts as pretrained."""
    file = bench.folder / f"{name}-{size}.safetensors"
    if not file.exists():
        torch.manual_seed(0)
        state = staged(name, CLASSES, size).network.state_dict()
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, file)
    return file


def config(bench: Bench, name: str, size: int, count: int, *, pretrained: bool = False, **changes: Any) -> ImageClassificationConfig:
    """A run of the model on `count` images."""
    model = ImageModel(name=name, weights=str(weights(bench, name, size))) if pretrained else ImageModel(name=name)
    values = {"epochs": 1000, "optimizer": "adamw", "lr": 1e-4, "image_size": size, **changes}
    return ImageClassificationConfig(data=ImageData(path=str(images(bench, count, bench.sized(256, 32)))), model=model, **values)


def cache(bench: Bench) -> Cache:
    """The cache that all parts share."""
    return Cache(bench.folder / "cache", CACHE_BYTES)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The events of a run that has ended."""

    prepared: RunPrepared | None
    epochs: list[EpochMetrics]
    end: Finished | Failed | Unavailable

    @property
    def finished(self) -> Finished:
        """The end of a run that went well. Raises Unexpected for any other end."""
        if not isinstance(self.end, Finished):
            raise Unexpected(f"the run ended as {self.end.kind}: {self.end.detail}")
        return self.end


def outcome(events: Events) -> Outcome:
    """Train to the end."""
    prepared, epochs = None, list[EpochMetrics]()
    with closing(events):
        for event in events:
            match event:
                case RunPrepared():
                    prepared = event
                case EpochMetrics():
                    epochs.append(event)
                case Finished() | Failed() | Unavailable():
                    return Outcome(prepared, epochs, event)
                case _:
                    pass
    raise Unexpected("the run ended without a last event")


def pace_of(epoch: EpochMetrics) -> Pace:
    """The pace of an epoch that this process has trained."""
    if epoch.pace is None:
        raise Unexpected("an epoch was reported without its pace")
    return epoch.pace


def steps(events: Events) -> Iterator[BatchProgress]:
    """The training steps of a run, each when it was issued. Raises Unexpected if the run fails."""
    for event in events:
        if isinstance(event, Failed | Unavailable):
            raise Unexpected(event.detail)
        if isinstance(event, BatchProgress) and event.batch:
            yield event


def step_seconds(events: Events, device: torch.device, seconds: float) -> float:
    """Mean time of a whole training step, over about that time, but at most three times as long with what is between the steps.

    The first steps, and the last batch of each epoch, which may be smaller, are not measured.
    """
    took, count, warm, until = 0.0, 0, WARM_STEPS, float("inf")
    started_at, first = 0.0, None
    with closing(events):
        for event in steps(events):
            if event.batches < 3:
                raise Unexpected(f"an epoch of {event.batches} batches is too short to time a step")
            if first is None and event.batch >= min(warm, event.batches - 2):
                synchronise(device)
                started_at, first = time.perf_counter(), event.batch
                until = min(until, started_at + 3 * seconds)
            elif first is not None and (event.batch == event.batches - 1 or time.perf_counter() - started_at > seconds):
                synchronise(device)
                took, count = took + time.perf_counter() - started_at, count + event.batch - first
                if took > seconds or time.perf_counter() > until:
                    return took / count
            if event.batch == event.batches:
                first, warm = None, 1
    raise Unexpected("the run has ended before the time of the measurement")


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def call_seconds(work: Callable[[], object], device: torch.device, seconds: float) -> tuple[float, float]:
    """Mean time of a call, and of the host's part of it, over about that time. If both are equal, the device waits for the host."""
    for _ in range(WARM_STEPS):
        work()
    synchronise(device)
    started_at, calls = time.perf_counter(), 0
    while calls < 2 or time.perf_counter() - started_at < seconds:
        work()
        calls += 1
        if calls % 8 == 0:
            synchronise(device)  # else the host would be ahead by more than the time of the measurement
    host = time.perf_counter() - started_at
    synchronise(device)
    return (time.perf_counter() - started_at) / calls, host / calls
