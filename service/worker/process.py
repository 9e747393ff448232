"""The warm trainer process: orders go in, lines come out, and its end is given a meaning."""

import fcntl
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from pydantic import ValidationError

from service.worker.logs import LogReader, LogSanitizer
from trainer import protocol
from trainer.protocol import LINES, TrainerReady

Line = (
    protocol.RunPrepared | protocol.BatchProgress | protocol.EpochMetrics | protocol.CheckpointSaved | protocol.Finished
    | protocol.Failed | protocol.Unavailable | protocol.Checked | protocol.ModelExported | protocol.Stopped | TrainerReady
)  # fmt: skip
Order = protocol.Check | protocol.Run | protocol.BatchedRuns | protocol.PruningDecision | protocol.Cancel
TASKS = protocol.Check | protocol.Run | protocol.BatchedRuns

PIPE_BYTES = 2**20  # some epochs of a hundred lanes; by itself a pipe holds one
LONGEST_LINE = 64 * 2**20  # a report may have some MB
LOOK_SECONDS = 0.1  # how often a silent process is asked whether it lives
KILL_SECONDS = 2.0  # until a killed process is given up: one that sleeps in the kernel, in a driver or on a dead disk, ends when it wakes
TAKE_SECONDS = 60.0  # until a trainer whose pipe is full counts as dead; it reads orders at any time
CHUNKS_AT_ONCE = 16  # of 64 KB; a trainer that never stops talking must not keep its reader from its other duties


@dataclass(frozen=True, slots=True)
class Death:
    """How a trainer process ended unasked, as the outcome of what it was doing."""

    reason: Literal["crashed", "out_of_memory"]
    detail: str


class TrainerDied(Exception):
    """The process has ended; nothing more will come from it."""

    def __init__(self, death: Death) -> None:
        super().__init__(death.detail)
        self.death = death


