"""Runs whose frozen stages are worth storing, and what they leave behind."""

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.cache import Cache
from trainer.features import Inputs, inputs_for
from trainer.loop import train
from trainer.preparation import Expected, PreparedRun, prepare
from trainer.protocol import EpochMetrics, RunPrepared
from trainer.stopwatch import Stopwatch
from trainer.tasks.image_classification.config import ImageClassificationConfig

CPU = torch.device("cpu")
TOLERANCE = 1e-4  # of float32: a matrix product rounds by the size of its batch, and training carries it on
MUCH = 1e9  # epochs that a study has still to come: everything is worth storing


Configure = Callable[..., ImageClassificationConfig]
Paint = Callable[..., Path]


class Run:
    """What a run told."""

    def __init__(self, facts: Iterable[Any]) -> None:
        reported = list(facts)
        (self.prepared,) = (fact for fact in reported if isinstance(fact, RunPrepared))
        measured = [fact for fact in reported if isinstance(fact, EpochMetrics)]
        self.metrics = [dict(fact.metrics) for fact in measured]
        pace, reuse = measured[-1].pace, self.prepared.reuse
        assert pace is not None and reuse is not None
        self.pace, self.reuse = pace, reuse


def run(config: ImageClassificationConfig, cache: Cache, demand: float = MUCH, **options: Any) -> Run:
    """A whole run in a study that has `demand` epochs to come with as many frozen stages."""
    device = options.pop("device", CPU)
    return Run(train(config, device=device, cache=cache, demand={config.frozen_layers: demand}, **options))


def task_of(config: ImageClassificationConfig, cache: Cache | None = None) -> PreparedRun:
    return prepare(config, CPU, Expected(), cache or Cache.none())


def inputs_of(task: PreparedRun, cache: Cache, demand: float = MUCH) -> Inputs:
    return inputs_for(task, cache, {task.config.frozen_layers: demand}, Stopwatch())


def drained(waiting: Generator[object, None, object]) -> int:
    """How many signs it gave."""
    return sum(1 for _ in waiting)


def entries(cache: Cache) -> list[Path]:
    """The stored outputs."""
    assert cache.folder is not None
    return sorted(cache.folder.glob("features/*.tensor"))


def same(one: Run, other: Run) -> bool:
    """Whether both told the same metrics in each epoch, but for rounding."""
    return [pytest.approx(metrics, rel=TOLERANCE, abs=TOLERANCE) for metrics in one.metrics] == other.metrics
