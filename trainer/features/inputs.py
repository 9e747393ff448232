"""The inputs of a run's trained part: the examples, or the stored output of frozen stages where the planner decides to store it."""

import copy
import logging
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from trainer import memory
from trainer.cache import Cache
from trainer.features import planner as measuring
from trainer.features.frozen_prefix import FrozenPrefix
from trainer.features.planner import Plan, Problem, Rates, plan
from trainer.features.source import ON_DEVICE, Direct, FeatureStore, Inputs, MemoryFeatureStore, Sign, Source, StoredExamples
from trainer.preparation import PreparedRun
from trainer.protocol import Reuse
from trainer.sequences import Features
from trainer.stopwatch import Stopwatch

log = logging.getLogger(__name__)
Place = Literal["none", "device", "memory", "disk"]

MEMORY = MemoryFeatureStore()  # used without a cache folder

Depths = tuple[int, int]


def inputs_for(run: PreparedRun, cache: Cache, demand: Mapping[int, float], stopwatch: Stopwatch, depths: Depths | None = None) -> Inputs:
    """The inputs of a single run, which trains everything behind its frozen stages; `demand` and `depths` as in `protocol.Run`."""
    if not run.model.frozen or depths == (0, 0):
        return Direct(run)
    with stopwatch("features"):
        prefix, storage = FrozenPrefix(run), FeatureStorage.of(cache, run)
        own = max(demand.get(prefix.frozen, 0.0), run.config.epochs)
        found = StoredFeatures(run, prefix, storage, {**demand, prefix.frozen: own}, stopwatch, depths=depths)
    return found if found.depth else Direct(run)


def stored_outputs(
    run: PreparedRun, cache: Cache, demand: Mapping[int, float], stopwatch: Stopwatch, tail: nn.Module, lanes: int = 1
) -> Inputs:
    """The inputs of `lanes` heads trained together: the output of all stages and of `tail`, the head's prefix.

    `tail` must have no parameters and draw no random numbers. Where the output is not stored it is computed, once for all heads.
    `demand` counts the epochs of every trial; one pass over the examples serves `lanes` of them. Raises ValueError when a stage is not
    frozen.
    """
    with stopwatch("features"):
        prefix, storage = FrozenPrefix(run, tail), FeatureStorage.of(cache, run)
        if prefix.frozen != len(prefix.modules):
            raise ValueError(f"heads trained together need all {len(run.model.stages)} stages frozen, not {run.model.frozen}")
        below = {frozen: passes for frozen, passes in demand.items() if frozen < run.model.frozen}
        own = max(demand.get(run.model.frozen, 0.0) / lanes, run.config.epochs)
        return StoredFeatures(run, prefix, storage, {**below, prefix.frozen: own}, stopwatch, lanes)


@dataclass(frozen=True, slots=True)
class FeatureStorage:
    """The place where outputs are stored, and its size."""

    store: FeatureStore
    folder: Path | None
    budget: int  # bytes
    device: torch.device

    @classmethod
    def of(cls, cache: Cache, run: PreparedRun) -> "FeatureStorage":
        """The cache's folder, or this process's memory if the cache has no folder. A device with more room than either has the outputs."""
        of_device = ON_DEVICE.budget(run.device)
        if cache.folder is None:
            return cls(MEMORY, None, max(MEMORY.budget, of_device), run.device)
        # The decoded examples are entries of the same cache; stored outputs must not evict them.
        return cls(cache, cache.folder, max(0, cache.max_bytes - run.examples.stored_bytes, of_device), run.device)

    def place(self, size: int) -> Place:
        """The place of entries of `size` bytes while they are read."""
        if ON_DEVICE.fits(size, self.device):
            return "device"
        return "memory" if self.folder is None else "disk"

    def read_seconds_a_byte(self, size: int) -> float:
        """Seconds to read one byte at random from entries of `size` bytes in total, once in each epoch."""
        source_device = self.device if ON_DEVICE.fits(size, self.device) else torch.device("cpu")
        seconds = measuring.gather_seconds_a_byte(source_device, self.device)
        free = memory.available()
        if self.folder is not None and source_device.type == "cpu" and free is not None and size > free:  # larger than the page cache
            seconds += measuring.disk_seconds_a_byte(self.folder)
        return seconds


