"""`thaw demo`: runs a study on the digits dataset of scikit-learn, from preparing the data to exporting the configuration."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from service.cli.console import Failure, assignments, console, number
from service.cli.files import write_whole
from service.cli.processes import end_process, environment_of, require_torch
from service.cli.watching import watch
from service.client import Client, Refused
from service.rest_models import ListedStudyView, StudyView
from service.settings import Settings
from trainer.configuration import FIRST_TASK
from trainer.tasks.capabilities import Demonstration
from trainer.tasks.registry import packages, spec_of

NAME = "demo-digits"
PREPARE_SECONDS = 300
END_SECONDS = 20
ADDRESS = "http://"


class DemoFiles(BaseModel):
    """Output of the task's `demo` module: a dataset, and the weights of a network pretrained on other examples of the same kind."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    data: Path
    weights: Path
    model: str = "small_cnn"


def run_demo(settings: Settings, port: int, trials: int, keep: bool) -> None:
    """Run the demo, which takes about two minutes on two cores. With `keep` the server runs until Ctrl-C. Raises Failure."""
    require_torch()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends the demo like Ctrl-C
    settings = settings.model_copy(update={"database_url": f"sqlite:///{settings.home / 'thawline.db'}"})
    folder = settings.home / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    out = console()
    with _server(settings, port, folder / "server.log") as (server, address):
        out.print(f"Thawline runs at {address}")
        out.print(_task().demo_preparing)
        prepared = _prepare(folder)
        with Client(address, settings.token) as client:
            created = _create(client, prepared, trials)
            out.print(f"Fine-tuning it on the other half: {address}/studies/{created.id}")
            study = watch(client, created)
            _compare(client, study)
            _export(client, study, folder)
        if keep:
            out.print(f"The server keeps running at {address}; press Ctrl-C to stop it.")
            with suppress(KeyboardInterrupt):  # Ctrl-C is the expected way to end
                server.wait()


def study_document(prepared: DemoFiles, name: str, trials: int) -> Mapping[str, Any]:
    """The study document. Trial 0 has the default configuration, as a baseline for the search."""
    return {
        "name": name,
        **_task().demo(str(prepared.data), str(prepared.weights), prepared.model),
        "sampler": {"name": "tpe", "seed": 0},
        "pruner": {"name": "asha", "min_steps": 2, "reduction_factor": 2},
        "budget": {"trials": trials},
    }


def _task() -> Demonstration:
    """The task of the demo. Raises Failure if it has no demo."""
    task = spec_of(FIRST_TASK)
    if not isinstance(task, Demonstration):
        raise Failure(f"The task {FIRST_TASK} has no demo.")
    return task


@contextmanager
def _server(settings: Settings, port: int, log: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `thaw serve` with one worker and yield it with its address. It ends with the block, or with this process."""
    options = ["--workers", "1", "--port", str(_free(port)), "--parent", str(os.getpid())]
    command = [sys.executable, "-P", "-m", "service.cli", "serve", *options]
    with log.open("w") as errors:
        server = subprocess.Popen(  # noqa: S603  (a fixed list)
            command, env=environment_of(settings), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield server, _address_of(server, log)
    finally:
        end_process(server, END_SECONDS)


def _address_of(server: subprocess.Popen[str], log: Path) -> str:
    """The address that the server prints when it is ready. Raises Failure with the end of its log if the server exits first."""
    assert server.stdout  # noqa: S101  (a pipe; for mypy)
    for line in server.stdout:
        if ADDRESS in line:
            return ADDRESS + line.partition(ADDRESS)[2].split()[0]
    raise Failure(f"The server did not start. Its log, {log}, ends with:\n{log.read_text()[-2_000:]}")


def _free(port: int) -> int:
    """The port, or 0 (any free port) if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _prepare(folder: Path) -> DemoFiles:
    """Create data and weights in the folder, if they do not exist. Raises Failure."""
    command = [sys.executable, "-P", "-m", f"{packages()[FIRST_TASK]}.demo", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PREPARE_SECONDS, check=True)  # noqa: S603  (a fixed list)
    except subprocess.CalledProcessError as error:
        raise Failure(f"Creating the demo data failed:\n{error.stderr[-2_000:]}") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"Creating the demo data took longer than {PREPARE_SECONDS} seconds.") from None
    return DemoFiles.model_validate(json.loads(done.stdout.splitlines()[-1]))


def _create(client: Client, prepared: DemoFiles, trials: int) -> StudyView:
    """Create the study under a free name. Stops unfinished demo studies, because they would compete for the worker."""
    for study in client.studies():
        if study.name.startswith(NAME) and not study.state.terminal:
            client.command(study.id, "stop")
    count = 1
    while True:
        name = NAME if count == 1 else f"{NAME}-{count}"
        try:
            return client.create_study(study_document(prepared, name, trials))
        except Refused as refusal:
            if refusal.kind != "name-taken":
                raise
        count += 1


def _compare(client: Client, study: ListedStudyView) -> None:
    """Print the baseline, the best trial and the difference."""
    out, baseline = console(), client.trial(study.id, 0)
    if study.best is None or baseline.value is None:
        out.print("The best trial and the default configuration cannot be compared, because one of them did not finish.")
        return
    out.print(f"Default configuration (trial 0): {study.metric} {number(baseline.value)}")
    out.print(_verdict(study, study.best.value - baseline.value))


def _verdict(study: ListedStudyView, gain: float) -> str:
    if gain <= 0 or study.best is None:
        return "The search found nothing better than the default configuration."
    found = f"Best (trial {study.best.number}): {study.metric} {number(study.best.value)} with {assignments(study.best.params)}"
    examples = f"{spec_of(study.spec.task).example}s"
    return f"{found}\nThat is {100 * gain:.1f} percentage points better than the default, on the validation {examples} that selected it."


def _export(client: Client, study: ListedStudyView, folder: Path) -> None:
    file = folder / f"{study.name}.yaml"
    write_whole(file, client.best(study.id))
    console().print(f"The configuration is in {file}. Train it with:\n  thaw train {file} --out {folder / 'model'}")
