"""Decides, by measured rates, which frozen stages' outputs are worth storing.

Cost model. Let c(d) be the seconds to compute one example from its file to the output of the first d stages, r(d) the seconds to read
that output, w(d) the seconds to write it. A run with f frozen stages that reads at depth d <= f in one pass over n examples takes
n (r(d) + c(f) - c(d)) seconds up to stage f; without stored output it takes n c(f). So each pass gains n (c(d) - r(d)), whatever f is.
Building costs n v (c(d) + w(d)) once, for v views; the share that is stored already is free.

The demand states how many passes of each f are still to come in the study. A run reads at the deepest stored depth <= f. The plan is
the set of depths with the largest gain: passes gained at the depth that each run reads, less the building of all depths.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from trainer.features.frozen_prefix import FrozenPrefix, Layout, layout_of
from trainer.memory import readable
from trainer.preparation import PreparedRun, inference_batch
from trainer.sequences import Features
from trainer.tasks.base import Ragged

BATCH = 32  # examples computed at a time on a CPU; not more than in evaluation, so that measuring needs no more memory than the run
MEASURE_SECONDS = 0.5  # approximate limit for measuring all stages; of a large model fewer examples are measured
LEAST_TRIES, MOST_TRIES = 2, 5  # the quickest try counts, since other processes can only make a try slower
SAMPLE_ROWS, SAMPLE_BYTES, DEVICE_SAMPLE_BYTES = 1024, 16 * 2**20, 64 * 2**20
DISK_BYTES_A_SECOND = 1e9  # assumed rate of writing, through the page cache

ToInputs = Callable[[Tensor], Features]


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds to compute one example, and the layouts of the outputs; one item for each stage."""

    input_seconds: float
    stage_seconds: tuple[float, ...]
    forms: tuple[Layout, ...]

    def computing(self, start: int, end: int) -> float:
        """Seconds from the output of the first `start` stages to that of the first `end`; from 0, reading the example is included."""
        return sum(self.stage_seconds[start:end]) + (0.0 if start else self.input_seconds)


class WorkClock(Protocol):
    """Times consecutive pieces of work on a device; implemented by HostClock and DeviceClock."""

    def start(self) -> None:
        """Begin: the next piece of work is the first."""

    def mark(self) -> None:
        """End a piece of work; the next one begins."""

    def seconds(self) -> list[float]:
        """Seconds of each piece of work since `start`. Waits for the device."""


class HostClock:
    """Times work that is done when the call returns, as on a CPU."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._marks = clock, list[float]()

    def start(self) -> None:
        self._marks = [self._clock()]

    def mark(self) -> None:
        self._marks.append(self._clock())

    def seconds(self) -> list[float]:
        return [after - before for before, after in pairwise(self._marks)]


class TimedEvent(Protocol):
    """A point in a device's queue with its time; as torch.cuda.Event(enable_timing=True)."""

    def record(self) -> None: ...
    def synchronize(self) -> None: ...
    def elapsed_time(self, end: Any, /) -> float:
        """Milliseconds between two points that the device has reached."""


class DeviceClock:
    """Times work on a device that runs behind the host, by events in its queue.

    `hold` keeps the device busy while the host queues the work that follows. Without it the device would wait for each launch, and
    the events would time the host. What the host itself computes, such as decoding, counts if it takes longer than the hold.
    """

    def __init__(self, event: Callable[[], TimedEvent], hold: Callable[[], object]) -> None:
        self._event, self._hold, self._marks = event, hold, list[TimedEvent]()

    def start(self) -> None:
        self._hold()
        self._marks = []
        self.mark()

    def mark(self) -> None:
        event = self._event()
        event.record()
        self._marks.append(event)

    def seconds(self) -> list[float]:
        self._marks[-1].synchronize()
        return [before.elapsed_time(after) / 1000 for before, after in pairwise(self._marks)]


HOLD_CYCLES = 40_000_000  # of a GPU's clock: about 20 ms, in which the host launches some thousand kernels