class StoredFeatures:
    """Reads the stored output of frozen stages, and computes what is not stored up to the same depth.

    Training and validation examples are planned separately. They must end at the same depth, since the trained part begins there.
    """

    def __init__(  # noqa: PLR0913  (the last two have a default)
        self,
        run: PreparedRun,
        prefix: FrozenPrefix,
        storage: FeatureStorage,
        demand: Mapping[int, float],
        stopwatch: Stopwatch,
        lanes: int = 1,
        depths: Depths | None = None,
    ) -> None:
        self._run, self._prefix, self._stopwatch, self._direct, self._lanes = run, prefix, stopwatch, Direct(run), lanes
        # A resumed attempt passes `depths`: to continue bit for bit it must read what the last attempt read, even if computing is quicker.
        self._storage, self._always_read = storage, depths is not None
        storage.store.wait()  # the plan counts entries of an earlier run of this process
        augmented, epochs = run.examples.augmented, run.config.epochs
        views = min(run.examples.views or epochs, epochs) if augmented else 1
        validation = StoredExamples(run, run.validation, 1, augmented=False)
        training = StoredExamples(run, run.training, views, augmented=augmented)
        self._rates = measuring.rates(run, prefix, lambda rows: self._direct.batch(rows, 0))
        if depths is None:
            passes = {frozen: times for frozen, times in demand.items() if 0 < frozen <= len(prefix.modules)}
            measured = self._planned(validation, "validation", storage, passes, storage.budget)
            trained = self._planned(training, "training", storage, passes, storage.budget - measured.size)
            found = trained.source(prefix.frozen), measured.source(prefix.frozen)
        else:
            found = min(depths[0], prefix.frozen), min(depths[1], prefix.frozen)
        self._training, self._validation = (self._source(part, depth) for part, depth in zip((training, validation), found, strict=True))
        self.depth = prefix.frozen if prefix.tail is not None else max(self._training.depth, self._validation.depth)
        self._places = {source: storage.place(self._size(source.part, source.depth)) for source in self._sources if source.depth}

    @property
    def _sources(self) -> tuple[Source, Source]:
        return self._training, self._validation

    @property
    def reuse(self) -> Reuse:
        """For the report. `place` is the place of the training examples' output if it is stored, else of the validation examples'."""
        depth, validation_depth = (min(source.depth, len(self._run.model.stages)) if source.reads else 0 for source in self._sources)
        places = [self._places[source] for source in self._sources if source.reads]
        return Reuse(
            pixels=self._run.examples.origin,
            depth=depth,
            validation_depth=validation_depth,
            place=places[0] if places else "none",
            lanes=self._lanes,
        )

    @property
    def saved_seconds(self) -> float:
        """Of training and validation examples together."""
        return sum(source.saved_seconds for source in self._sources)

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Open the view's entry, build it, or wait for the process that builds it. Yields `sign` between batches."""
        yield from self._of(view).ready(view, sign)

    def expect(self, batches: Iterable[Tensor], view: int | None) -> None:
        """Announce the batches to the stored output, or to the examples if it is not read in their place."""
        source, batches = self._of(view), list(batches)
        if source.reads:
            source.expect(batches, view)
        else:
            self._direct.expect(batches, view)

    def batch(self, rows: Tensor, view: int | None) -> Features:
        """The output of the first `depth` stages, read or computed: [B, ...] on the device, in the run's precision."""
        source = self._of(view)
        features, start = source.read(rows, view), source.depth
        if features is None:
            features, start = self._direct.batch(rows, view), 0
        if start == self.depth:
            return features
        with self._stopwatch("measure" if view is None else "forward"):
            return self._prefix.run(features, start, self.depth)

    def for_test(self) -> "StoredFeatures":
        """These inputs with test in place of validation examples, stored at the same depth if they fit beside the other entries."""
        part = StoredExamples(self._run, self._run.test, 1, augmented=False)
        depth = self._validation.depth if self._validation.reads else 0
        parts = (*((source.part, source.depth) for source in self._sources), (part, depth))
        fits = sum(self._size(part, depth) for part, depth in parts if depth) <= self._storage.budget
        found = copy.copy(self)
        found._validation = self._source(part, depth if fits else 0)
        return found

    def _source(self, part: StoredExamples, depth: int) -> Source:
        return Source(part, self._prefix, self._storage.store, depth, self._rates, self._stopwatch, always_read=self._always_read)

    def _of(self, view: int | None) -> Source:
        return self._validation if view is None else self._training

    def _planned(self, part: StoredExamples, name: str, storage: FeatureStorage, passes: Mapping[int, float], budget: int) -> Plan:
        """Plan the depths at which the study stores the part."""
        problem = problem_of(part, self._prefix, self._rates, storage, passes, budget)
        found = plan(problem)
        log.info("%s examples, %d views: %s", name, part.views, found)
        return found

    def _size(self, part: StoredExamples, depth: int) -> int:
        return part.views * part.bytes_of(self._rates.forms[depth - 1])


def problem_of(
    part: StoredExamples, prefix: FrozenPrefix, rates: Rates, storage: FeatureStorage, passes: Mapping[int, float], budget: int
) -> Problem:
    """The planner's problem for one part of the examples."""
    sizes = [-(-part.bytes_of(form) // len(part.rows)) for form in rates.forms]  # of an example, on average
    stored = part.views * len(part.rows)
    return Problem(
        input_seconds=rates.input_seconds,
        stage_seconds=rates.stage_seconds,
        read_seconds=tuple(size * storage.read_seconds_a_byte(size * stored) for size in sizes),
        write_seconds=tuple(size * measuring.write_seconds_a_byte(storage.folder) for size in sizes),
        row_bytes=tuple(sizes),
        examples=len(part.rows),
        views=part.views,
        demand=passes,
        stored={depth: part.stored_share(prefix, depth, storage.store) for depth in range(1, max(passes, default=0) + 1)},
        budget=budget,
    )
