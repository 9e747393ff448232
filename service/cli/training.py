"""`thaw train`: production training from an exported configuration, and the comparison with what its trial reached."""

import json
import os
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from service.cli.console import console
from service.cli.failures import Failure, FaultyFile
from service.cli.files import write_whole
from service.cli.working import require_torch
from service.domain.errors import InvalidInput
from service.domain.export import Exported, read_export
from service.settings import Settings
from service.worker.process import Line, TrainerDied, TrainerProcess
from service.worker.slots import Slot, cores, gpus
from trainer import contract

READ_SECONDS = 0.5
START_SECONDS = 300.0


def train_exported(settings: Settings, file: Path, out: Path) -> None:
    """Train, and write `model.safetensors`, `result.json` and `config.yaml` into the folder. Raises Failure, FaultyFile."""
    require_torch()
    exported = _read(file)
    out = out.absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{out} cannot be made: {error.strerror}") from None
    slot = _slot_like(exported)
    process = TrainerProcess(slot.command(settings), slot.environment(os.environ))
    try:
        finished, model = _train(process, exported, out / "model.safetensors")
    except TrainerDied as died:
        raise Failure(died.death.detail) from None
    finally:
        process.close(grace_seconds=0.5)
    write_whole(out / "config.yaml", exported.to_yaml())
    write_whole(out / "result.json", json.dumps(_result(exported, finished, model), indent=2) + "\n")
    _report(exported, finished, out)


def _read(file: Path) -> Exported:
    try:
        return read_export(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise FaultyFile(file, (("#", f"the file cannot be read: {error.strerror}"),)) from None
    except UnicodeDecodeError:
        raise FaultyFile(file, (("#", "the file is not UTF-8 text"),)) from None
    except InvalidInput as error:
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in error.faults)) from None


def _slot_like(exported: Exported) -> Slot:
    """The trial's kind of device and its thread count, where this machine has them: equal results rest on both."""
    recorded = exported.environment.get("threads", "")
    found = gpus() if exported.environment.get("accelerator") == "cuda" else ()
    return Slot(0, found[0] if found else None, int(recorded) if recorded.isdecimal() and int(recorded) > 0 else cores())


def _train(process: TrainerProcess, exported: Exported, model_file: Path) -> tuple[contract.Finished, contract.Exported]:
    """The run from start to end, with progress bars. Raises Failure, TrainerDied."""
    facts = exported.facts
    order = contract.Run(
        config=exported.config, fingerprint=facts.fingerprint, weights_sha256=facts.weights_sha256, model_file=str(model_file),
        depths=exported.depths,
    )  # fmt: skip
    finished: contract.Finished | None = None
    with Bars(exported.config.epochs, exported.reached.objective.metric) as bars:
        _await_ready(process)
        process.send(order)
        while True:
            match process.read(READ_SECONDS):
                case contract.Failed() as failed:
                    raise Failure(f"The training failed ({failed.reason}): {failed.detail}")
                case contract.Finished() as finished:
                    pass
                case contract.Exported() as model if finished is not None:
                    return finished, model
                case contract.Ready() | contract.Stopped():
                    raise Failure("The trainer ended without a model.")
                case line:
                    bars.show(line)


def _await_ready(process: TrainerProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not process.ready:
        process.read(READ_SECONDS)
        if time.monotonic() > deadline:
            raise Failure(f"The trainer was not ready after {START_SECONDS:g} seconds.")


class Bars:
    """A bar for the epochs and one for the batches of the epoch under way; a line an epoch where there is no terminal."""

    def __init__(self, epochs: int, metric: str) -> None:
        self._console = console()
        self._epochs, self._metric = epochs, metric
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._epoch_bar: TaskID = self._progress.add_task("epochs", total=epochs, note="")
        self._batch_bar: TaskID = self._progress.add_task("batches", total=None, note="preparing data and model")

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, line: Line | None) -> None:
        """Take in what the trainer told."""
        match line:
            case contract.Prepared():
                self._progress.update(self._batch_bar, note="")
                images = line.facts.images["train"]
                self._console.print(f"{line.trainable:,} of {line.parameters:,} parameters are trained on {images:,} images")
            case contract.Advanced():
                note = f"{line.samples_per_second:.0f} images/s"
                self._progress.update(self._batch_bar, total=line.batches, completed=line.batch, note=note)
            case contract.Measured():
                value = line.metrics.get(self._metric)
                note = "" if value is None else f"{self._metric} {value:.4f}"
                self._progress.update(self._epoch_bar, completed=line.step, note=note)
                if not self._console.is_terminal:
                    self._console.print(f"epoch {line.step}/{self._epochs}: {note}")
            case _:
                pass


def _result(exported: Exported, finished: contract.Finished, model: contract.Exported) -> dict[str, Any]:
    return {
        "metric": exported.reached.objective.metric,
        "expected": exported.reached.value,
        "reached": _reached(exported, finished),
        "equal": _reached(exported, finished) == exported.reached.value,
        "model": {"file": Path(model.path).name, "sha256": model.sha256},
        **finished.model_dump(mode="json", exclude={"kind"}),
    }


def _reached(exported: Exported, finished: contract.Finished) -> float | None:
    return finished.metrics.get(exported.reached.objective.metric)


def _report(exported: Exported, finished: contract.Finished, out: Path) -> None:
    metric, expected, reached = exported.reached.objective.metric, exported.reached.value, _reached(exported, finished)
    verdict = "equal" if reached == expected else "not equal; it shared work with others, or device, threads or versions differ"
    console().print(f"{metric}: reached {reached!r}, the trial had {expected!r} ({verdict})")
    console().print(f"The model is in {out / 'model.safetensors'}")
