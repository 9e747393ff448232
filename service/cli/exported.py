"""A run of an exported configuration by a trainer of its own, which refuses data and weights that are not the file's."""

import os
import re
import sys
import time
from pathlib import Path

from service.cli.bars import Bars
from service.cli.failures import Failure, FaultyFile
from service.cli.files import read_text
from service.cli.working import require_torch
from service.domain.errors import InvalidInput
from service.domain.export import Exported, read_export
from service.settings import Settings
from service.worker.devices import Slot, cores, gpus
from service.worker.process import TrainerDied, TrainerProcess
from trainer import protocol
from trainer.tasks.registry import spec_of

MAX_BYTES = 8 * 2**20  # of an exported file; a manifest of 100,000 examples has 0.5 MB
READ_SECONDS = 0.5
THREADS = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
START_SECONDS = 300.0

Outcome = tuple[protocol.Finished, protocol.Exported | None]


def read(file: Path) -> Exported:
    """The configuration in the file. Raises FaultyFile."""
    require_torch()
    try:
        return read_export(read_text(file, MAX_BYTES))
    except InvalidInput as error:
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in error.faults)) from None


def run(settings: Settings, exported: Exported, model_file: Path | None = None, seed: int | None = None) -> Outcome:
    """Train and score, with the file's seeds or with another one; the model is written where a file is named. Raises Failure."""
    slot = _slot_like(exported)
    process = TrainerProcess(slot.command(settings), slot.environment(os.environ))
    try:
        return _follow(process, exported, order_of(exported, model_file, seed))
    except TrainerDied as died:
        raise Failure(died.death.detail) from None
    finally:
        process.close(grace_seconds=0.5)


def order_of(exported: Exported, model_file: Path | None, seed: int | None) -> protocol.Run:
    """What the trainer is told. With a seed of its own the run has nothing in common with the trial but configuration and split."""
    fresh = {} if seed is None else {"seed": seed, "order_seed": seed}
    return protocol.Run(
        config=exported.config.model_copy(update=fresh),
        expected=exported.facts,
        manifest=exported.manifest,
        score_test=exported.test_examples > 0,
        model_file=None if model_file is None else str(model_file),
        depths=exported.depths,
    )


def _slot_like(exported: Exported) -> Slot:
    """The trial's kind of device and its thread count, where this machine has them: equal results rest on both."""
    recorded = exported.environment.get("threads", "")
    found = gpus() if exported.environment.get("accelerator") == "cuda" else ()
    wanted = int(recorded) if THREADS.fullmatch(recorded) else cores()
    if wanted > cores():
        sys.stderr.write(
            f"The trial used {wanted} threads and this machine has {cores()} cores: metrics may differ in their last digits.\n"
        )
    return Slot(0, found[0] if found else None, min(wanted, cores()))


def _follow(process: TrainerProcess, exported: Exported, order: protocol.Run) -> Outcome:
    """The run from start to end, with progress bars. Raises Failure, TrainerDied."""
    finished: protocol.Finished | None = None
    example = spec_of(exported.config.task).example
    with Bars(exported.config.epochs, exported.reached.objective.metric, example) as bars:
        _await_ready(process)
        process.send(order)
        while True:
            match process.read(READ_SECONDS):
                case protocol.Failed() as failed:
                    raise Failure(f"The training failed ({failed.reason}): {failed.detail}")
                case protocol.Unavailable() as missing:
                    raise Failure(f"The {missing.what} cannot be read: {missing.detail}")
                case protocol.Finished() as finished:
                    pass
                case protocol.Exported() as model if finished is not None:
                    return finished, model
                case protocol.Ready() if finished is not None and order.model_file is None:
                    return finished, None
                case protocol.Ready() | protocol.Stopped():
                    raise Failure("The trainer ended without a result.")
                case line:
                    bars.show(line)


def _await_ready(process: TrainerProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not process.ready:
        process.read(READ_SECONDS)
        if time.monotonic() > deadline:
            raise Failure(f"The trainer was not ready after {START_SECONDS:g} seconds.")
