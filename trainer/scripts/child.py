"""The processes of a script: their start, the pipes to them, and their end."""

import json
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.scripts import guard

REPORT_FD, REPLY_FD = "3", "4"  # of the script; a shell can name only descriptors of one digit
REPORTS, REPLIES = ".reports", ".replies"  # named pipes in THAW_OUT, for processes that do not inherit the descriptors
CHUNK_BYTES = 65_536
DRAIN_SECONDS = 0.5  # how long to wait for the end of the output after the end of the processes

Stream = Literal["output", "error", "report"]


@dataclass(frozen=True, slots=True)
class ScriptEnd:
    """How a script ended."""

    code: int | None  # negative for a signal; None if its guard was killed
    left: int = 0  # processes that outlived it, and were killed
    peak: int = 0  # largest resident memory of one of its processes, in bytes
    error: str | None = None  # why it could not be started


class ScriptProcess:
    """A script under its guard. Used by one thread, which must live as long as the script. See `trainer.scripts.guard`."""

    def __init__(self, command: list[str], environment: Mapping[str, str], workdir: Path, out: Path, file_bytes: int | None) -> None:
        """`out` is the folder for named pipes, `file_bytes` the largest size of a file. Raises OSError if it cannot be started."""
        paths = out / REPORTS, out / REPLIES
        for path in paths:
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
        # Opened for both directions, a pipe has no end while the script has closed its side.
        self._reports, self._replies = (os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) for path in paths)
        inherited = os.open(paths[0], os.O_WRONLY), os.open(paths[1], os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(inherited[1], True)
        control, self._control = os.pipe()
        self._status, status = os.pipe()
        given = {
            **environment,
            "THAW_REPORT_FD": REPORT_FD, "THAW_REPLY_FD": REPLY_FD,
            "THAW_REPORT_PIPE": str(paths[0]), "THAW_REPLY_PIPE": str(paths[1]),
        }  # fmt: skip
        nothing = os.open(os.devnull, os.O_RDONLY)
        self._output, output = os.pipe()
        self._errors, errors = os.pipe()
        descriptors = nothing, output, errors, *inherited
        self._pipes = paths
        try:
            self._guard = guard.start(guard.Launch(command, given, str(workdir), file_bytes, descriptors, control, status))
        except OSError:
            self._close_pipes()
            raise
        finally:
            for descriptor in (*descriptors, control, status):
                os.close(descriptor)
        self._streams: dict[int, Stream] = {self._output: "output", self._errors: "error", self._reports: "report"}
        for descriptor in self._streams:
            os.set_blocking(descriptor, False)
        self._said = b""
        self.end: ScriptEnd | None = None

    def pids(self) -> list[int]:
        """The running processes of the script, without the guard."""
        return guard.descendants(self._guard)

    def read(self, timeout: float, wake: int) -> list[tuple[Stream, bytes]]:
        """What the script has written. Waits up to `timeout` seconds, and not longer than until `wake` can be read.

        Sets `end` once all processes have ended; then this was the last output.
        """
        readable, _, _ = select.select([*self._streams, self._status, wake], [], [], timeout)
        if wake in readable:
            os.read(wake, 4096)
        found = self._chunks(readable)
        if self._status in readable:
            said = os.read(self._status, 4096)
            self._said += said
            if not said:
                found += self._drained()
                self.end = self._ended()
        return found

    def reply(self, *, stop: bool) -> None:
        """Answer a report. An answer that does not fit into the pipe is dropped: the script does not read any."""
        with suppress(BlockingIOError):
            os.write(self._replies, b"stop\n" if stop else b"continue\n")

    def terminate(self) -> None:
        """Send SIGTERM to the script's process group."""
        with suppress(BrokenPipeError):
            os.write(self._control, b"T")

    def kill(self) -> None:
        """Kill all processes. `read` then returns their last output and sets `end`."""
        if self._control >= 0:
            os.close(self._control)
            self._control = -1

    def close(self) -> None:
        """Kill what may still run, and close the pipes."""
        self.kill()
        deadline = time.monotonic() + guard.KILL_SECONDS + 1
        while os.waitpid(self._guard, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self._guard, signal.SIGKILL)
                os.waitpid(self._guard, 0)
                break
            time.sleep(0.001)
        if guard.has_children():  # they became children of this process when the script killed its guard
            guard.kill_descendants(os.getpid())
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        self._close_pipes()

    def _close_pipes(self) -> None:
        self.kill()
        for descriptor in (self._reports, self._replies, self._status, self._output, self._errors):
            os.close(descriptor)
        for path in self._pipes:  # a program that copies the folder would wait for them
            path.unlink(missing_ok=True)

    def _chunks(self, readable: Sequence[int]) -> list[tuple[Stream, bytes]]:
        found = list[tuple[Stream, bytes]]()
        for descriptor in [one for one in readable if one in self._streams]:
            with suppress(BlockingIOError):
                chunk = os.read(descriptor, CHUNK_BYTES)
                if chunk:
                    found.append((self._streams[descriptor], chunk))
                else:
                    del self._streams[descriptor]
        return found

    def _drained(self) -> list[tuple[Stream, bytes]]:
        """The rest of the output. All processes have ended, so the pipes end as well."""
        found = list[tuple[Stream, bytes]]()
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline:
            chunks = self._chunks(list(self._streams))
            found += chunks
            if not chunks and len(self._streams) == 1:  # only that of the reports, which has no end
                break
            if not chunks:
                time.sleep(0.001)
        return found

    def _ended(self) -> ScriptEnd:
        found: dict[str, Any] = {"code": None}
        for line in self._said.splitlines():
            found |= json.loads(line)
        return ScriptEnd(**found)
