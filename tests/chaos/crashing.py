"""Processes that die, or whose disk fails, at the N-th step of writing something.

A step is a write to a file, of which half arrives, a flush to the disk, a renaming, a statement to a database, a commit.
"""

import errno
import io
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from service.domain.errors import StoreUnavailable
from tests.chaos.launch import plant
from tests.forking import forkserver

FAILED = 3  # exit code of a child whose disk failed, and that did not acknowledge
SECONDS = 180


class Steps:
    """Counts the steps of this process, and lets the one go wrong that is its number."""

    def __init__(self, fatal: int, how: str) -> None:
        """`how`: `kill`, or `EIO` for a disk that fails at that step if it is a flush."""
        self._fatal, self._how = fatal, how
        self.taken = 0

    def take(self, first: Callable[[], object] = lambda: None, *, flush: bool = False) -> None:
        """One more. `first` is what has happened of it already when the process dies."""
        if self._how == "EIO" and not flush:
            return
        self.taken += 1
        if self.taken == self._fatal:
            if self._how == "EIO":
                raise OSError(errno.EIO, "the disk failed")
            first()
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Every step of this process from now on."""
        fsync, replace, opened = os.fsync, os.replace, io.open
        steps = self

        class Stepwise(io.FileIO):
            def write(self, data: Any) -> int:
                steps.take(lambda: io.FileIO.write(self, memoryview(data)[: len(data) // 2]))
                return super().write(data) or 0

        def opening(file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None, newline: Any = None) -> Any:
            if not set(mode) & set("wax+"):
                return opened(file, mode, buffering, encoding, errors, newline)
            raw = Stepwise(file, mode.replace("b", "").replace("t", ""))
            buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

        def flushing(descriptor: int) -> None:
            self.take(flush=True)
            fsync(descriptor)

        def renaming(*args: Any, **kwargs: Any) -> None:
            self.take()
            replace(*args, **kwargs)
            self.take()

        io.open, os.fsync, os.replace = opening, flushing, renaming  # type: ignore[assignment]
        event.listen(Engine, "before_cursor_execute", lambda *_: self.take())
        event.listen(Engine, "commit", lambda *_: self.take())


def attempt(work: Callable[[Path], object], folder: Path, fatal: int, how: str = "kill", mutant: str | None = None) -> int:
    """The exit code of a process that does the work: 0 when it came through, FAILED when it raised an OSError or StoreUnavailable.

    `folder / "acknowledged"` is there when the work returned.
    """
    child = forkserver().Process(target=_stepwise, args=(work, folder, fatal, how, mutant))
    child.start()
    return _end_of(child)


def attempt_traced(work: Callable[[Path], object], folder: Path, injection: str, mutant: str | None = None) -> tuple[int, bool]:
    """The same, with strace to inject a fault into a system call of it (`fsync:error=EIO:when=3`), and whether it came to that call."""
    child = forkserver().Process(target=_traced, args=(work, folder, mutant))
    child.start()
    assert child.pid is not None
    _wait_for(lambda: _status(child, "State") == "T", "it is stopped")
    call, trace = injection.partition(":")[0], folder / "trace"
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", str(trace), "-p", str(child.pid), "-e", f"trace={call}", "-e", f"inject={injection}"]
    )
    _wait_for(lambda: _status(child, "TracerPid") != "0", "it is traced")
    os.kill(child.pid, signal.SIGCONT)
    code = _end_of(child)
    assert tracer.wait(SECONDS) == 0
    return code, code < 0 or "(INJECTED)" in trace.read_text()


def can_trace() -> bool:
    """Whether strace is here, and may look into processes."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def _status(child: ForkServerProcess, name: str) -> str:
    """A field of what the kernel says of the process."""
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def _end_of(child: ForkServerProcess) -> int:
    child.join(SECONDS)
    assert child.exitcode is not None, "it neither died nor came through"
    return child.exitcode


def _stepwise(work: Callable[[Path], object], folder: Path, fatal: int, how: str, mutant: str | None) -> None:
    steps = Steps(fatal, how)
    steps.watch()
    _do(work, folder, mutant, steps.take)


def _traced(work: Callable[[Path], object], folder: Path, mutant: str | None) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    _do(work, folder, mutant, lambda: None)


def _do(work: Callable[[Path], object], folder: Path, mutant: str | None, between: Callable[[], object]) -> None:
    """`between` is called between the work and its acknowledgement."""
    plant(mutant)
    try:
        answer = work(folder)
    except (OSError, StoreUnavailable):
        os._exit(FAILED)
    between()
    descriptor = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, str(answer).encode())
    os.close(descriptor)
    os._exit(0)