class TrainerProcess:
    """A child in its own session. One thread reads and sends; any thread may kill.

    The thread that makes it must live as long as the child is wanted: the trainer asks the kernel to be killed when its parent
    goes, and to the kernel the parent is the thread.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._oom_kills = _oom_kills()
        self._child = subprocess.Popen(  # noqa: S603  (a list, made by the worker)
            list(command), env=dict(environment), bufsize=0, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._child.stdin and self._child.stdout and self._child.stderr  # noqa: S101  (they are pipes; tells mypy)
        self._orders: IO[bytes] = self._child.stdin
        self._lines: IO[bytes] = self._child.stdout
        os.set_blocking(self._orders.fileno(), False)
        for pipe in (self._lines, self._child.stderr):
            _widen(pipe)
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that hold no line's end
        self._transcript = LogSanitizer(environment)  # what it prints beside the protocol's lines, since its last task
        self._ending = threading.RLock()  # held for moments only; a signal handler may come while its own thread holds it
        self._killed = False
        self._heard_at = time.monotonic()
        self._ready = False
        self._listener = LogReader(self._child.stderr, self._transcript)

    @property
    def pid(self) -> int:
        """The child's process id; its process group and session have the same."""
        return self._child.pid

    @property
    def ready(self) -> bool:
        """Whether the last line was TrainerReady and no order went out since."""
        return self._ready

    @property
    def exit_code(self) -> int | None:
        """Of the child once it was ended or its end was seen; negative for a signal."""
        return self._child.returncode

    @property
    def alive(self) -> bool:
        """Whether the child has neither ended nor been killed. Leaves it unreaped, so that its process group keeps its number."""
        if self._killed or self._child.returncode is not None:
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # another thread's kill has just reaped it
            return False

    def hung(self, stall_seconds: float) -> bool:
        """Whether no line came for so long, counted from the last order or line."""
        return time.monotonic() - self._heard_at > stall_seconds

    def send(self, order: Order) -> None:
        """Write an order. Raises TrainerDied when nobody reads it any more; one that takes nothing for long is killed.

        What was printed before a task belongs to no task.
        """
        if isinstance(order, TASKS):
            self._listener.catch_up()
            self._transcript.forget()
        self._ready = False
        self._heard_at = time.monotonic()
        rest = memoryview(order.model_dump_json().encode() + b"\n")
        try:
            while rest:
                rest = rest[self._take(rest) :]
        except (BrokenPipeError, ValueError):
            raise TrainerDied(self._death()) from None

    def _take(self, text: memoryview) -> int:
        """How many bytes the pipe took; it holds less than the order of many lanes."""
        if not select.select([], [self._orders], [], TAKE_SECONDS)[1]:
            self.kill()
            raise TrainerDied(Death("crashed", f"the trainer took no order for {TAKE_SECONDS:g} seconds"))
        return os.write(self._orders.fileno(), text)

    def read(self, timeout: float) -> Line | None:
        """The next line, or None when none came for `timeout` seconds. Raises TrainerDied after the last one.

        What is not a line of the protocol (a library that prints) goes into the transcript and counts as silence.
        """
        deadline = time.monotonic() + timeout
        while True:
            if (line := self._parsed()) is not None:
                self._heard_at = time.monotonic()
                self._ready = isinstance(line, TrainerReady)
                return line
            if (left := deadline - time.monotonic()) <= 0:
                return None
            had_ended = not self.alive
            if not self._fill(min(left, LOOK_SECONDS)) and had_ended:
                raise TrainerDied(self._death())

    def read_all(self, timeout: float) -> list[Line]:
        """The lines that are there; waits at most `timeout` seconds for the first one. Raises TrainerDied when none will come any more."""
        first = self.read(timeout)
        lines = [] if first is None else [first]
        chunks = CHUNKS_AT_ONCE if lines else 0
        while True:
            if (line := self._parsed()) is not None:
                lines.append(line)
                self._ready = isinstance(line, TrainerReady)
            elif chunks == 0 or not self._fill(0):
                return lines
            else:
                chunks -= 1

    def printed(self, *, all_of_it: bool = False) -> str:
        """The lines that it printed beside those of the protocol since its last task or the last look. `all_of_it`: unfinished ones too."""
        self._listener.catch_up()
        return self._transcript.take(whole=all_of_it)

    def kill(self, wait_seconds: float = KILL_SECONDS) -> None:
        """End the child and all of its process group, now, and wait a while for its end. Does nothing when it has ended.

        For any thread. When the child has not ended by then it is as good as dead: nothing is sent to it or expected of it any more.
        """
        with self._ending:
            if self._child.returncode is None:
                self._killed = True
                _kill_group(self.pid)
        deadline = time.monotonic() + wait_seconds
        while not self._reaped() and time.monotonic() < deadline:
            time.sleep(0.002)

    def _reaped(self) -> bool:
        """Whether the killed child is gone. Under the lock: a number that is free again must not be killed."""
        with self._ending:
            return self._child.poll() is not None

    def close(self, grace_seconds: float) -> None:
        """Let the child end by itself (its orders end), then end it."""
        self._orders.close()
        deadline = time.monotonic() + grace_seconds
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()
        self._listener.await_end(1)
        if self._listener.ended:
            self._lines.close()

    def _parsed(self) -> Line | None:
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            text = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            try:
                return self._without_secrets(LINES.validate_json(text))
            except ValidationError:
                self._transcript.add_line(text + b"\n")
        self._searched = len(self._buffer)
        if len(self._buffer) > LONGEST_LINE:
            self._transcript.add_line(b"a line on standard output has no end\n")
            self._buffer.clear()
            self._searched = 0
            self.kill()
        return None

    def _without_secrets(self, line: Line) -> Line:
        """The line, whose sentence for the user may quote an address or a variable."""
        if not isinstance(line, protocol.Failed | protocol.Unavailable):
            return line
        return line.model_copy(update={"detail": self._transcript.masked(line.detail)})

    def _fill(self, timeout: float) -> int:
        """Read what is there into the buffer; how many bytes that were."""
        readable, _, _ = select.select([self._lines], [], [], timeout)
        if not readable:
            return 0
        chunk = os.read(self._lines.fileno(), 65_536)
        if not chunk:  # it closed its output, and perhaps lives on
            time.sleep(min(timeout, LOOK_SECONDS))
        self._buffer += chunk
        return len(chunk)

    def _death(self) -> Death:
        self._await_exit()
        if not self._killed and self._buffer:  # a line that it did not bring to its end
            self._transcript.add_line(bytes(self._buffer) + b"\n")
            self._buffer.clear()
        self.kill()
        self._listener.await_end(0.5)
        code = self._child.returncode
        if code is None:
            return Death("crashed", "the trainer was killed and has not ended yet")
        if code == -signal.SIGKILL and _oom_kills() > self._oom_kills:
            return Death("out_of_memory", "the kernel killed the trainer for want of memory")
        how = f"signal {-code}{_signal_name(-code)}" if code < 0 else f"exit code {code}"
        last_words = self._transcript.last_lines()
        return Death("crashed", f"the trainer process ended with {how}" + (f": {last_words}" if last_words else ""))

    def _await_exit(self) -> None:
        """A process that broke its pipe is about to end; its own exit code tells more than our kill."""
        deadline = time.monotonic() + 1
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.01)


def _widen(pipe: IO[bytes]) -> None:
    """Let a trainer go on that tells of many lanes, or prints much, while its reader is at the store; where the kernel allows it."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _signal_name(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:
        return ""


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since the machine started; 0 where it does not say."""
    try:
        counters = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(found.group(1)) if found else 0
