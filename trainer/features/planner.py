"""Which frozen stages' outputs are worth storing, by measured rates."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from torch import Tensor

from trainer.devices import readable
from trainer.features.frozen_prefix import FrozenPrefix, TensorLayout
from trainer.preparation import PreparedRun

BATCH = 32  # examples that are computed at a time: no more than a validation pass takes, so that no memory runs out sooner
MEASURE_SECONDS = 0.5  # that a measurement of all stages may take, about; of a large model fewer examples are measured
LEAST_TRIES, MOST_TRIES = 2, 5  # the quickest counts, since other processes only ever make it slower
SAMPLE_ROWS, SAMPLE_BYTES = 1024, 16 * 2**20
DISK_BYTES_A_SECOND = 1e9  # of writing, where the page cache takes it and the disk follows

ToInputs = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds an example, and what a stage's output looks like; an item a stage."""

    input_seconds: float
    stage_seconds: tuple[float, ...]
    forms: tuple[TensorLayout, ...]

    def computing(self, start: int, end: int) -> float:
        """Seconds from the output of the first `start` stages to that of the first `end`; from 0, with the input's."""
        return sum(self.stage_seconds[start:end]) + (0.0 if start else self.input_seconds)


_measured: dict[tuple[object, ...], Rates] = {}


def rates(run: PreparedRun, chain: FrozenPrefix, to_inputs: ToInputs) -> Rates:
    """Those of the model's kind in this process; measured on the first examples when it is asked for the first time.

    `to_inputs` makes rows of the training examples what goes into the first stage. All stages are run in evaluation mode.
    """
    config = run.config
    # How the examples are read decides about the seconds of the input, and about the shapes of all outputs.
    facts = run.task.cache_key(config, run.info, "", augmented=run.examples.augmented)
    read = json.dumps({name: fact for name, fact in facts.items() if name != "weights"}, sort_keys=True)
    model = config.model.name, chain.names, read, config.precision
    key = *model, run.examples.origin == "streamed", str(run.device), torch.get_num_threads()
    if key not in _measured:
        training = run.model.training
        run.model.eval()
        try:
            _measured[key] = _measure(run, chain, to_inputs)
        finally:
            run.model.train(training)
    return _measured[key]