def clock_of(device: torch.device) -> WorkClock:
    """The clock for work on the device."""
    if device.type != "cuda":
        return HostClock()
    return DeviceClock(lambda: torch.cuda.Event(enable_timing=True), lambda: torch.cuda._sleep(HOLD_CYCLES))  # type: ignore[no-untyped-call]


_measured: dict[tuple[object, ...], Rates] = {}


def rates(run: PreparedRun, prefix: FrozenPrefix, to_inputs: ToInputs) -> Rates:
    """The rates of the run's model, measured at the first call in this process on the first training examples.

    `to_inputs` maps rows to the input of the first stage. All stages are run in evaluation mode.
    """
    config = run.config
    # The key holds what changes times or shapes: model, input size and augmentation (from the task's cache key), precision, device,
    # threads. It leaves the weights out: other weights take the same time, and a study of many weights would measure in each trial.
    facts = run.task.cache_key(config, run.info, "", augmented=run.examples.augmented)
    read = json.dumps({name: fact for name, fact in facts.items() if name != "weights"}, sort_keys=True)
    model = config.model.name, prefix.names, read, config.precision
    lengths = run.examples.lengths.double().mean().item() if isinstance(run.examples, Ragged) else None
    key = *model, run.examples.origin == "streamed", str(run.device), torch.get_num_threads(), lengths
    if key not in _measured:
        training = run.model.training
        run.model.eval()
        try:
            _measured[key] = _measure(run, prefix, to_inputs)
        finally:
            run.model.train(training)
    return _measured[key]


