"""What a trainer prints, read from its pipe and cleaned of control sequences and secrets."""

import os
import re
import select
import threading
import time
from collections.abc import Iterable, Mapping
from typing import IO

from service.domain.text import CONTROLS, ESCAPES

MOST_BYTES = 256 * 1024  # between two looks; what is older gives way, for the last words tell most
LONGEST_LINE = 8_192  # characters; a longer one is continued on the next line
TAIL_BYTES = 16_384
SECRET_NAME = re.compile("TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|KEY", re.IGNORECASE)
SHORTEST_SECRET = 6  # characters; a shorter value is part of too many innocent words
MASK = "***"

URL_PASSWORD = re.compile(r"(://[^\s:/@]{1,128}:)[^\s/@]{1,256}(?=@)")
TOLD_ELSEWHERE = re.compile(r"^\S+Z INFO ")  # progress; a death's cause is not among it


class Cleaner:
    """Makes text out of printed bytes: no control or escape sequence, no secret of that environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        values = (value for name, value in environment.items() if SECRET_NAME.search(name))
        parts = {part.strip() for value in values for part in (value, *value.splitlines())}
        known = sorted((part for part in parts if len(part) >= SHORTEST_SECRET), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None

    def lines(self, printed: bytes) -> list[str]:
        """The lines of it. Of a line that was written over, as by a progress bar, the last state is left."""
        text = ESCAPES.sub("", printed.decode(errors="replace")).removesuffix("\n")
        if "\r" in text:
            text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
        text = self.masked(CONTROLS.sub("", text))
        return [piece for line in text.split("\n") for piece in _pieces(line.rstrip())]

    def masked(self, text: str) -> str:
        """The text with its secrets made unreadable."""
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
        return URL_PASSWORD.sub(rf"\1{MASK}", text)


class LogSanitizer:
    """Gathers what is printed until somebody looks. For any thread."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._cleaner = Cleaner(environment)
        self._printed = bytearray()  # since the last look
        self._tail = bytearray()  # of all since the last order, looked at or not
        self._dropped_lines = self._dropped_bytes = 0
        self._lock = threading.Lock()

    def add(self, printed: bytes) -> None:
        """More of the running text."""
        with self._lock:
            self._printed += printed
            self._note(printed)

    def add_line(self, line: bytes) -> None:
        """A whole line, with its end, from somewhere else; it goes before a running line that is not whole yet."""
        with self._lock:
            whole = self._printed.rfind(b"\n") + 1
            self._printed[whole:whole] = line
            self._note(line)

    def masked(self, text: str) -> str:
        """Any text of the process without its secrets."""
        return self._cleaner.masked(text)

    def forget(self) -> None:
        """All so far belongs to nobody."""
        with self._lock:
            self._printed.clear()
            self._tail.clear()
            self._dropped_lines = self._dropped_bytes = 0

    @property
    def overflows(self) -> bool:
        """Whether lines were dropped since the last look."""
        return self._dropped_bytes > 0

    def take(self, *, whole: bool = False) -> str:
        """The new lines, each with its end, and what was dropped before them. `whole`: the last one too, though it has no end yet."""
        with self._lock:
            end = self._end(whole)
            printed = bytes(self._printed[:end])
            del self._printed[:end]
            lines, size = self._dropped_lines, self._dropped_bytes
            self._dropped_lines = self._dropped_bytes = 0
        dropped = [f"... {lines:,} lines were dropped ({size:,} bytes)"] if size else []
        return "".join(f"{line}\n" for line in [*dropped, *(self._cleaner.lines(printed) if printed else ())])

    def last_lines(self, lines: int = 6) -> str:
        """The last lines since the last order, but for mere progress."""
        with self._lock:
            tail = bytes(self._tail)
        telling = [line for line in self._cleaner.lines(tail) if line and not TOLD_ELSEWHERE.match(line)]
        return "\n".join(telling[-lines:])[-2_000:]

    def _note(self, printed: bytes) -> None:
        self._tail += printed[-TAIL_BYTES:]
        del self._tail[:-TAIL_BYTES]
        if (excess := len(self._printed) - MOST_BYTES) > 0:
            end = self._printed.find(b"\n", excess) + 1 or excess  # up to a line's end, if there is one
            self._dropped_lines += self._printed.count(b"\n", 0, end)
            self._dropped_bytes += end
            del self._printed[:end]

    def _end(self, whole: bool) -> int:
        """Up to where the text is ready to be taken."""
        if whole:
            return len(self._printed)
        end = self._printed.rfind(b"\n") + 1
        if len(self._printed) - end <= LONGEST_LINE:
            return end
        return self._printed.rfind(b" ", end) + 1 or len(self._printed)  # not within a word: it may be a secret


def _pieces(line: str) -> Iterable[str]:
    if len(line) <= LONGEST_LINE:
        return (line,)
    return (line[start : start + LONGEST_LINE] for start in range(0, len(line), LONGEST_LINE))


CHUNK_BYTES = 65_536
CHUNKS_AT_ONCE = 16
FLOOD_SECONDS = 0.02  # between two looks at one that nobody will read the whole of


class LogReader:
    """From the pipe into the transcript, until the last process that can write to the pipe has closed it."""

    def __init__(self, pipe: IO[bytes], transcript: LogSanitizer) -> None:
        self._pipe, self._transcript = pipe, transcript
        self._ended = False
        self._reading = threading.Lock()
        os.set_blocking(pipe.fileno(), False)
        self._thread = threading.Thread(target=self._listen, name="trainer-stderr", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return not self._thread.is_alive()

    def catch_up(self) -> None:
        """Take in what stands in the pipe now. For any thread: what the trainer printed before a line of the protocol is there after it."""
        with self._reading:
            chunks = 0
            while not self._ended and chunks < CHUNKS_AT_ONCE:
                try:
                    chunk = os.read(self._pipe.fileno(), CHUNK_BYTES)
                except BlockingIOError:
                    return
                self._transcript.add(chunk)
                self._ended, chunks = not chunk, chunks + 1

    def await_end(self, seconds: float) -> None:
        """Wait for the end of the pipe, but not for long: a grandchild in another session may hold it open."""
        self._thread.join(seconds)

    def _listen(self) -> None:
        with self._pipe:
            while not self._ended:
                select.select([self._pipe], [], [])
                self.catch_up()
                if self._transcript.overflows:
                    time.sleep(FLOOD_SECONDS)
