"""`thaw train` and `thaw verify`: trains an exported configuration again, or checks its stated test score."""

import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from search_spaces.documents import finite
from service.cli.console import Failure, FaultyFile, console, print_json
from service.cli.files import read_text, write_whole
from service.cli.processes import require_torch
from service.domain.errors import InvalidInput
from service.domain.export import Confirmed, Exported, read_export
from service.domain.verdict import FEWEST_USEFUL_RUNS, Estimate
from service.exports.card import card, is_within
from service.settings import Settings
from service.worker.devices import Slot, cores
from service.worker.discovery import find_devices
from service.worker.process import TrainerDied, TrainerMessage, TrainerProcess
from service.worker.scripts import AllowedScripts
from trainer import protocol
from trainer.configuration import RunConfig, TrainConfig, counted
from trainer.protocol import Finished
from trainer.tasks.registry import spec_of
from trainer.tasks.script.config import CHECKPOINTS

MAX_BYTES = 8 * 2**20  # of an exported file; the manifest of 100,000 examples has 0.5 MB
READ_SECONDS = 0.5
THREADS = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
START_SECONDS = 300.0

RunOutcome = tuple[protocol.Finished, protocol.ModelExported | None]


def read(file: Path) -> Exported:
    """Parse the exported file. Raises FaultyFile, and Failure if torch is missing and needed."""
    try:
        exported = read_export(read_text(file, MAX_BYTES))
    except InvalidInput as error:
        raise FaultyFile(file, tuple((fault.pointer, fault.message) for fault in error.faults)) from None
    if isinstance(exported.config, TrainConfig):
        require_torch()
    return exported


def run(settings: Settings, exported: Exported, shown: Console, out: Path | None = None, seed: int | None = None) -> RunOutcome:
    """Train and score, with the seeds of the file or with `seed`. Writes the model to the folder `out` if given, progress to `shown`.

    Raises Failure.
    """
    slot = _slot_like(exported)
    if isinstance(exported.config, TrainConfig):
        command = slot.command(settings.model_copy(update={"report_examples": 0}))  # no texts and pictures of the data beside a model
    else:
        command = _allowed(settings, exported.config).command(slot, settings)
    process = TrainerProcess(command, slot.environment(os.environ))
    try:
        return _follow(process, exported, order_of(exported, out, seed), shown)
    except TrainerDied as died:
        raise Failure(died.death.detail) from None
    finally:
        process.close(grace_seconds=0.5)


def _allowed(settings: Settings, config: RunConfig) -> AllowedScripts:
    """The folders in which scripts may run. Raises Failure if that of the script is in none: an exported file may come from anywhere."""
    try:
        allowed = AllowedScripts.below(settings.allow_scripts)
    except OSError as error:
        raise Failure(f"--allow-scripts: {error.filename} cannot be used: {error.strerror}.") from None
    for folder in config.paths:
        if allowed.refusal(folder) is not None:
            raise Failure(f"The file starts a program in {folder}. If you trust it, allow that: --allow-scripts {folder}")
    return allowed


def order_of(exported: Exported, out: Path | None, seed: int | None) -> protocol.Run:
    """The message that starts the run. With `seed` the run shares only configuration and data split with the trial."""
    trains = isinstance(exported.config, TrainConfig)
    return protocol.Run(
        config=exported.config if seed is None else exported.config.with_seed(seed),
        expected=exported.facts,
        manifest=exported.manifest,
        score_test=exported.test_examples > 0 or (seed is not None and not trains),
        model_file=str(out / MODEL) if out is not None and trains else None,
        checkpoint_folder=str(out / OUTPUT) if out is not None and not trains else None,
        depths=exported.depths,
    )


def _slot_like(exported: Exported) -> Slot:
    """A slot with the trial's kind of device and thread count if this machine has them, because results depend on both."""
    recorded = exported.environment.get("threads", "")
    found = find_devices().devices if exported.environment.get("accelerator") == "cuda" else ()
    wanted = int(recorded) if THREADS.fullmatch(recorded) else cores()
    if wanted > cores():
        used, here = counted(wanted, "thread"), counted(cores(), "core")
        sys.stderr.write(f"The trial used {used}, but this machine has {here}, so metrics may differ in their last digits.\n")
    return Slot(0, found[0] if found else None, min(wanted, cores()))


def _follow(process: TrainerProcess, exported: Exported, order: protocol.Run, shown: Console) -> RunOutcome:
    """Run the order with progress bars until the trainer is ready again. Raises Failure, TrainerDied."""
    finished: protocol.Finished | None = None
    example = spec_of(exported.config.task).example
    with Bars(exported.config.last_step, exported.reached.objective.metric, example, shown) as bars:
        _await_ready(process)
        process.send(order)
        while True:
            match process.read(READ_SECONDS):
                case protocol.Failed() as failed:
                    raise Failure(f"Training failed ({failed.reason}): {failed.detail}")
                case protocol.Unavailable() as unavailable:
                    raise Failure(f"The {unavailable.what} cannot be read: {unavailable.detail}")
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
        if isinstance(line := process.read(READ_SECONDS), protocol.DeviceUnusable):
            raise Failure(f"The GPU cannot be used: {line.detail}\n{line.remedy}.")
        if time.monotonic() > deadline:
            raise Failure(f"The trainer was not ready after {START_SECONDS:g} seconds.")


