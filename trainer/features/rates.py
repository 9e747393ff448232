"""What computing and reading cost on this machine, measured."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from trainer.features.chain import Chain, Form
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
    forms: tuple[Form, ...]

    def computing(self, start: int, end: int) -> float:
        """Seconds from the output of the first `start` stages to that of the first `end`; from 0, with the input's."""
        return sum(self.stage_seconds[start:end]) + (0.0 if start else self.input_seconds)


_measured: dict[tuple[object, ...], Rates] = {}


def rates(run: PreparedRun, chain: Chain, to_inputs: ToInputs) -> Rates:
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


def _measure(run: PreparedRun, chain: Chain, to_inputs: ToInputs) -> Rates:
    few = run.training[:2]
    _timed(run, chain, to_inputs, few)  # the first call of a kernel prepares it
    input_seconds, stages, _ = _timed(run, chain, to_inputs, few)
    affordable = int(MEASURE_SECONDS / (input_seconds + sum(stages) + 1e-9))  # examples
    rows = run.training[: max(2, min(BATCH, affordable // LEAST_TRIES))]
    tries = [_timed(run, chain, to_inputs, rows) for _ in range(max(LEAST_TRIES, min(MOST_TRIES, affordable // len(rows))))]
    inputs, outputs, forms = zip(*tries, strict=True)
    return Rates(min(inputs), tuple(map(min, *outputs)), tuple(forms[0]))


def _timed(run: PreparedRun, chain: Chain, to_inputs: ToInputs, rows: Tensor) -> tuple[float, list[float], list[Form]]:
    """Seconds an example of the input and of each stage, and the stages' forms."""
    marks, forms = [_now(run.device)], list[Form]()
    features = to_inputs(rows)
    marks.append(_now(run.device))
    for output in chain.steps(features, 0, len(chain.modules)):
        forms.append(Form.of(output))
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
