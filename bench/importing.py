"""Measures how long a large import blocks other processes on an SQLite database: `python -m bench.importing [MEGABYTES]`.

It imports a file of trials with 500 steps and 100 metrics each, while one process reads and another one writes as fast as they can.
It prints the time of the import and the longest times of a read and a write.
"""

import hashlib
import io
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.parsing import parse_study
from service.operations.importing import import_study
from service.store import Store, open_store, queries
from service.store.migrate import upgrade
from service.study_io.import_ import sound

STEPS, METRICS = 500, 100
MEGABYTE = 1_000_000


def spec_of(name: str) -> dict[str, object]:
    """A study document."""
    return {
        "name": name, "data": {"path": "/data", "location": "workers"}, "model": {"name": "squeezenet1_1"},
        "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 10_000},
        "search_space": {"lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": True}},
    }  # fmt: skip


def study_file(size: int) -> bytes:
    """An export file of about `size` bytes. Each trial has 500 steps with 100 metrics of four bytes each."""
    at = "2026-11-22T09:30:00.000000Z"
    reports = {"steps": list(range(1, STEPS + 1)), "metrics": {f"{'m' * 60}{number:04}": [0.5] * STEPS for number in range(METRICS)}}
    trial = {
        "kind": "thawline/trial", "state": "complete", "params": {"lr": 0.01}, "value": 0.5, "metrics": {"accuracy": 0.5}, "step": STEPS,
        "attempt": 1, "reason": None, "detail": None, "worker": "w", "duplicate_of": None, "source": "sampler", "confirms": None,
        "round": None, "result": {}, "queued_at": at, "started_at": at, "finished_at": at, "reports": reports,
    }  # fmt: skip
    trials = max(1, size // len(_line({**trial, "number": 0})))
    spec = parse_study(spec_of("large")).model_dump(mode="json")
    head = {
        "kind": "thawline/study", "schema_version": 1, "id": None, "name": "large", "state": "stopped", "reason": None, "spec": spec,
        "facts": None, "confirmation": None, "created": trials, "created_at": at, "started_at": at, "finished_at": at,
    }  # fmt: skip
    lines = [_line(head), *(_line({**trial, "number": number}) for number in range(trials))]
    body = b"".join(lines)
    end = {"kind": "thawline/end", "trials": trials, "lines": len(lines), "sha256": hashlib.sha256(body).hexdigest()}
    return body + _line(end)


def _line(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _read(store: Store) -> None:
    store.read(queries.find_study, "other")


def _write(store: Store) -> None:
    operations.try_to_write(store)


def _longest(url: str, act: Callable[[Store], None], stop: Event, answer: "multiprocessing.Queue[tuple[str, int, float]]") -> None:
    store, longest, count = open_store(url), 0.0, 0
    while not stop.is_set():
        began = time.monotonic()
        while True:
            try:
                act(store)
                break
            except StoreUnavailable:  # after ten seconds at the lock
                continue
        longest, count = max(longest, time.monotonic() - began), count + 1
        time.sleep(0.005)
    answer.put((act.__name__, count, longest))


def main(megabytes: float = 30.0) -> None:
    """Import the file into a new SQLite database, and print the times."""
    raw = study_file(int(megabytes * MEGABYTE))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "thawline.db"
        url = f"sqlite:///{file}"
        upgrade(url)
        store = open_store(url)
        operations.create_study(store, parse_study(spec_of("other")))
        stop = multiprocessing.Event()
        answers: multiprocessing.Queue[tuple[str, int, float]] = multiprocessing.Queue()
        others = [multiprocessing.Process(target=_longest, args=(url, act, stop, answers)) for act in (_read, _write)]
        for process in others:
            process.start()
        time.sleep(1)
        stream = io.BytesIO(raw)
        began = time.monotonic()
        header = sound(stream)
        checked = time.monotonic()
        study = import_study(store, header, stream, paused=False)
        ended = time.monotonic()
        stop.set()
        found = sorted(answers.get() for _ in others)
        for process in others:
            process.join()
        size = file.stat().st_size
    values = study.created * STEPS * METRICS
    print(f"{len(raw) / MEGABYTE:.1f} MB, {study.created} trials, {values:,} values, database {size / MEGABYTE:.0f} MB")
    print(f"checked in {checked - began:.1f} s, written in {ended - checked:.1f} s")
    for name, count, longest in found:
        print(f"{name.removeprefix('_')}: {count} times, the longest took {longest:.2f} s")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
