"""A server with a worker and its trainer as processes on SQLite, and studies on them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.gpu.material import images, weights
from bench.gpu.needs import ROOT
from bench.gpu.parts import Bench, Unexpected
from service.cli.processes import end_process
from service.client import Client
from service.rest_models import TrialView
from trainer.tasks.images import catalogue

MODEL = "small_cnn"
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
POLL_SECONDS = 0.5
END_SECONDS = 3.0
TOGETHER, ALONE = 4, 2  # trials of the two studies
ENDED = ("complete", "failed", "stopped")


def perform(bench: Bench) -> None:
    """Six trials through the service, and one whose trainer is killed."""
    with served(bench) as (client, pid):
        bench.case("heads trained together", lambda: _together(bench, client), 15)
        bench.case("the whole network", lambda: _alone(bench, client), 10)
        bench.case("workers", lambda: _workers(client))
        bench.case("a killed trainer", lambda: _killed(bench, client, pid), 20)


@contextmanager
def served(bench: Bench) -> Iterator[tuple[Client, int]]:
    """A client of a server with one worker, and the server's process id. The log is OUT/serve.txt."""
    home, log = bench.folder / "home", bench.out / "serve.txt"
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "THAW_HOME": str(home), "THAW_HEARTBEAT_SECONDS": "1",
        "THAW_LEASE_SECONDS": "6", "THAW_DISK_FLOOR_BYTES": "0",
    }  # fmt: skip
    environment.pop("THAW_DATABASE_URL", None)
    command = [sys.executable, "-P", "-m", "service.cli", "serve", "--port", "0", "--workers", "1", "--slots", "1"]
    with log.open("wb") as output, subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=output) as server:
        try:
            with Client(_address(server, log)) as client:
                yield client, server.pid
        finally:
            end_process(server, END_SECONDS)


def _address(server: "subprocess.Popen[bytes]", log: Path) -> str:
    while server.poll() is None:
        if found := ADDRESS.search(log.read_text(errors="replace")):
            return found.group()
        time.sleep(POLL_SECONDS / 5)
    raise Unexpected(f"the server ended with exit code {server.returncode}: {log.read_text(errors='replace')[-500:]}")


def _study(bench: Bench, name: str, trials: int, fixed: Mapping[str, object]) -> dict[str, object]:
    size = bench.sized(64, 16)
    return {
        "name": name,
        "task": "image_classification",
        "data": {"path": str(images(bench, bench.sized(600, 60), bench.sized(256, 32))), "validation": 0.2},
        "model": {"name": MODEL, "weights": str(weights(bench, MODEL, size))},
        "search_space": {"lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}},
        "fixed": {"epochs": 2, "image_size": size, "batch_size": 16, **fixed},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "sampler": {"name": "random", "seed": 0},
        "budget": {"trials": trials},
    }


def _together(bench: Bench, client: Client) -> Mapping[str, object]:
    stages = len(catalogue.load(MODEL).stages)
    values, trials = _completed(bench, client, _study(bench, "heads", TOGETHER, {"frozen_layers": stages}))
    most = max(trial.reuse.lanes for trial in trials if trial.reuse is not None)
    if most < 2:
        raise Unexpected("each trial of the head alone was trained by itself")
    return {**values, "trained_together": most}


def _alone(bench: Bench, client: Client) -> Mapping[str, object]:
    values, _ = _completed(bench, client, _study(bench, "whole", ALONE, {"frozen_layers": 0}))
    return values


def _completed(bench: Bench, client: Client, document: dict[str, object]) -> tuple[dict[str, object], list[TrialView]]:
    """Create the study and wait for its end. Raises Unexpected if one of its trials is not complete."""
    started_at, name = time.monotonic(), str(document["name"])
    client.create_study(document)
    while (state := client.study(name).state) not in ENDED:
        if bench.seconds_left < 2:
            states = [trial.state for trial in client.trials(name)]
            raise Unexpected(f"the study is {state} after {time.monotonic() - started_at:.0f} s, its trials are {states}")
        time.sleep(POLL_SECONDS)
    trials = list(client.trials(name))
    if state != "complete" or any(trial.state != "complete" for trial in trials):
        raise Unexpected(f"the study is {state}, its trials: {[(trial.state, trial.detail) for trial in trials]}")
    paces = [trial.pace.samples_per_second for trial in trials if trial.pace is not None]
    devices = {str(trial.result.get("environment", {}).get("device")) for trial in trials}
    return {"trials": len(trials), "seconds": time.monotonic() - started_at, "images_per_second": paces, "device": sorted(devices)}, trials


def _workers(client: Client) -> Mapping[str, object]:
    listed = [json.loads(worker.model_dump_json()) for worker in client.workers()]
    return {"workers": [{name: one.get(name) for name in ("state", "devices", "slots", "unusable") if name in one} for one in listed]}


def _killed(bench: Bench, client: Client, server: int) -> Mapping[str, object]:
    """Kill the trainer after the first epoch. The trial must be complete after a second attempt."""
    document = _study(bench, "killed", 1, {"frozen_layers": 0, "epochs": bench.sized(60, 40)})
    client.create_study(document)
    while not any(trial.step for trial in client.trials("killed")):
        if bench.seconds_left < 2 or client.study("killed").state in ENDED:
            raise Unexpected(f"the study is {client.study('killed').state} before its trainer could be killed")
        time.sleep(POLL_SECONDS / 10)
    trainers = [pid for pid in _below(server) if b"\0trainer\0" in _file(pid, "cmdline")]
    if not trainers:
        raise Unexpected("no trainer was found below the server's process")
    for pid in trainers:
        os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    while client.study("killed").state not in ENDED and bench.seconds_left > 2:
        time.sleep(POLL_SECONDS)
    (trial,) = client.trials("killed")
    if trial.state != "complete" or trial.attempt < 2:
        raise Unexpected(f"the trial is {trial.state} in attempt {trial.attempt}: {trial.detail}")
    return {"attempts": trial.attempt, "seconds_after_the_kill": time.monotonic() - killed_at}


def _below(parent: int) -> set[int]:
    """The processes below that one, by the kernel's list."""
    parents = dict[int, int]()
    for folder in Path("/proc").glob("[0-9]*"):
        if fields := _file(int(folder.name), "stat").rpartition(b")")[2].split():
            parents[int(folder.name)] = int(fields[1])
    found, new = set[int](), {parent}
    while new:
        new = {pid for pid, above in parents.items() if above in new} - found
        found |= new
    return found


def _file(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""
