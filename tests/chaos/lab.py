"""Where the faults are injected: a home, a database, the processes that work on it, and counts of what was done to them."""

import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.parsing import parse_study
from service.domain.records import Study, Trial
from service.settings import Settings
from service.store import open_store, queries
from tests.chaos.launch import HISTORY, MUTANT, SLOTS, run
from tests.forking import forkserver
from tests.processes import alive, below

ROOT = Path(__file__).resolve().parents[2]
LONG = bool(os.environ.get("THAW_CHAOS_LONG"))  # `make chaos`
FIGURES = "THAW_CHAOS_FIGURES"  # a file that each scenario's counts are appended to
ADDRESS = re.compile(r"http://\S+")


class Process:
    """One of ours, with its output in a file."""

    def __init__(self, process: ForkServerProcess, output: Path) -> None:
        self._process, self.output = process, output
        self.address = ""  # of a server

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    def said(self) -> str:
        """All that it wrote."""
        return self.output.read_text() if self.output.exists() else ""

    def family(self) -> set[int]:
        """The process and all below it."""
        return {self.pid, *below(self.pid)} if self.runs else set()

    def signal(self, number: signal.Signals) -> None:
        """Send it, if there is still someone to send it to."""
        if self.runs:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """As by `kill -9`, and wait for its end. Its trainers follow by themselves."""
        self.signal(signal.SIGKILL)
        self._process.join(60)

    def end(self, seconds: float = 15) -> int | None:
        """Tell it to end, and wait; its exit code, None when it did not heed."""
        self.signal(signal.SIGTERM)
        self._process.join(seconds)
        return self.exit_code