class Bars:
    """A progress bar for the epochs and one for the batches of the current epoch."""

    def __init__(self, epochs: int, metric: str, example: str, out: Console) -> None:
        self._console = out
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

    def show(self, line: TrainerMessage | None) -> None:
        """Update the bars from a message of the trainer."""
        match line:
            case protocol.RunPrepared():
                self._progress.update(self._batch_bar, note="")
                if "train" in line.facts.sizes:
                    examples = counted(line.facts.sizes["train"], self._example)
                    self._console.print(f"{line.trainable:,} of {counted(line.parameters, 'parameter')} are trained on {examples}")
            case protocol.BatchProgress():
                note = f"{line.samples_per_second:.0f} {self._example}s/s"
                self._progress.update(self._batch_bar, total=line.batches, completed=line.batch, note=note)
            case protocol.EpochMetrics():
                self._epochs = max(self._epochs, line.step)
                value = line.metrics.get(self._metric)
                note = "" if value is None else f"{self._metric} {value:.4f}"
                self._progress.update(self._epoch_bar, completed=line.step, note=note)
                if not self._console.is_terminal:
                    self._console.print(f"epoch {line.step}/{self._epochs}: {note}")
            case _:
                pass


CARD, MODEL, OUTPUT = "MODEL_CARD.md", "model.safetensors", "output"
CONVERTED = ("model.onnx", "model.int8.onnx")  # what `thaw convert` writes beside a model


def train_exported(settings: Settings, file: Path, out: Path, *, as_json: bool) -> None:
    """Train, and write model.safetensors, result.json, config.yaml and MODEL_CARD.md to the folder. Raises Failure, FaultyFile.

    A script writes what it wants to the folder `output` instead of a model and its card.
    """
    exported = read(file)
    out = out.absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{out} cannot be created: {error.strerror}") from None
    if not (trains := isinstance(exported.config, TrainConfig)):
        _prepare_output(out)
    elif (out / MODEL).exists():
        sys.stderr.write(f"{out} has a model already, which is replaced.\n")
    finished, model = run(settings, exported, console(stderr=as_json), out)
    if not trains:
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)  # the next run starts anew, one after an interruption resumes
    if trains and model is None:
        raise Failure("The trainer ended without a model.")
    for converted in (out / name for name in CONVERTED if trains and (out / name).exists()):
        converted.unlink()
        sys.stderr.write(f"{converted} was made from the replaced model and is removed; run `thaw convert` again.\n")
    write_whole(out / "config.yaml", exported.to_yaml())
    made = {"files": _digests(out / OUTPUT)} if model is None else {"model": {"file": Path(model.path).name, "sha256": model.sha256}}
    result = _result(exported, finished, made)
    write_whole(out / "result.json", json.dumps(finite(result), indent=2) + "\n")
    if trains:
        write_whole(out / CARD, card(exported, finished))
    if as_json:
        print_json(result)
    else:
        _report(exported, finished, out)