def _measure(run: PreparedRun, prefix: FrozenPrefix, to_inputs: ToInputs) -> Rates:
    few, clock = run.training[:2], clock_of(run.device)
    _timed(prefix, to_inputs, few, clock)  # warm-up: the first call of a kernel includes its preparation
    input_seconds, stages, _ = _timed(prefix, to_inputs, few, clock)
    affordable = int(MEASURE_SECONDS / (input_seconds + sum(stages) + 1e-9))  # examples
    rows = run.training[: max(2, min(inference_batch(run) or BATCH, affordable // LEAST_TRIES))]
    tries = [_timed(prefix, to_inputs, rows, clock) for _ in range(max(LEAST_TRIES, min(MOST_TRIES, affordable // len(rows))))]
    inputs, outputs, forms = zip(*tries, strict=True)
    return Rates(min(inputs), tuple(map(min, *outputs)), tuple(forms[0]))


def _timed(prefix: FrozenPrefix, to_inputs: ToInputs, rows: Tensor, clock: WorkClock) -> tuple[float, list[float], list[Layout]]:
    """Seconds for one example's input and for each stage, and the layouts of the stages' outputs."""
    forms = list[Layout]()
    clock.start()
    features = to_inputs(rows)
    clock.mark()
    for output in prefix.steps(features, 0, len(prefix.modules)):
        forms.append(layout_of(output))
        clock.mark()
    first, *stages = (seconds / len(rows) for seconds in clock.seconds())
    return first, stages, forms


@lru_cache
def gather_seconds_a_byte(device: torch.device, onto: torch.device) -> float:
    """Seconds to gather one byte of random rows from `device` onto the device where they are used."""
    size = SAMPLE_BYTES if onto.type == "cpu" else DEVICE_SAMPLE_BYTES
    rows = torch.zeros((SAMPLE_ROWS, size // SAMPLE_ROWS), dtype=torch.uint8, device=device)
    order = torch.arange(SAMPLE_ROWS).roll(SAMPLE_ROWS // 2)
    # Batches of a CPU's size: larger ones would not stay in its caches. An accelerator takes as long to begin as to gather a small batch.
    batches = order.view(-1, BATCH) if onto.type == "cpu" else order.expand(MOST_TRIES, -1)
    return min(seconds_to_gather(rows, some, onto) for some in batches) / (batches.shape[1] * rows.shape[1])


def seconds_to_gather(rows: Tensor, some: Tensor, onto: torch.device) -> float:
    """Seconds until the rows `some` are on the device."""
    clock = clock_of(onto)
    clock.start()
    gathered(rows, some, onto)
    clock.mark()
    (seconds,) = clock.seconds()
    return seconds


def gathered(rows: Tensor, some: Tensor, onto: torch.device) -> Tensor:
    """The rows `some` on the device, without a synchronisation."""
    if rows.device.type == onto.type:
        return rows.index_select(0, some.to(rows.device, non_blocking=True))
    staged = torch.empty((len(some), *rows.shape[1:]), dtype=rows.dtype, pin_memory=True)  # from torch's pool of pinned memory
    return torch.index_select(rows, 0, some, out=staged).to(onto, non_blocking=True)


@lru_cache
def write_seconds_a_byte(folder: Path | None) -> float:
    """Seconds to store one byte: hashing and writing in a folder, 0 in memory."""
    if folder is None:
        return 0.0
    sample = bytes(2**20)
    started = time.perf_counter()
    hashlib.sha256(sample).digest()
    return (time.perf_counter() - started) / len(sample) + 1 / DISK_BYTES_A_SECOND


@lru_cache
def disk_seconds_a_byte(folder: Path) -> float:
    """Seconds to read one byte that is not in the page cache; 0 if it cannot be measured."""
    sample = folder / f"speed-{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sample.write_bytes(os.urandom(SAMPLE_BYTES))
        descriptor = os.open(sample, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            started = time.perf_counter()
            os.pread(descriptor, SAMPLE_BYTES, 0)
            return (time.perf_counter() - started) / SAMPLE_BYTES
        finally:
            os.close(descriptor)
    except OSError:
        return 0.0
    finally:
        sample.unlink(missing_ok=True)


LEAST_SECONDS = 0.1  # a smaller gain is within the error of the measurement and not worth a file
UNITS = 512  # bytes are rounded up to 1 / 512 of the total when the budget is short, which bounds the number of candidates


@dataclass(frozen=True)
class Problem:
    """The planning problem of one part of the examples. Seconds and bytes are of one example; tuples have one item for each stage."""

    input_seconds: float  # to read and decode an example; not needed when its output is read
    stage_seconds: tuple[float, ...]
    read_seconds: tuple[float, ...]  # to read the output of the stages up to this one
    write_seconds: tuple[float, ...]
    row_bytes: tuple[int, ...]
    examples: int
    views: int  # number of augmented versions of each example; each is stored
    demand: Mapping[int, float]  # passes over the examples still to come in the study, by number of frozen stages
    stored: Mapping[int, float]  # share of the bytes that is stored already, by depth
    budget: int  # bytes

    @cached_property
    def computing(self) -> tuple[float, ...]:
        """c(d): seconds from the example to the output of the first d stages, by depth d from 0."""
        return tuple(accumulate(self.stage_seconds, initial=self.input_seconds))

    def spared(self, depth: int) -> float:
        """c(d) - r(d): seconds gained when one example is read at the depth."""
        return self.computing[depth] - self.read_seconds[depth - 1]

    def building(self, depth: int) -> float:
        """Seconds to compute and write everything that is missing at the depth."""
        missing = 1 - self.stored.get(depth, 0.0)
        return missing * self.examples * self.views * (self.computing[depth] + self.write_seconds[depth - 1])

    def size(self, depth: int) -> int:
        """Bytes of all examples and views at the depth."""
        return self.examples * self.views * self.row_bytes[depth - 1]

    def read(self, first: int, end: int) -> float:
        """Number of reads of an example, over all passes still to come of runs with `first` to `end - 1` frozen stages."""
        return self.examples * sum(passes for frozen, passes in self.demand.items() if first <= frozen < end)


@dataclass(frozen=True, slots=True)
class Plan:
    """The depths to store, and the expected seconds with and without them."""

    depths: tuple[int, ...]
    seconds: float  # to compute, build and read the outputs of frozen stages in all passes still to come
    bypass_seconds: float  # the same with nothing stored
    size: int  # bytes

    def source(self, frozen: int) -> int:
        """The depth that a run with that number of frozen stages reads; 0 if it computes everything."""
        return max((depth for depth in self.depths if depth <= frozen), default=0)

    def __str__(self) -> str:
        if not self.depths:
            return f"nothing is stored: the frozen stages take {self.bypass_seconds:.3g} s, storing would gain less than {LEAST_SECONDS} s"
        listed = ", ".join(map(str, self.depths))
        return (
            f"stored behind {listed} stages, {readable(self.size)}: {self.seconds:.3g} s in place of {self.bypass_seconds:.3g} s expected"
        )


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A partial plan: ascending depths, each gaining more for one example than the one before."""

    depths: tuple[int, ...] = ()
    size: int = 0  # bytes
    weight: int = 0  # units of bytes, rounded up
    gain: float = 0.0  # seconds, without the reads at the last depth: their number depends on the next depth


def plan(problem: Problem) -> Plan:
    """The depths with the largest gain within the budget; none if the gain is below LEAST_SECONDS."""
    bypass = sum(problem.examples * passes * problem.computing[frozen] for frozen, passes in problem.demand.items())
    found = _best(problem, None)
    if found.size > problem.budget:
        found = _best(problem, problem.budget)
    gain = _total_gain(problem, found)
    if gain < LEAST_SECONDS:
        return Plan((), bypass, bypass, 0)
    return Plan(found.depths, bypass - gain, bypass, found.size)


def _best(problem: Problem, budget: int | None) -> _Candidate:
    """The candidate of the largest gain within the budget; of equal ones the smallest.

    Dynamic programming over the last depth: the gain of further depths depends on a candidate only through its last depth. Without a
    budget one candidate for each last depth is enough. With a budget a smaller candidate of less gain may be extended further, so for
    each last depth the Pareto front over (weight, gain) is kept: a knapsack problem.
    """
    deepest = max(problem.demand, default=0)
    depths = [depth for depth in range(1, deepest + 1) if problem.spared(depth) > 0]
    unit = max(1, -(-sum(map(problem.size, depths)) // UNITS))
    fronts: dict[int, list[_Candidate]] = {0: [_Candidate()]}  # by the last depth
    for depth in depths:
        longer = [_extended(problem, candidate, depth, unit) for candidate in _extensible(problem, fronts, depth)]
        if budget is None:
            fronts[depth] = [min(longer, key=lambda candidate: (-candidate.gain, candidate.size))]
        else:
            fronts[depth] = _pareto_front([candidate for candidate in longer if candidate.weight * unit <= budget])
    candidates = (candidate for front in fronts.values() for candidate in front)
    return min(candidates, key=lambda candidate: (-_total_gain(problem, candidate), candidate.size))


def _extensible(problem: Problem, fronts: Mapping[int, list[_Candidate]], depth: int) -> Iterator[_Candidate]:
    # A deeper depth that gains less for an example than the last one is never read to advantage, so it is not added.
    for last, front in fronts.items():
        if not last or problem.spared(last) < problem.spared(depth):
            yield from front


def _extended(problem: Problem, candidate: _Candidate, depth: int, unit: int) -> _Candidate:
    size = problem.size(depth)
    gain = _total_gain(problem, candidate, depth) - problem.building(depth)
    return _Candidate((*candidate.depths, depth), candidate.size + size, candidate.weight - (-size // unit), gain)


def _total_gain(problem: Problem, candidate: _Candidate, end: int = 2**31) -> float:
    """The candidate's gain including the reads at its last depth by runs that freeze fewer than `end` stages."""
    if not candidate.depths:
        return candidate.gain
    last = candidate.depths[-1]
    return candidate.gain + problem.spared(last) * problem.read(last, end)


def _pareto_front(candidates: list[_Candidate]) -> list[_Candidate]:
    """The candidates for which no candidate of at most the same weight gains as much."""
    front = list[_Candidate]()
    for candidate in sorted(candidates, key=lambda candidate: (candidate.weight, -candidate.gain)):
        if not front or candidate.gain > front[-1].gain:
            front.append(candidate)
    return front
