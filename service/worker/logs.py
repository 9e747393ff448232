"""Reads the output of a trainer from its pipe, and removes control sequences and secrets."""

import os
import re
import select
import threading
import time
from collections.abc import Iterable, Mapping
from typing import IO

from service.domain.text import CONTROLS, ESCAPES
from trainer.scripts.attempt import SECRET_NAME

MOST_BYTES = 256 * 1024  # buffered between two calls of `take`; the oldest lines are dropped, because the last ones show the error
LONGEST_LINE = 8_192  # characters; a longer one is continued on the next line
TAIL_BYTES = 16_384
SHORTEST_SECRET = 6  # characters; shorter values occur by chance in other text
MASK = "***"

URL_PASSWORD = re.compile(r"(://[^\s:/@]{1,128}:)[^\s/@]{1,256}(?=@)")
PROGRESS = re.compile(r"^\S+Z INFO ")  # lines of the trainer's log that report progress, never the cause of a crash


class Cleaner:
    """Decodes output, and removes control characters, escape sequences and the secrets of an environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        values = (value for name, value in environment.items() if SECRET_NAME.search(name))
        parts = {part.strip() for value in values for part in (value, *value.splitlines())}
        known = sorted((part for part in parts if len(part) >= SHORTEST_SECRET), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None

    def lines(self, printed: bytes) -> list[str]:
        """The cleaned lines. Of a line that carriage returns overwrite, as in a progress bar, only the last state is kept."""
        text = ESCAPES.sub("", printed.decode(errors="replace")).removesuffix("\n")
        if "\r" in text:
            text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
        text = self.masked(CONTROLS.sub("", text))
        return [piece for line in text.split("\n") for piece in _pieces(line.rstrip())]

    def masked(self, text: str) -> str:
        """The text with MASK in place of secrets."""
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
        return URL_PASSWORD.sub(rf"\1{MASK}", text)


class LogSanitizer:
    """Buffers output until it is taken. Thread-safe."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._cleaner = Cleaner(environment)
        self._printed = bytearray()  # since the last `take`
        self._tail = bytearray()  # the last TAIL_BYTES since `forget`, taken or not
        self._dropped_lines = self._dropped_bytes = 0
        self._lock = threading.Lock()

    def add(self, printed: bytes) -> None:
        """Append output, which may end within a line."""
        with self._lock:
            self._printed += printed
            self._note(printed)

    def add_line(self, line: bytes) -> None:
        """Add a complete line, with line feed, from another source. It is inserted before an incomplete last line."""
        with self._lock:
            whole = self._printed.rfind(b"\n") + 1
            self._printed[whole:whole] = line
            self._note(line)

    def masked(self, text: str) -> str:
        """The text with MASK in place of the environment's secrets."""
        return self._cleaner.masked(text)

    def forget(self) -> None:
        """Discard everything."""
        with self._lock:
            self._printed.clear()
            self._tail.clear()
            self._dropped_lines = self._dropped_bytes = 0

    @property
    def overflows(self) -> bool:
        """Whether output was dropped since the last `take`."""
        return self._dropped_bytes > 0

    def take(self, *, whole: bool = False) -> str:
        """Remove and return the buffered lines, after a line with the number of dropped ones. `whole`: include an incomplete last line."""
        with self._lock:
            end = self._end(whole)
            printed = bytes(self._printed[:end])
            del self._printed[:end]
            lines, size = self._dropped_lines, self._dropped_bytes
            self._dropped_lines = self._dropped_bytes = 0
        dropped = [f"... {lines:,} lines were dropped ({size:,} bytes)"] if size else []
        return "".join(f"{line}\n" for line in [*dropped, *(self._cleaner.lines(printed) if printed else ())])

    def last_lines(self, lines: int = 6) -> str:
        """The last lines since `forget`, without progress messages, at most 2,000 characters."""
        with self._lock:
            tail = bytes(self._tail)
        relevant = [line for line in self._cleaner.lines(tail) if line and not PROGRESS.match(line)]
        return "\n".join(relevant[-lines:])[-2_000:]

    def _note(self, printed: bytes) -> None:
        self._tail += printed[-TAIL_BYTES:]
        del self._tail[:-TAIL_BYTES]
        if (excess := len(self._printed) - MOST_BYTES) > 0:
            end = self._printed.find(b"\n", excess) + 1 or excess  # drops whole lines, if there is a line feed
            self._dropped_lines += self._printed.count(b"\n", 0, end)
            self._dropped_bytes += end
            del self._printed[:end]

    def _end(self, whole: bool) -> int:
        """The index up to which the buffer may be taken."""
        if whole:
            return len(self._printed)
        end = self._printed.rfind(b"\n") + 1
        if len(self._printed) - end <= LONGEST_LINE:
            return end
        # Splits at a space: if a word that is a secret were split, neither half would be masked.
        return self._printed.rfind(b" ", end) + 1 or len(self._printed)


def _pieces(line: str) -> Iterable[str]:
    if len(line) <= LONGEST_LINE:
        return (line,)
    return (line[start : start + LONGEST_LINE] for start in range(0, len(line), LONGEST_LINE))


CHUNK_BYTES = 65_536
CHUNKS_AT_ONCE = 16
FLOOD_SECONDS = 0.02  # pause between two reads while output is being dropped


class LogReader:
    """Copies a pipe into a LogSanitizer in a thread, until all processes that hold the write end have closed it."""

    def __init__(self, pipe: IO[bytes], sanitizer: LogSanitizer) -> None:
        self._pipe, self._sanitizer = pipe, sanitizer
        self._ended = False
        self._reading = threading.Lock()
        os.set_blocking(pipe.fileno(), False)
        self._thread = threading.Thread(target=self._read_all, name="trainer-stderr", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the pipe is closed and read to its end."""
        return not self._thread.is_alive()

    def catch_up(self) -> None:
        """Read what is in the pipe now. Thread-safe.

        Called after a message was received, it returns after all output that the trainer printed before the message was read.
        """
        with self._reading:
            chunks = 0
            while not self._ended and chunks < CHUNKS_AT_ONCE:
                try:
                    chunk = os.read(self._pipe.fileno(), CHUNK_BYTES)
                except BlockingIOError:
                    return
                self._sanitizer.add(chunk)
                self._ended, chunks = not chunk, chunks + 1

    def await_end(self, seconds: float) -> None:
        """Wait up to `seconds` for the end of the pipe, because a grandchild process in another session may keep it open."""
        self._thread.join(seconds)

    def _read_all(self) -> None:
        with self._pipe:
            while not self._ended:
                select.select([self._pipe], [], [])
                self.catch_up()
                if self._sanitizer.overflows:
                    time.sleep(FLOOD_SECONDS)
