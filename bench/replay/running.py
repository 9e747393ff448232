"""Runs one replay, and measures its wall time and peak memory."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.replay.orders import Order, Outcome
from bench.replay.served import replayed, server
from bench.replay.watching import Watch


@dataclass(frozen=True)
class Replay:
    """The result of an order. The wall time runs from before the first process is started until the last result is known."""

    order: Order
    outcome: Outcome
    wall_seconds: float
    peak_bytes: int
    posted_seconds: float | None = None  # since the study was posted, for the engine thawline

    @property
    def start_seconds(self) -> float:
        """Wall time that does not depend on the number of trials."""
        return self.wall_seconds - self.outcome.busy_seconds

    def scaled(self, count: int) -> float:
        """Seconds for `count` trials: measured if all of them were run, otherwise extrapolated."""
        trials = len(self.outcome.trials)
        return self.wall_seconds if trials == count else self.start_seconds + self.outcome.busy_seconds / trials * count


def run(order: Order) -> Replay:
    """Run the order. Raises RuntimeError with the end of the engine's log if it fails."""
    return _served(order) if order.engine == "thawline" else _apart(order)


def _served(order: Order) -> Replay:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with server(Path(folder) / "home", order.without) as (process, address), Watch(process) as watch:
            outcome, posted_seconds = replayed(order, address)
            wall = time.perf_counter() - started
    return Replay(order, outcome, wall, watch.peak_bytes, posted_seconds)


def _apart(order: Order) -> Replay:
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "bench.replay.engines"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        assert child.stdin and child.stdout
        said, wall = "", 0.0
        with child, Watch(child.pid) as watch:
            child.stdin.write(order.model_dump_json())
            child.stdin.close()
            for line in child.stdout:
                said, wall = line, time.perf_counter() - started
        if child.returncode:
            errors.seek(0)
            raise RuntimeError(f"the engine {order.engine} ended with {child.returncode}: {errors.read()[-4_000:]}")
    return Replay(order, Outcome.model_validate_json(said), wall, watch.peak_bytes)
