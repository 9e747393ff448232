"""The trainer process: sends orders, receives messages, and reports how the process ended."""

import fcntl
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Literal

from pydantic import ValidationError

from service.worker.logs import LogReader, LogSanitizer
from trainer import protocol
from trainer.protocol import LINES, DeviceUnusable, TrainerReady
from trainer.scripts.processes import oom_kills

TrainerMessage = (
    protocol.RunPrepared | protocol.BatchProgress | protocol.EpochMetrics | protocol.CheckpointSaved | protocol.Finished
    | protocol.Failed | protocol.Unavailable | protocol.Deferred | protocol.Checked | protocol.ModelExported | protocol.Stopped
    | TrainerReady | DeviceUnusable
)  # fmt: skip
TrainerOrder = protocol.Check | protocol.Run | protocol.BatchedRuns | protocol.PruningDecision | protocol.Cancel
TASKS = protocol.Check | protocol.Run | protocol.BatchedRuns

PIPE_BYTES = 2**20  # a few epochs of 100 runs trained together; the default size holds one epoch
LONGEST_LINE = 64 * 2**20  # bytes; a report of predictions may have some MB
LOOK_SECONDS = 0.1  # how often `read` checks that a process without output is alive
KILL_SECONDS = 2.0  # how long to wait for a killed process; one that is blocked in the kernel (driver, dead disk) ends only when it wakes
TAKE_SECONDS = 60.0  # how long a trainer may leave its input pipe full before it is killed; a trainer reads orders at any time
CHUNKS_AT_ONCE = 16  # of 64 KB; limits a call of `read_all` if the trainer writes without pause


@dataclass(frozen=True, slots=True)
class Death:
    """How a trainer process ended unexpectedly, as the outcome of its trial or check."""

    reason: Literal["crashed", "out_of_memory"]
    detail: str


class TrainerDied(Exception):
    """The process has ended, and all its messages have been read."""

    def __init__(self, death: Death) -> None:
        super().__init__(death.detail)
        self.death = death


