"""Counts the floating-point operations of a list: those that an engine executes, and those that no other trial has done."""

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.replay.orders import THREADS
from bench.replay.workloads import Workload
from trainer.data.images.dataset import find
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.networks.factory import staged

COUNTED = 4  # images used for counting; the operations per image do not depend on their number
PEAK_SIZE, PEAK_ROUNDS = 2_048, 9


@dataclass(frozen=True)
class Costs:
    """Operations per image, and the number of images."""

    forward: tuple[float, ...]  # per stage, then of the head
    step: tuple[float, ...]  # by number of frozen stages: forward and backward pass of the rest
    training: int
    validation: int

    def between(self, first: int, end: int | None = None) -> float:
        """Forward pass of the stages from `first` up to `end`, or up to and including the head if `end` is None."""
        return sum(self.forward[first:end])

    def trial(self, config: ImageClassificationConfig, depth: int = 0) -> float:
        """A trial that reads the stored output of the first `depth` stages and computes the rest in each epoch."""
        k = config.frozen_layers
        epoch = self.training * (self.between(depth, k) + self.step[k]) + self.validation * self.between(depth)
        return config.epochs * epoch

    def stored(self, depth: int) -> float:
        """The first `depth` stages, once per image."""
        return (self.training + self.validation) * self.between(0, depth)

    def executed(self, configs: Mapping[int, ImageClassificationConfig], depths: Mapping[int, int]) -> float:
        """The trials, each from its depth, plus one computation from the pixels for each depth that is read."""
        return sum(self.trial(config, depths[number]) for number, config in configs.items()) + sum(map(self.stored, set(depths.values())))

    def unique(self, configs: Iterable[ImageClassificationConfig]) -> float:
        """The frozen stages once for all trials, plus the trainable part of each trial. Valid only without augmentation."""
        listed = list(configs)
        return sum(self.trial(config, config.frozen_layers) for config in listed) + self.stored(max(each.frozen_layers for each in listed))


def count(workload: Workload) -> Costs:
    """Counted by torch on a few images: FLOPs of matrix products and convolutions, two per multiply-add."""
    found = find(workload.data)
    model = staged(workload.model.name, len(found.classes), workload.image_size)
    forward, features = list[float](), torch.zeros(COUNTED, 3, workload.image_size, workload.image_size)
    for part in (*model.stages, model.head):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            features = part(features)
        forward.append(counter.get_total_flops() / COUNTED)
    steps = list[float]()
    for frozen in range(len(model.stages) + 1):
        images = torch.zeros(COUNTED, 3, workload.image_size, workload.image_size)
        model.freeze(frozen)
        inputs = model.forward_prefix(images, frozen)
        with FlopCounterMode(display=False) as counter:
            model.forward_from(inputs, frozen).sum().backward()  # type: ignore[no-untyped-call]
        steps.append(counter.get_total_flops() / COUNTED)
    return Costs(tuple(forward), tuple(steps), found.counts["train"], found.counts["validation"])


def peak() -> float:
    """Measured FLOP/s of a float32 matrix product on this machine."""
    torch.set_num_threads(THREADS)
    left, right = torch.randn(PEAK_SIZE, PEAK_SIZE), torch.randn(PEAK_SIZE, PEAK_SIZE)
    seconds = list[float]()
    for _ in range(PEAK_ROUNDS):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return float(2 * PEAK_SIZE**3 / statistics.median(seconds))
