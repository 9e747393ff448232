"""Trains the recorded list with Thawline as in production: server, worker and store in a new home, controlled over REST."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

from bench.replay.orders import Order, Outcome, Trained
from service.cli.processes import end_process

ADDRESS = "http://"
END_SECONDS = 20
PAGE = 100
POLL_SECONDS = 0.5  # long, because requests cost the server time; a replay ends with its last result and not with the poll that finds it
SWITCHES: Mapping[str, tuple[Mapping[str, str], Sequence[str]]] = {
    "cache": ({"THAW_CACHE_BYTES": "0"}, ()),
    "lanes": ({"THAW_LANE_BYTES": "0"}, ()),
    "slots": ({}, ("--slots", "1")),  # one trial at a time, with one thread per core
}
"""The environment variables and options that switch off a technique."""


@contextmanager
def server(home: Path, without: tuple[str, ...] = (), workers: int = 1) -> Iterator[tuple[int, str]]:
    """Run `thaw serve` with workers; yields process id and address. Raises RuntimeError with its log if it does not start."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THAW_")} | {"THAW_HOME": str(home)}
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--workers", str(workers), "--parent", str(os.getpid())]
    for name in without:
        settings, flags = SWITCHES[name]
        environment |= settings
        command += flags
    home.mkdir(parents=True, exist_ok=True)
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    try:
        assert process.stdout
        line = next((line for line in process.stdout if ADDRESS in line), "")
        if not line:
            raise RuntimeError(f"the server did not start: {(home / 'server.log').read_text()[-2_000:]}")
        yield process.pid, ADDRESS + line.partition(ADDRESS)[2].split()[0]
    finally:
        end_process(process, END_SECONDS)


def replayed(order: Order, address: str) -> tuple[Outcome, float]:
    """Post the study, queue the list, and wait. Returns the outcome and the seconds since the post. Raises RuntimeError."""
    with httpx2.Client(base_url=f"{address}/api/v1/", timeout=60, trust_env=False) as http:
        posted = time.perf_counter()
        trials = finished(http, order.document, [dict(params) for params in order.params.values()])
        seconds = time.perf_counter() - posted
    return _outcome(list(order.numbers), trials), seconds


def finished(http: httpx2.Client, document: Mapping[str, Any], queue: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """The trials of a new study once it is complete, queued ones first. Raises RuntimeError if it does not complete."""
    study = _sound(http.post("studies", json=document))["id"]
    if queue:
        _sound(http.post(f"studies/{study}/trials", json={"trials": queue}))
    _await_end(http, study)
    return _trials(http, study)


def _await_end(http: httpx2.Client, study: str) -> None:
    while (state := _sound(http.get(f"studies/{study}"))["state"]) in ("active", "paused"):
        time.sleep(POLL_SECONDS)
    if state != "complete":
        raise RuntimeError(f"the study ended as {state}")


def _trials(http: httpx2.Client, study: str) -> list[dict[str, Any]]:
    found, after = list[dict[str, Any]](), None
    while True:
        page = _sound(http.get(f"studies/{study}/trials", params={"limit": PAGE} | ({} if after is None else {"after": after})))
        found += page["trials"]
        if (after := page["next"]) is None:
            return found


def _outcome(numbers: list[int], trials: list[dict[str, Any]]) -> Outcome:
    if strangers := [trial["number"] for trial in trials if trial["source"] != "user"]:
        raise RuntimeError(f"the trials {strangers} are not of the list")
    if failed := [trial for trial in trials if trial["state"] != "complete" and trial["reason"] != "diverged"]:
        raise RuntimeError(f"trial {failed[0]['number']} ended as {failed[0]['state']}: {failed[0]['detail']}")
    trained = [_trained(numbers[trial["number"]], trial) for trial in trials]
    start, end = min(trial["started_at"] for trial in trials), max(trial["finished_at"] for trial in trials)
    passes = {
        (trial["started_at"], trial["worker"]): trial["result"].get("pace") or {} for trial in trials
    }  # runs trained together report the same pace
    activities: dict[str, float] = {}
    for pace in passes.values():
        for activity, seconds in pace.get("seconds", {}).items():
            activities[activity] = activities.get(activity, 0.0) + seconds
    return Outcome(
        trials=tuple(trained),
        busy_seconds=(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(),
        activities=activities,
        saved_seconds=sum(pace.get("saved_seconds", 0.0) for pace in passes.values()),
    )


def _trained(number: int, trial: dict[str, Any]) -> Trained:
    complete, reuse = trial["state"] == "complete", trial["result"].get("reuse") or {}
    seconds = datetime.fromisoformat(trial["finished_at"]) - datetime.fromisoformat(trial["started_at"])
    return Trained(
        number=number,
        seconds=seconds.total_seconds(),
        metrics={name: trial["metrics"][name] for name in ("accuracy", "loss")} if complete else {},
        depth=reuse.get("depth", 0),
        lanes=reuse.get("lanes", 1),
    )


def _sound(response: httpx2.Response) -> Any:
    if not response.is_success:
        raise RuntimeError(f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:1_000]}")
    return response.json()
