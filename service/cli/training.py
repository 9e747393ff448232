"""`thaw train` and `thaw verify`: trains an exported configuration again, and checks an exported file."""

import json
import os
import re
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from service.cli.console import console
from service.cli.failures import Failure, FaultyFile
from service.cli.files import read_text, write_whole
from service.cli.worker import require_torch
from service.domain.errors import InvalidInput
from service.domain.export import Confirmed, Exported, read_export
from service.domain.verdict import Estimate
from service.exports.card import card, is_within
from service.settings import Settings
from service.worker.devices import Slot, cores, gpus
from service.worker.process import Line, TrainerDied, TrainerProcess
from trainer import protocol
from trainer.protocol import Finished
from trainer.tasks.registry import spec_of

MAX_BYTES = 8 * 2**20  # of an exported file; a manifest of 100,000 examples has 0.5 MB
READ_SECONDS = 0.5
THREADS = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
START_SECONDS = 300.0

Outcome = tuple[protocol.Finished, protocol.ModelExported | None]


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
                case protocol.ModelExported() as model if finished is not None:
                    return finished, model
                case protocol.TrainerReady() if finished is not None and order.model_file is None:
                    return finished, None
                case protocol.TrainerReady() | protocol.Stopped():
                    raise Failure("The trainer ended without a result.")
                case line:
                    bars.show(line)


def _await_ready(process: TrainerProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not process.ready:
        process.read(READ_SECONDS)
        if time.monotonic() > deadline:
            raise Failure(f"The trainer was not ready after {START_SECONDS:g} seconds.")


class Bars:
    """A bar for the epochs and one for the batches of the epoch under way."""

    def __init__(self, epochs: int, metric: str, example: str) -> None:
        self._console = console()
        self._epochs, self._metric, self._example = epochs, metric, example
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
            case protocol.RunPrepared():
                self._progress.update(self._batch_bar, note="")
                examples = f"{line.facts.sizes['train']:,} {self._example}s"
                self._console.print(f"{line.trainable:,} of {line.parameters:,} parameters are trained on {examples}")
            case protocol.BatchProgress():
                note = f"{line.samples_per_second:.0f} {self._example}s/s"
                self._progress.update(self._batch_bar, total=line.batches, completed=line.batch, note=note)
            case protocol.EpochMetrics():
                value = line.metrics.get(self._metric)
                note = "" if value is None else f"{self._metric} {value:.4f}"
                self._progress.update(self._epoch_bar, completed=line.step, note=note)
                if not self._console.is_terminal:
                    self._console.print(f"epoch {line.step}/{self._epochs}: {note}")
            case _:
                pass


CARD = "MODEL_CARD.md"


def train_exported(settings: Settings, file: Path, out: Path) -> None:
    """Train, and write model.safetensors, result.json, config.yaml and MODEL_CARD.md into the folder. Raises Failure, FaultyFile."""
    exported = read(file)
    out = out.absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{out} cannot be made: {error.strerror}") from None
    finished, model = run(settings, exported, model_file=out / "model.safetensors")
    if model is None:
        raise Failure("The trainer ended without a model.")
    write_whole(out / "config.yaml", exported.to_yaml())
    write_whole(out / "result.json", json.dumps(_result(exported, finished, model), indent=2) + "\n")
    write_whole(out / CARD, card(exported, finished))
    _report(exported, finished, out)


def _result(exported: Exported, finished: protocol.Finished, model: protocol.ModelExported) -> dict[str, Any]:
    reached = finished.metrics.get(exported.reached.objective.metric)
    return {
        "metric": exported.reached.objective.metric,
        "expected": exported.reached.value,
        "reached": reached,
        "equal": reached == exported.reached.value,
        "confirmed": exported.confirmed is not None,
        "within": is_within(exported, finished),
        "model": {"file": Path(model.path).name, "sha256": model.sha256},
        **finished.flat(exclude=("kind", "test")),
        "test": None if finished.test is None else finished.test.flat(),
    }


def _report(exported: Exported, finished: protocol.Finished, out: Path) -> None:
    metric, expected = exported.reached.objective.metric, exported.reached.value
    reached = finished.metrics.get(metric)
    verdict = "equal" if reached == expected else "not equal; it shared work with others, or device, threads or versions differ"
    console().print(f"{metric}: reached {reached!r}, the trial had {expected!r} ({verdict})")
    console().print(test_sentence(exported, finished))
    console().print(f"The model is in {out / 'model.safetensors'}, what it is worth in {out / CARD}")


def test_sentence(exported: Exported, finished: protocol.Finished) -> str:
    """What the test examples say of the run, beside what the file states."""
    examples = f"{spec_of(exported.config.task).example}s"
    if finished.test is None:
        return f"There are no test {examples}. {exported.note}"
    metric = exported.reached.objective.metric
    said = f"On {exported.test_examples} test {examples}: {metric} {finished.test.metrics[metric]:.4f}"
    within = is_within(exported, finished)
    if exported.confirmed is None or exported.confirmed.single_run is None or within is None:
        return f"{said}. {exported.note}"
    stated = exported.confirmed.single_run
    return f"{said}, {'within' if within else 'OUTSIDE'} the interval {stated.low:.4f} to {stated.high:.4f} that is stated for one run"


STUDIES_SEEDS = 2**31  # a study draws its own below it
SEEDS = 2**32
CHANCE = "Of sound configurations 1 in 20 falls outside by chance; another seed tells chance from fault:"


def verify_exported(settings: Settings, file: Path, seed: int | None) -> None:
    """Train once more with a fresh seed, and compare with the interval that the file states for one run.

    Raises FaultyFile for a file that states none, and for a seed that the study had; Failure when the score lies outside.
    """
    exported = read(file)
    _refuse_without_interval(file, exported)
    chosen = fresh_seed() if seed is None else seed
    if chosen in seeds_of(exported):
        raise Failure(f"The study itself trained with the seed {chosen}, so it proves nothing; give another one, or none.")
    console().print(f"Training trial {exported.origin.trial}'s configuration with the seed {chosen}, which its study never had")
    finished, _ = run(settings, exported, seed=chosen)
    console().print(conclusion(file, exported, finished))


def conclusion(file: Path, exported: Exported, finished: Finished) -> str:
    """That the run confirms what the file states. Raises Failure when it does not, with another seed to try."""
    sentence = test_sentence(exported, finished)
    if not is_within(exported, finished):
        raise Failure(f"{sentence}.\n{CHANCE}\n  thaw verify {file} --seed {fresh_seed()}")
    return f"{sentence}: it holds what it states."


def _refuse_without_interval(file: Path, exported: Exported) -> Estimate:
    stated = exported.confirmed.single_run if exported.confirmed is not None else None
    if stated is None:
        remedy = "confirm the study (confirm: {top: 3, seeds: 5}, and data.test or data.split: given), and export again with `thaw best`"
        raise FaultyFile(
            file, (("#/confirmed", f"the file states no interval that a run could miss. {exported.note} To verify it, {remedy}"),)
        )
    return stated


def fresh_seed() -> int:
    """A seed that no study draws for its trials."""
    return STUDIES_SEEDS + secrets.randbelow(SEEDS - STUDIES_SEEDS)


def seeds_of(exported: Exported) -> set[int]:
    """The seeds that stand behind what the file states."""
    confirmed: Confirmed | None = exported.confirmed
    return {exported.config.seed, *(confirmed.run_seeds if confirmed is not None else ())}
