"""What a run's trained part reads: the examples themselves, or the stored output of its frozen stages where the plan says so."""

import copy
import logging
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from trainer import devices
from trainer.cache import Cache
from trainer.features import planner as measuring
from trainer.features.frozen_prefix import FrozenPrefix
from trainer.features.planner import Plan, Problem, Rates, plan
from trainer.features.source import Direct, FeatureStore, Inputs, MemoryFeatureStore, Part, Source, fits_device
from trainer.preparation import PreparedRun
from trainer.protocol import Reuse
from trainer.stopwatch import Stopwatch

log = logging.getLogger(__name__)
Sign = TypeVar("Sign")
Place = Literal["none", "device", "memory", "disk"]

MEMORY = MemoryFeatureStore()  # for whoever has no cache folder


Depths = tuple[int, int]


def inputs_for(run: PreparedRun, cache: Cache, demand: Mapping[int, float], stopwatch: Stopwatch, depths: Depths | None = None) -> Inputs:
    """For the run that trains all behind the frozen stages; `demand` and `depths` are those of `protocol.Run`."""
    if not run.model.frozen or depths == (0, 0):
        return Direct(run)
    with stopwatch("features"):
        chain, shelf = FrozenPrefix(run), FeatureStorage.of(cache, run)
        own = max(demand.get(chain.frozen, 0.0), run.config.epochs)
        found = StoredFeatures(run, chain, shelf, {**demand, chain.frozen: own}, stopwatch, depths=depths)
    return found if found.depth else Direct(run)


def stored_outputs(
    run: PreparedRun, cache: Cache, demand: Mapping[int, float], stopwatch: Stopwatch, tail: nn.Module, lanes: int = 1
) -> Inputs:
    """For lanes: the output of all stages and of `tail`, the head's beginning, which must draw no numbers and have no parameters.

    It always gives that output, computed once for all lanes where it is not stored. `demand` counts every lane's epochs, of which
    a pass does `lanes` at once. Raises ValueError when a stage is not frozen.
    """
    with stopwatch("features"):
        chain, shelf = FrozenPrefix(run, tail), FeatureStorage.of(cache, run)
        if chain.frozen != len(chain.modules):
            raise ValueError(f"lanes need all {len(run.model.stages)} stages frozen, not {run.model.frozen}")
        below = {frozen: passes for frozen, passes in demand.items() if frozen < run.model.frozen}
        own = max(demand.get(run.model.frozen, 0.0) / lanes, run.config.epochs)
        return StoredFeatures(run, chain, shelf, {**below, chain.frozen: own}, stopwatch, lanes)


@dataclass(frozen=True, slots=True)
class FeatureStorage:
    """Where outputs are stored, and how much room there is."""

    store: FeatureStore
    folder: Path | None
    budget: int  # bytes
    device: torch.device

    @classmethod
    def of(cls, cache: Cache, run: PreparedRun) -> "FeatureStorage":
        """The cache's folder, or this process's memory where there is none."""
        if cache.folder is None:
            return cls(MEMORY, None, MEMORY.budget, run.device)
        # The examples lie there too, and shall stay.
        return cls(cache, cache.folder, max(0, cache.max_bytes - run.examples.stored_bytes), run.device)

    def place(self, size: int) -> Place:
        """Where so many bytes lie when they are read."""
        if fits_device(self.device, size):
            return "device"
        return "memory" if self.folder is None else "disk"

    def read_seconds_a_byte(self, size: int) -> float:
        """Of reading from entries of so many bytes, at random and time and again."""
        lies = self.device if fits_device(self.device, size) else torch.device("cpu")
        seconds = measuring.gather_seconds_a_byte(lies, self.device)
        free = devices.available()
        if self.folder is not None and lies.type == "cpu" and free is not None and size > free:  # the page cache cannot hold it
            seconds += measuring.disk_seconds_a_byte(self.folder)
        return seconds