class Lab:
    """Everything of one scenario on one database. `close` leaves no process behind, and fails if a trainer outlived its worker."""

    def __init__(self, home: Path, database_url: str, *, lease_seconds: float = 2.0, heartbeat_seconds: float = 0.25) -> None:
        self.home, self.database_url = home, database_url
        self.settings = Settings(home=home, database_url=database_url, lease_seconds=lease_seconds, heartbeat_seconds=heartbeat_seconds)
        self.store = open_store(database_url)
        self.seed = int(os.environ.get("THAW_CHAOS_SEED") or random.SystemRandom().randrange(2**32))
        self.random = random.Random(self.seed)
        print(f"THAW_CHAOS_SEED={self.seed} replays what is drawn here")  # seen when the test fails
        self.counts = Counter[str]()  # what was injected
        self.measured = dict[str, float]()  # what came of it; may well be nothing
        self.history = home / "history"
        self.history.mkdir(parents=True)
        self.processes = list[Process]()

    def environment(self, **variables: str) -> dict[str, str]:
        """Of a process of ours."""
        own = {
            "THAW_HOME": str(self.home), "THAW_DATABASE_URL": self.database_url, "THAW_CACHE_BYTES": "0", "THAW_LANE_BYTES": "0",
            "THAW_DISK_FLOOR_BYTES": "0",
            "THAW_LEASE_SECONDS": str(self.settings.lease_seconds), "THAW_HEARTBEAT_SECONDS": str(self.settings.heartbeat_seconds),
            HISTORY: str(self.history), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        return {**os.environ, **own, **variables}

    def start(self, *arguments: str, **variables: str) -> Process:
        """A process that does what `tests.chaos.launch.run` says. Returns at once."""
        output = self.home / f"output-{len(self.processes)}.txt"
        process = forkserver().Process(target=run, args=(arguments, self.environment(**variables), str(output)))
        process.start()
        self.processes.append(Process(process, output))
        return self.processes[-1]

    def work(self, *toy_options: str, **variables: str) -> Process:
        """A worker process with toy trainers, one unless THAW_CHAOS_SLOTS says how many."""
        return self.start("work", *toy_options, **{SLOTS: "1", **variables})

    def serve(self, **variables: str) -> Process:
        """A server process that answers; its `address` is known."""
        server = self.start("serve", **variables)
        self.until(lambda: self.answers(server) or not server.runs, "the server answers")
        assert server.address, server.said()
        return server

    def answers(self, server: Process) -> bool:
        """Whether the server has said where it is; its `address` is known then."""
        if found := ADDRESS.search(server.said()):
            server.address = found.group()
        return found is not None

    def study(self, trials: int, epochs: int = 10, **document: Any) -> Study:
        """A checked-to-be study of the toy: random search over the learning rate, no duplicates likely."""
        limits = {"attempts": 100, "checkpoint_seconds": 0} | document.pop("limits", {})
        whole = {
            "name": f"chaos-{self.random.randrange(2**40)}", "data": {"path": "/data"}, "model": {"name": "squeezenet1_1"},
            "fixed": {"epochs": epochs, "image_size": 32}, "search_space": {"lr": {"type": "float", "low": 1e-4, "high": 1.0}},
            "objective": {"metric": "accuracy", "direction": "maximize"}, "sampler": {"name": "random", "seed": self.seed % 1000},
            "budget": {"trials": trials}, "limits": limits, **document,
        }  # fmt: skip
        return operations.create_study(self.store, parse_study(whole))

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 180) -> None:
        """Wait for it. A store that is down meanwhile counts as not yet."""
        deadline = time.monotonic() + seconds
        while True:
            with suppress(StoreUnavailable):
                if holds():
                    return
            assert time.monotonic() < deadline, f"not in {seconds:g} s (seed {self.seed}): {what}\n{self.last_words()}"
            time.sleep(0.02)

    def now(self, study: Study) -> Study:
        """The study as it stands."""
        return self.store.read(queries.find_study, study.id)

    def ended(self, study: Study) -> bool:
        """Whether it has ended. While the store does not answer, it has not."""
        with suppress(StoreUnavailable):
            return self.now(study).state.terminal
        return False

    def trials(self, study: Study) -> list[Trial]:
        """All of them, by number."""
        return self.store.read(queries.trials, study.id, limit=100_000)

    def queued_rates(self, study: Study) -> list[float]:
        """The learning rates of the trials that people queued, ascending."""
        return sorted(lr for one in self.trials(study) if one.source == "user" and isinstance(lr := one.params["lr"], float))

    def heartbeats(self) -> dict[int, int]:
        """How often each running trial's lease was renewed, by the trial's key."""
        return {lease.trial: count for lease, count in self.store.read(queries.running_leases)}

    def reported(self, kind: str) -> list[dict[str, Any]]:
        """What the processes noted: `acknowledged` or `refused` writes and what scenarios add, by time."""
        return sorted((line for line in self._lines() if line["kind"] == kind), key=lambda line: line["at"])

    def _lines(self) -> Iterator[dict[str, Any]]:
        for file in self.history.glob("*.jsonl"):
            for text in file.read_text().splitlines():
                yield json.loads(text)

    def last_words(self) -> str:
        """The ends of all outputs, for a failure's message."""
        return "\n".join(f"--- {one.output.name} (exit {one.exit_code}): {one.said()[-1_500:]}" for one in self.processes[-6:])

    def tell(self, scenario: str) -> None:
        """Print the counts, and append them to the file of figures if there is one. A scenario that injected nothing proves nothing."""
        assert self.counts and all(self.counts.values()), f"{scenario} injected nothing of some kind: {dict(self.counts)}"
        figures = {"scenario": scenario, "database": self.store.engine.dialect.name, "seed": self.seed, **self.counts, **self.measured}
        publish(figures)

    def close(self) -> None:
        """Kill what runs; nothing of it may be left."""
        left = set[int]().union(*(one.family() for one in self.processes))
        for one in self.processes:
            one.signal(signal.SIGCONT)
            one.kill()
        deadline = time.monotonic() + 60
        while left := {pid for pid in left if alive(pid)}:
            assert time.monotonic() < deadline, f"processes outlived their parents: {left}"
            time.sleep(0.02)
        self.store.close()


def publish(figures: Mapping[str, Any]) -> None:
    """Print what a scenario did, and append it to the file of figures if there is one."""
    print(json.dumps(figures))
    if file := os.environ.get(FIGURES):
        with Path(file).open("a") as opened:
            opened.write(json.dumps(figures) + "\n")


def planted() -> str | None:
    """The mutant that this run is to catch, if any."""
    return os.environ.get(MUTANT)
