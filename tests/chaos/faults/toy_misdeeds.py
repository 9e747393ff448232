"""A toy trainer that does, in its third epoch, what the trial's `lr_step_epochs` says: the toy has no other use for it."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from tests.chaos.history import note

FIRST = 101  # the misdeed number 0
STEP = 3
CHUNK = 65_536


def number_of(misdeed: str) -> int:
    """The `lr_step_epochs` of a trial that shall end so."""
    return FIRST + list(MISDEEDS).index(misdeed)


def raises() -> NoReturn:
    raise RuntimeError("a misdeed was done")


def segfaults() -> None:
    ctypes.string_at(0)


def forks() -> NoReturn:
    note("forked", child=subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]).pid)
    os._exit(4)


def deadlocks() -> None:
    lock = threading.Lock()
    with lock, lock:
        pass


def floods(descriptor: int, line: bytes) -> NoReturn:
    chunk = CHUNK // len(line) * line
    while True:
        os.write(descriptor, chunk)


def heeds_no_signal() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def kills_its_parent() -> None:
    note("parent killed", parent=os.getppid())
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


MISDEEDS: dict[str, Callable[[], Any]] = {
    "becomes nan": lambda: None,
    "becomes infinite": lambda: None,
    "runs out of memory": lambda: None,
    "raises": raises,
    "segfaults": segfaults,
    "exits": lambda: os._exit(3),
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "forks": forks,
    "deadlocks": deadlocks,
    "never reports": lambda: None,
    "floods stdout": lambda: floods(1, b"a misdeed on standard output\n"),
    "floods stderr": lambda: floods(2, b"a misdeed on standard error\n"),
    "ends no line": lambda: floods(1, b"a misdeed without an end "),
    "heeds no signal": heeds_no_signal,
    "kills its parent": kills_its_parent,
}
NUMBERS = {"becomes nan": float("nan"), "becomes infinite": float("inf")}


class Starved(Exception):
    """The run cannot go on; the process can."""


def install() -> None:
    toy = sys.modules["__main__"]
    run, tell, metrics_of = toy.run, toy.tell, toy.metrics_of
    present = ""

    def run_badly(order: dict[str, Any], *rest: Any) -> None:
        nonlocal present
        place = order["config"]["lr_step_epochs"] - FIRST
        present = list(MISDEEDS)[place] if 0 <= place < len(MISDEEDS) else ""
        try:
            run(order, *rest)
        except Starved:  # as the real one: an outcome of the run
            tell("failed", reason="out_of_memory", detail="the toy has no memory left", step=STEP - 1)

    def tell_badly(kind: str, **fields: Any) -> None:
        if kind == "advanced" and (fields["epoch"] == STEP or present == "never reports") and present:
            note("misdeed", misdeed=present)
            if present == "never reports":
                time.sleep(600)
            if present == "runs out of memory":
                raise Starved
            MISDEEDS[present]()
        tell(kind, **fields)

    def bad_metrics(config: dict[str, Any], step: int) -> dict[str, float]:
        found: dict[str, float] = metrics_of(config, step)
        return {name: NUMBERS[present] for name in found} if present in NUMBERS and step >= STEP else found

    toy.run, toy.tell, toy.metrics_of = run_badly, tell_badly, bad_metrics  # type: ignore[attr-defined]