class StoredFeatures:
    """Training and validation examples each have a plan of their own; what is not stored is computed up to the same depth."""

    def __init__(  # noqa: PLR0913  (the last two have a default)
        self,
        run: PreparedRun,
        chain: FrozenPrefix,
        shelf: FeatureStorage,
        demand: Mapping[int, float],
        stopwatch: Stopwatch,
        lanes: int = 1,
        depths: Depths | None = None,
    ) -> None:
        self._run, self._chain, self._stopwatch, self._direct, self._lanes = run, chain, stopwatch, Direct(run), lanes
        self._shelf, self._firm = shelf, depths is not None
        augmented, epochs = run.examples.augmented, run.config.epochs
        views = min(run.examples.views or epochs, epochs) if augmented else 1
        validation = Part(run, run.validation, 1, augmented=False)
        training = Part(run, run.training, views, augmented=augmented)
        self._rates = measuring.rates(run, chain, lambda rows: self._direct.batch(rows, 0))
        if depths is None:
            passes = {frozen: times for frozen, times in demand.items() if 0 < frozen <= len(chain.modules)}
            measured = self._planned(validation, "validation", shelf, passes, shelf.budget)
            trained = self._planned(training, "training", shelf, passes, shelf.budget - measured.size)
            found = trained.source(chain.frozen), measured.source(chain.frozen)
        else:
            found = min(depths[0], chain.frozen), min(depths[1], chain.frozen)
        self._training, self._validation = (self._source(part, depth) for part, depth in zip((training, validation), found, strict=True))
        self.depth = chain.frozen if chain.tail is not None else max(self._training.depth, self._validation.depth)
        self._places = {source: shelf.place(self._size(source.part, source.depth)) for source in self._sources if source.depth}

    @property
    def _sources(self) -> tuple[Source, Source]:
        return self._training, self._validation

    @property
    def reuse(self) -> Reuse:
        """The place is that of the training examples' output where it is stored, else of the validation examples'."""
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
        """Of both parts."""
        return sum(source.saved_seconds for source in self._sources)

    def ready(self, view: int | None, sign: Sign) -> Generator[Sign, None, None]:
        """Find the view's entry, build it, or wait for the process that does; yields `sign` between batches."""
        yield from self._of(view).ready(view, sign)

    def expect(self, batches: Iterable[Tensor], view: int | None) -> None:
        """Examples are fetched ahead only where they are needed."""
        if not self._of(view).reads:
            self._direct.expect(batches, view)

    def batch(self, rows: Tensor, view: int | None) -> Tensor:
        """The output of the first `depth` stages: [B, ...] on the device, in the run's precision, read as far as it is stored."""
        source = self._of(view)
        if (features := source.read(rows, view)) is not None:
            start = source.depth
        else:
            features, start = self._direct.batch(rows, view), 0
        if start == self.depth:
            return features
        with self._stopwatch("measure" if view is None else "forward"):
            return self._chain.run(features, start, self.depth)

    def for_test(self) -> "StoredFeatures":
        """With the test examples in place of the validation examples: stored as deep as those, where there is room beside all others."""
        part = Part(self._run, self._run.test, 1, augmented=False)
        depth = self._validation.depth if self._validation.reads else 0
        parts = (*((source.part, source.depth) for source in self._sources), (part, depth))
        fits = sum(self._size(part, depth) for part, depth in parts if depth) <= self._shelf.budget
        found = copy.copy(self)
        found._validation = self._source(part, depth if fits else 0)
        return found

    def _source(self, part: Part, depth: int) -> Source:
        return Source(part, self._chain, self._shelf.store, depth, self._rates, self._stopwatch, firm=self._firm)

    def _of(self, view: int | None) -> Source:
        return self._validation if view is None else self._training

    def _planned(self, part: Part, name: str, shelf: FeatureStorage, passes: Mapping[int, float], budget: int) -> Plan:
        """Which depths of the part the study stores."""
        problem = problem_of(part, self._chain, self._rates, shelf, passes, budget)
        found = plan(problem)
        log.info("%s examples, %d views: %s", name, part.views, found)
        return found

    def _size(self, part: Part, depth: int) -> int:
        return part.views * len(part.rows) * self._rates.forms[depth - 1].size


def problem_of(part: Part, chain: FrozenPrefix, rates: Rates, shelf: FeatureStorage, passes: Mapping[int, float], budget: int) -> Problem:
    """What the planner needs to know of one part of the examples."""
    sizes = [form.size for form in rates.forms]
    stored = part.views * len(part.rows)
    return Problem(
        input_seconds=rates.input_seconds,
        stage_seconds=rates.stage_seconds,
        read_seconds=tuple(size * shelf.read_seconds_a_byte(size * stored) for size in sizes),
        write_seconds=tuple(size * measuring.write_seconds_a_byte(shelf.folder) for size in sizes),
        row_bytes=tuple(sizes),
        examples=len(part.rows),
        views=part.views,
        demand=passes,
        stored={depth: part.stored_share(chain, depth, shelf.store) for depth in range(1, max(passes, default=0) + 1)},
        budget=budget,
    )
