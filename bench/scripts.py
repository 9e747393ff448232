"""Measures what a trial of a script costs beside the bare script.

    python -m bench.scripts [--record] [--pairs 8] [--rounds 5]

A `thaw worker` with one slot runs a study of as many trials as there are pairs; then the same script runs as often without Thawline. That
is repeated. The difference of each pair is given twice: for the trial from its claim to its recorded end, and for the whole time of the
slot from one trial's end to the next one's, which includes the suggestion of parameters and the claim. The script prints three epochs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

from bench.tables import machine, median_interval, record, table
from service import operations
from service.domain.parsing import parse_study
from service.store import Store, open_store, queries
from service.store.migrate import upgrade

SCRIPT = """
import sys
lr = float(sys.argv[1].partition("=")[2])
for epoch in range(1, 4):
    print(f"epoch={epoch} loss={(lr - 0.3) ** 2 + 1 / epoch}", flush=True)
"""
HEAD = ("what", "n", "median", "95 % interval of the median", "target")
TARGET = "under 150 ms"
WAIT_SECONDS = 120


@contextmanager
def worker(home: Path, code: Path) -> Iterator[Store]:
    """The store of a worker that runs scripts in the folder `code`."""
    url = f"sqlite:///{home / 'thawline.db'}"
    upgrade(url)
    command = [sys.executable, "-P", "-m", "service.cli", "worker", "--slots", "1", "--allow-scripts", str(code)]
    with closing(open_store(url)) as store, (home / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, "THAW_HOME": str(home)}, stdout=log, stderr=log)
        try:
            yield store
        finally:
            process.terminate()
            process.wait()


def trials(store: Store, name: str, code: Path, count: int) -> list[tuple[float, float]]:
    """Run a study, and return when each trial was claimed and when its end was recorded, in its order."""
    study = operations.create_study(
        store,
        parse_study({
            "name": name, "task": "script", "command": [sys.executable, "train.py", "${args}"], "workdir": str(code),
            "search_space": {"lr": {"type": "float", "low": 0.01, "high": 1.0}},
            "objective": {"metric": "loss", "direction": "minimize"}, "budget": {"trials": count},
        }),
    )  # fmt: skip
    deadline = time.monotonic() + WAIT_SECONDS
    while not store.read(queries.find_study, study.id).state.terminal:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} did not end in {WAIT_SECONDS} s")
        time.sleep(0.2)
    found = [store.read(queries.attempts, trial.id)[0] for trial in store.read(queries.trials, study.id)]
    if any(attempt.ending != "complete" for attempt in found):
        raise RuntimeError(f"{name}: {found}")
    return [(attempt.started_at, attempt.ended_at or 0.0) for attempt in found]


def bare(code: Path) -> float:
    """Seconds of the script alone, with its output in a pipe."""
    began_at = time.perf_counter()
    subprocess.run(
        [sys.executable, "train.py", "--lr=0.5"], cwd=code, env={**os.environ, "PYTHONUNBUFFERED": "1"}, check=True, capture_output=True
    )
    return time.perf_counter() - began_at


def measured(pairs: int, rounds: int) -> dict[str, list[float]]:
    """Seconds by row of the table."""
    found: dict[str, list[float]] = {"the bare script": [], "a trial more, claim to finish": [], "a trial more, end to end": []}
    alone, attempt, slot = found.values()
    with tempfile.TemporaryDirectory() as folder:
        home, code = Path(folder, "home"), Path(folder, "code")
        home.mkdir()
        code.mkdir()
        (code / "train.py").write_text(SCRIPT)
        with worker(home, code) as store:
            trials(store, "warm", code, 3)  # imports, statements, and the test of the device
            for number in range(rounds):
                times = trials(store, f"round-{number}", code, pairs + 1)
                took = [bare(code) for _ in range(pairs)]
                alone += took
                attempt += [ended - began - one for (began, ended), one in zip(times[1:], took, strict=True)]
                slot += [later[1] - earlier[1] - one for (earlier, later), one in zip(pairwise(times), took, strict=True)]
    return found


def rows(found: dict[str, list[float]]) -> list[tuple[object, ...]]:
    """The rows of the table."""
    listed = list[tuple[object, ...]]()
    for name, seconds in found.items():
        low, high = median_interval(seconds)
        target = TARGET if name.startswith("a trial") else ""
        listed.append(
            (name, len(seconds), f"{1000 * statistics.median(seconds):.0f} ms", f"{1000 * low:.0f} to {1000 * high:.0f} ms", target)
        )
    return listed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    found = table(HEAD, rows(measured(asked.pairs, asked.rounds)))
    print(found)
    if asked.record:
        record(f"A trial of a script beside the bare script: {machine()}", f"One slot, SQLite. `python -m bench.scripts`.\n\n{found}")


if __name__ == "__main__":
    main()