def _prepare_output(out: Path) -> None:
    """Remove what an interrupted run of a script has written besides its checkpoints, as each attempt at a trial has a new folder.

    Raises Failure for folders with other content: old metrics would be read as those of this run, and checkpoints are removed after it.
    """
    checkpoints, output = out / CHECKPOINTS, out / OUTPUT
    if any(path.stem != OUTPUT for path in checkpoints.glob("*")):
        raise Failure(f"{checkpoints} has other files, and is removed after the run of a script; choose another folder: --out.")
    if (checkpoints / OUTPUT).is_dir():
        shutil.rmtree(output, ignore_errors=True)
    elif any(output.glob("*")):
        raise Failure(f"{output} has files of another run; remove it, or choose another folder: --out.")


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in the folder and below, by relative path."""
    found = dict[str, str]()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _result(exported: Exported, finished: protocol.Finished, made: Mapping[str, Any]) -> dict[str, Any]:
    reached = finished.metrics.get(exported.reached.objective.metric)
    return {
        "metric": exported.reached.objective.metric,
        "expected": exported.reached.value,
        "reached": reached,
        "equal": reached == exported.reached.value,
        "confirmed": exported.confirmed is not None,
        "within": is_within(exported, finished),
        **made,
        **finished.flat(exclude=("kind", "test")),
        "test": None if finished.test is None else finished.test.flat(),
    }


def _report(exported: Exported, finished: protocol.Finished, out: Path) -> None:
    metric, expected = exported.reached.objective.metric, exported.reached.value
    reached = finished.metrics.get(metric)
    differs = "not equal: the trial was trained together with others, or device, threads or versions differ"
    if exported.environment.get("accelerator") == "cuda":
        differs += ", or the GPU added up in another order"
    if not isinstance(exported.config, TrainConfig):
        differs = "not equal: the script, its packages or its data differ, or it draws numbers that THAW_SEED does not seed"
    verdict = "equal" if reached == expected else differs
    console().print(f"{metric}: {reached!r}, in the trial {expected!r} ({verdict})")
    if isinstance(exported.config, TrainConfig):
        console().print(test_sentence(exported, finished))
        console().print(f"The model is in {out / MODEL}, its model card in {out / CARD}")
    else:
        console().print(exported.note)
        console().print(f"What the script wrote to THAW_OUT is in {out / OUTPUT}")


def test_sentence(exported: Exported, finished: protocol.Finished) -> str:
    """The test score of the run, compared with the interval stated in the file."""
    examples = f"{spec_of(exported.config.task).example}s"
    if finished.test is None:
        return f"There are no test {examples}. {exported.note}"
    metric = exported.reached.objective.metric
    where = f"On {exported.test_examples} test {examples}" if exported.test_examples else "In this run"
    score = f"{where}: {metric} {finished.test.metrics[metric]:.4f}"
    within = is_within(exported, finished)
    if exported.confirmed is None or exported.confirmed.single_run is None or within is None:
        return f"{score}. {exported.note}"
    stated = exported.confirmed.single_run
    return f"{score}, {'within' if within else 'OUTSIDE'} the interval from {stated.low:.4f} to {stated.high:.4f} stated for one run"


STUDIES_SEEDS = 2**31  # studies draw their seeds below this number
SEEDS = 2**32
REMEDY = (
    f"To get a useful interval, write confirm: {{top: 3, seeds: 5}} in a study, with at least {FEWEST_USEFUL_RUNS} seeds, "
    "and export it again with `thaw best`."
)
WEAK = f"This is weak evidence, because an interval from two runs is wide. {REMEDY}"
CHANCE = "For a correct configuration this happens by chance in 1 of 20 runs. Try another seed to rule that out:"


def verify_exported(settings: Settings, file: Path, seed: int | None, *, as_json: bool) -> None:
    """Train again with a new seed, and compare the test score with the interval that the file states for one run.

    Raises FaultyFile if the file states no interval, Failure if the study used the seed or the score is outside the interval.
    """
    exported = read(file)
    stated = _refuse_without_interval(file, exported)
    _refuse_boundless(exported, stated)
    chosen = fresh_seed() if seed is None else seed
    if chosen in seeds_of(exported):
        raise Failure(f"The study used seed {chosen}, so training with it again verifies nothing; use another seed, or leave out --seed.")
    out = console(stderr=as_json)
    out.print(f"Training the configuration of trial {exported.origin.trial} with seed {chosen}, which its study did not use")
    finished, _ = run(settings, exported, out, seed=chosen)
    if as_json:
        print_json(_verified(exported, finished, chosen, stated))
    out.print(conclusion(file, exported, finished))


def _verified(exported: Exported, finished: Finished, seed: int, stated: Estimate) -> dict[str, Any]:
    metric = exported.reached.objective.metric
    test = None if finished.test is None else finished.test.metrics[metric]
    interval = {"low": stated.low, "high": stated.high}
    return {"metric": metric, "seed": seed, "test": test, "interval": interval, "within": is_within(exported, finished)}


def conclusion(file: Path, exported: Exported, finished: Finished) -> str:
    """The sentence for a score within the stated interval. Raises Failure, with another seed to try, if it is outside."""
    sentence = test_sentence(exported, finished)
    if not is_within(exported, finished):
        raise Failure(f"{sentence}.\n{CHANCE}\n  thaw verify {file} --seed {fresh_seed()}")
    if exported.confirmed is not None and exported.confirmed.seeds < FEWEST_USEFUL_RUNS:
        return f"{sentence}. {WEAK}"
    return f"{sentence}: verified."


def _refuse_without_interval(file: Path, exported: Exported) -> Estimate:
    stated = exported.confirmed.single_run if exported.confirmed is not None else None
    if stated is None:
        test = "data.test (or data.split: given)" if isinstance(exported.config, TrainConfig) else "a baseline"
        remedy = f"set confirm: {{top: 3, seeds: 5}} and {test} in a study, and export it again with `thaw best`"
        raise FaultyFile(file, (("#/confirmed", f"the file states no interval to verify. {exported.note} To get one, {remedy}"),))
    return stated


def _refuse_boundless(exported: Exported, stated: Estimate) -> None:
    """Raises Failure if the interval contains every possible score."""
    name = exported.reached.objective.metric
    metric = exported.reached.objective.measure(spec_of(exported.config.task))
    if stated.low <= metric.low and stated.high >= metric.high:
        interval = f"{stated.low:.4f} to {stated.high:.4f}"
        raise Failure(f"The interval stated for one run, {interval}, contains every possible {name}, so a run confirms nothing. {REMEDY}")


def fresh_seed() -> int:
    """A random seed from the range that studies do not use."""
    return STUDIES_SEEDS + secrets.randbelow(SEEDS - STUDIES_SEEDS)


def seeds_of(exported: Exported) -> set[int]:
    """The seeds of the runs on which the stated results are based."""
    confirmed: Confirmed | None = exported.confirmed
    return {exported.config.seed, *(confirmed.run_seeds if confirmed is not None else ())}