class TrainerProcess:
    """A child process in its own session. Only one thread may read and send; any thread may kill.

    The thread that creates it must live as long as the child is needed: the trainer sets PR_SET_PDEATHSIG, and the kernel sends that
    signal when the creating thread ends, not the process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._oom_kills = oom_kills()
        self._child = subprocess.Popen(  # noqa: S603  (a list, made by the worker)
            list(command), env=dict(environment), bufsize=0, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._child.stdin and self._child.stdout and self._child.stderr  # noqa: S101  (pipes; for mypy)
        self._orders: IO[bytes] = self._child.stdin
        self._lines: IO[bytes] = self._child.stdout
        os.set_blocking(self._orders.fileno(), False)
        for pipe in (self._lines, self._child.stderr):
            _widen(pipe)
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that contain no line feed
        self._log = LogSanitizer(environment)  # other output than messages, since the last task
        self._kill_lock = threading.RLock()  # re-entrant, because a signal handler may call `kill` while its own thread holds it
        self._killed = False
        self._active_at = time.monotonic()
        self._ready = False
        self._log_reader = LogReader(self._child.stderr, self._log)

    @property
    def pid(self) -> int:
        """The child's process id, which is also the id of its process group and session."""
        return self._child.pid

    @property
    def ready(self) -> bool:
        """Whether the last message was TrainerReady and no order was sent since."""
        return self._ready

    @property
    def exit_code(self) -> int | None:
        """The child's exit code, negative for a signal; None until the child has been reaped."""
        return self._child.returncode

    @property
    def alive(self) -> bool:
        """Whether the child has neither ended nor been killed. Does not reap it, so that its process group id is not reused."""
        if self._killed or self._child.returncode is not None:
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # another thread has reaped it in `kill`
            return False

    def hung(self, stall_seconds: float) -> bool:
        """Whether no order was sent and no message received for `stall_seconds`."""
        return time.monotonic() - self._active_at > stall_seconds

    def send(self, order: TrainerOrder) -> None:
        """Send an order. Raises TrainerDied if the process has ended, or has not read orders for TAKE_SECONDS and is killed.

        A task discards the output that was printed before it.
        """
        if isinstance(order, TASKS):
            self._log_reader.catch_up()
            self._log.forget()
        self._ready = False
        self._active_at = time.monotonic()
        unsent = memoryview(order.model_dump_json().encode() + b"\n")
        try:
            while unsent:
                unsent = unsent[self._write_some(unsent) :]
        except (BrokenPipeError, ValueError):
            raise TrainerDied(self._death()) from None

    def _write_some(self, text: memoryview) -> int:
        """Write as much as fits into the pipe and return the number of bytes. An order for many runs is longer than the pipe."""
        if not select.select([], [self._orders], [], TAKE_SECONDS)[1]:
            self.kill()
            raise TrainerDied(Death("crashed", f"the trainer did not read its orders for {TAKE_SECONDS:g} seconds"))
        return os.write(self._orders.fileno(), text)

    def read(self, timeout: float) -> TrainerMessage | None:
        """The next message, or None if none arrives within `timeout` seconds. Raises TrainerDied after the last message.

        Other lines on standard output, such as those that a library prints, are added to the log and do not count as activity.
        """
        deadline = time.monotonic() + timeout
        while True:
            if (line := self._parsed()) is not None:
                self._active_at = time.monotonic()
                self._ready = isinstance(line, TrainerReady)
                return line
            if (left := deadline - time.monotonic()) <= 0:
                return None
            # Checked before reading: a process that ends afterwards may still have written messages.
            had_ended = not self.alive
            if not self._fill(min(left, LOOK_SECONDS)) and had_ended:
                raise TrainerDied(self._death())

    def read_all(self, timeout: float) -> list[TrainerMessage]:
        """All available messages; waits up to `timeout` seconds for the first one. Raises TrainerDied after the last message."""
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
        """Output other than messages since the last task or the last call. `all_of_it`: include an incomplete last line."""
        self._log_reader.catch_up()
        return self._log.take(whole=all_of_it)

    def kill(self, wait_seconds: float = KILL_SECONDS) -> None:
        """Kill the child's process group, and wait up to `wait_seconds` for the child to end. Thread-safe.

        Does nothing if the child has ended. A child that has not ended by then is treated as dead.
        """
        with self._kill_lock:
            if self._child.returncode is None:
                self._killed = True
                _kill_group(self.pid)
        deadline = time.monotonic() + wait_seconds
        while not self._reaped() and time.monotonic() < deadline:
            time.sleep(0.002)

    def _reaped(self) -> bool:
        """Reap the child if it has ended, and return whether it has."""
        # Under the lock: once the child is reaped, its id may be reused, and `kill` in another thread must not signal it.
        with self._kill_lock:
            return self._child.poll() is not None

    def close(self, grace_seconds: float) -> None:
        """Close the child's input, wait up to `grace_seconds` for it to end, then kill it."""
        self._orders.close()
        deadline = time.monotonic() + grace_seconds
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()
        self._log_reader.await_end(1)
        if self._log_reader.ended:
            self._lines.close()

    def _parsed(self) -> TrainerMessage | None:
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            text = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            try:
                return self._without_secrets(LINES.validate_json(text))
            except ValidationError:
                self._log.add_line(text + b"\n")
        self._searched = len(self._buffer)
        if len(self._buffer) > LONGEST_LINE:
            self._log.add_line(b"the trainer was killed, because a line on standard output is too long\n")
            self._buffer.clear()
            self._searched = 0
            self.kill()
        return None

    def _without_secrets(self, line: TrainerMessage) -> TrainerMessage:
        """Mask secrets in the detail of an error, which may contain a URL or an environment variable."""
        if not isinstance(line, protocol.Failed | protocol.Unavailable | protocol.Deferred | DeviceUnusable):
            return line
        return line.model_copy(update={"detail": self._log.masked(line.detail)})

    def _fill(self, timeout: float) -> int:
        """Wait up to `timeout` seconds for output, read it into the buffer, and return the number of bytes."""
        readable, _, _ = select.select([self._lines], [], [], timeout)
        if not readable:
            return 0
        chunk = os.read(self._lines.fileno(), 65_536)
        if not chunk:  # standard output is closed, but the process may still be alive
            time.sleep(min(timeout, LOOK_SECONDS))
        self._buffer += chunk
        return len(chunk)

    def _death(self) -> Death:
        self._await_exit()
        if not self._killed and self._buffer:  # an incomplete last line
            self._log.add_line(bytes(self._buffer) + b"\n")
            self._buffer.clear()
        self.kill()
        self._log_reader.await_end(0.5)
        code = self._child.returncode
        if code is None:
            return Death("crashed", "the trainer was killed and has not ended yet")
        if code == -signal.SIGKILL and oom_kills() > self._oom_kills:
            return Death("out_of_memory", "the kernel killed the trainer because the machine ran out of memory")
        how = f"signal {-code}{_signal_name(-code)}" if code < 0 else f"exit code {code}"
        last_lines = self._log.last_lines()
        return Death("crashed", f"the trainer process ended with {how}" + (f": {last_lines}" if last_lines else ""))

    def _await_exit(self) -> None:
        """Wait up to a second for the process to end, because its own exit code is more informative than that of a kill."""
        deadline = time.monotonic() + 1
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.01)


def _widen(pipe: IO[bytes]) -> None:
    """Enlarge the pipe where the kernel allows it, so that the trainer does not block while the worker writes to the store."""
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