def _measure(run: PreparedRun, chain: FrozenPrefix, to_inputs: ToInputs) -> Rates:
    few = run.training[:2]
    _timed(run, chain, to_inputs, few)  # the first call of a kernel prepares it
    input_seconds, stages, _ = _timed(run, chain, to_inputs, few)
    affordable = int(MEASURE_SECONDS / (input_seconds + sum(stages) + 1e-9))  # examples
    rows = run.training[: max(2, min(BATCH, affordable // LEAST_TRIES))]
    tries = [_timed(run, chain, to_inputs, rows) for _ in range(max(LEAST_TRIES, min(MOST_TRIES, affordable // len(rows))))]
    inputs, outputs, forms = zip(*tries, strict=True)
    return Rates(min(inputs), tuple(map(min, *outputs)), tuple(forms[0]))


def _timed(run: PreparedRun, chain: FrozenPrefix, to_inputs: ToInputs, rows: Tensor) -> tuple[float, list[float], list[TensorLayout]]:
    """Seconds an example of the input and of each stage, and the stages' forms."""
    marks, forms = [_now(run.device)], list[TensorLayout]()
    features = to_inputs(rows)
    marks.append(_now(run.device))
    for output in chain.steps(features, 0, len(chain.modules)):
        forms.append(TensorLayout.of(output))
        marks.append(_now(run.device))
    first, *stages = ((after - before) / len(rows) for before, after in pairwise(marks))
    return first, stages, forms


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@lru_cache
def gather_seconds_a_byte(device: torch.device, onto: torch.device) -> float:
    """Of rows gathered at random from where they lie onto the device where they are used."""
    rows = torch.zeros((SAMPLE_ROWS, SAMPLE_BYTES // SAMPLE_ROWS), dtype=torch.uint8, device=device)
    order = torch.arange(SAMPLE_ROWS).roll(SAMPLE_ROWS // 2).view(-1, BATCH)
    return min(seconds_to_gather(rows, some, onto) for some in order) / (BATCH * rows.shape[1])


def seconds_to_gather(rows: Tensor, some: Tensor, onto: torch.device) -> float:
    """How long it takes until those of the rows are on the device."""
    started = _now(onto)
    gathered(rows, some, onto)
    return _now(onto) - started


def gathered(rows: Tensor, some: Tensor, onto: torch.device) -> Tensor:
    """Those rows, on the device; without waiting for it."""
    if rows.device.type == onto.type:
        return rows.index_select(0, some.to(rows.device, non_blocking=True))
    staged = torch.empty((len(some), *rows.shape[1:]), dtype=rows.dtype, pin_memory=True)  # from torch's pool of pinned memory
    return torch.index_select(rows, 0, some, out=staged).to(onto, non_blocking=True)


@lru_cache
def write_seconds_a_byte(folder: Path | None) -> float:
    """Of storing: hashing and writing where there is a folder; in memory next to nothing."""
    if folder is None:
        return 0.0
    sample = bytes(2**20)
    started = time.perf_counter()
    hashlib.sha256(sample).digest()
    return (time.perf_counter() - started) / len(sample) + 1 / DISK_BYTES_A_SECOND


@lru_cache
def disk_seconds_a_byte(folder: Path) -> float:
    """Of reading what the memory does not hold; 0 where that cannot be told."""
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


LEAST_SECONDS = 0.1  # what is spared must be worth a file, and be no mere accident of a measurement
UNITS = 512  # steps in which bytes are weighed where the budget is short, so that many depths stay quick to plan


@dataclass(frozen=True)
class Problem:
    """One part of the examples. Seconds and bytes are those of one example; tuples have an item a stage, from the input on."""

    input_seconds: float  # of reading an example, which reading the output spares too
    stage_seconds: tuple[float, ...]
    read_seconds: tuple[float, ...]  # of the output of the stages up to this one
    write_seconds: tuple[float, ...]
    row_bytes: tuple[int, ...]
    examples: int
    views: int  # how often each is stored, differently augmented
    demand: Mapping[int, float]  # passes over the examples still to come in the study, by number of frozen stages
    stored: Mapping[int, float]  # share of the bytes that is there already, by depth
    budget: int  # bytes

    @cached_property
    def computing(self) -> tuple[float, ...]:
        """Seconds from the examples to the output of the first d stages, by depth d from 0."""
        return tuple(accumulate(self.stage_seconds, initial=self.input_seconds))

    def spared(self, depth: int) -> float:
        """Seconds that reading at the depth spares an example."""
        return self.computing[depth] - self.read_seconds[depth - 1]

    def building(self, depth: int) -> float:
        """Seconds until all that is missing at the depth is stored."""
        missing = 1 - self.stored.get(depth, 0.0)
        return missing * self.examples * self.views * (self.computing[depth] + self.write_seconds[depth - 1])

    def size(self, depth: int) -> int:
        """Bytes of everything at the depth."""
        return self.examples * self.views * self.row_bytes[depth - 1]

    def read(self, first: int, end: int) -> float:
        """Examples that runs with `first` to `end - 1` frozen stages are still to read."""
        return self.examples * sum(passes for frozen, passes in self.demand.items() if first <= frozen < end)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which depths are stored, and what that is expected to bring."""

    depths: tuple[int, ...]
    seconds: float  # of computing, building and reading the outputs of frozen stages, in all that is still to come
    bypass_seconds: float  # the same with nothing read
    size: int  # bytes

    def source(self, frozen: int) -> int:
        """The depth that a run with so many frozen stages reads; 0 when it computes everything."""
        return max((depth for depth in self.depths if depth <= frozen), default=0)

    def __str__(self) -> str:
        if not self.depths:
            return f"nothing is stored: the frozen stages take {self.bypass_seconds:.3g} s, storing would not spare {LEAST_SECONDS} s"
        listed = ", ".join(map(str, self.depths))
        return (
            f"stored behind {listed} stages, {readable(self.size)}: {self.seconds:.3g} s in place of {self.bypass_seconds:.3g} s expected"
        )


@dataclass(frozen=True, slots=True)
class _Chain:
    """Depths that are stored, each sparing more than the one before."""

    depths: tuple[int, ...] = ()
    size: int = 0  # bytes
    weight: int = 0  # units of bytes
    gain: float = 0.0  # seconds, without what the last depth spares


def plan(problem: Problem) -> Plan:
    """The best choice of depths; none when that spares too little."""
    bypass = sum(problem.examples * passes * problem.computing[frozen] for frozen, passes in problem.demand.items())
    found = _best(problem, None)
    if found.size > problem.budget:
        found = _best(problem, problem.budget)
    gain = _closed(problem, found)
    if gain < LEAST_SECONDS:
        return Plan((), bypass, bypass, 0)
    return Plan(found.depths, bypass - gain, bypass, found.size)


def _best(problem: Problem, budget: int | None) -> _Chain:
    """The chain of the highest gain, of those that the budget allows; where several are equal, the smallest."""
    deepest = max(problem.demand, default=0)
    depths = [depth for depth in range(1, deepest + 1) if problem.spared(depth) > 0]
    unit = max(1, -(-sum(map(problem.size, depths)) // UNITS))
    fronts: dict[int, list[_Chain]] = {0: [_Chain()]}  # by the last depth
    for depth in depths:
        longer = [_longer(problem, chain, depth, unit) for chain in _shorter(problem, fronts, depth)]
        if budget is None:
            fronts[depth] = [min(longer, key=lambda chain: (-chain.gain, chain.size))]
        else:
            fronts[depth] = _front([chain for chain in longer if chain.weight * unit <= budget])
    return min((chain for front in fronts.values() for chain in front), key=lambda chain: (-_closed(problem, chain), chain.size))


def _shorter(problem: Problem, fronts: Mapping[int, list[_Chain]], depth: int) -> Iterator[_Chain]:
    for last, front in fronts.items():
        if not last or problem.spared(last) < problem.spared(depth):
            yield from front


def _longer(problem: Problem, chain: _Chain, depth: int, unit: int) -> _Chain:
    size = problem.size(depth)
    gain = _closed(problem, chain, depth) - problem.building(depth)
    return _Chain((*chain.depths, depth), chain.size + size, chain.weight - (-size // unit), gain)


def _closed(problem: Problem, chain: _Chain, end: int = 2**31) -> float:
    """The chain's gain with what its last depth spares the runs that freeze fewer than `end` stages."""
    if not chain.depths:
        return chain.gain
    last = chain.depths[-1]
    return chain.gain + problem.spared(last) * problem.read(last, end)


def _front(chains: list[_Chain]) -> list[_Chain]:
    """Those of which no lighter one gains as much."""
    front = list[_Chain]()
    for chain in sorted(chains, key=lambda chain: (chain.weight, -chain.gain)):
        if not front or chain.gain > front[-1].gain:
            front.append(chain)
    return front
