"""Metrics in what a script writes: `name=value`, regular expressions, JSON lines, and TensorBoard event files."""

import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from trainer import files

NUMBER = r"[-+]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][-+]?\d{1,9})?|[-+]?(?:nan|inf(?:inity)?)"
PAIR = re.compile(rf"(?<![^\s,;(\[{{|])([^\s=,;()\[\]{{}}\"'|]{{1,64}}) {{0,8}}= {{0,8}}({NUMBER})(?![^\s,;)\]}}|/%])", re.IGNORECASE)
ESCAPES = re.compile(rb"\x1b(?:\[[0-?]{0,64}[ -/]{0,16}[@-~]|\][^\x07\x1b]{0,1024}(?:\x07|\x1b\\)?|[@-Z\\-_])")
STEP_NAMES = ("epoch", "step")  # the first that has a whole number counts
LONGEST_LINE = 4_096  # characters of a line of output that are searched
LONGEST_REPORT = 65_536  # bytes of a line of JSON
MATCH_SECONDS = 0.5  # that the regular expressions may take for one line
MOST_NAMES = 64
MOST_STEP = 2**31 - 1
MOST_REPORTS = 100_000  # of an attempt
FOLLOW_BYTES = 2**20  # of a followed file that are read at once

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ScriptReport:
    """Metrics from one place of a script's output; `step` as written, or None."""

    step: int | None
    metrics: Metrics


class UnreadableReport(Exception):
    """What the script wrote cannot be understood. The message states what is wrong with it."""


def text_of(line: bytes) -> str:
    """A line of output as it would be seen: without escape sequences, and of a line that carriage returns overwrite the last state."""
    line = line[-LONGEST_LINE:]
    if b"\x1b" in line:
        line = ESCAPES.sub(b"", line)
    return line.rstrip(b"\r\n").rpartition(b"\r")[2].decode(errors="replace")


def pairs_in(text: str) -> ScriptReport | None:
    """The `name=value` pairs of a line, as Katib reads them; None if there are none."""
    if "=" not in text:
        return None
    return _report([(found[1], found[2]) for found in PAIR.finditer(text)])


def matches_in(text: str, patterns: Mapping[str, re.Pattern[str]]) -> ScriptReport | None:
    """The metrics that the regular expressions find in a line. Raises UnreadableReport if that takes MATCH_SECONDS."""
    with _limited(MATCH_SECONDS):
        found = [(name, match[1]) for name, pattern in patterns.items() if (match := pattern.search(text)) is not None]
    return _report([(name, value) for name, value in found if value is not None and _float(value) is not None])


def json_in(line: bytes, *, strict: bool) -> ScriptReport | None:
    """The metrics of a line of JSON such as {"step": 3, "accuracy": 0.9}. Raises UnreadableReport.

    Not `strict`: entries that are not numbers are left out, since the file may have been made for other purposes.
    """
    if not line.strip():
        return None
    if len(line) > LONGEST_REPORT:
        raise UnreadableReport(f"a report has more than {LONGEST_REPORT:,} bytes")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise UnreadableReport(f"a report is not a line of JSON: {line[:100].decode(errors='replace')!r}") from None
    if not isinstance(found, dict):
        raise UnreadableReport('a report is a JSON object, such as {"step": 3, "accuracy": 0.9}')
    faulty = [name for name, value in found.items() if isinstance(value, bool) or not isinstance(value, int | float)]
    faulty = [name for name in faulty if not (name in STEP_NAMES and found[name] is None)]
    if faulty and strict:
        raise UnreadableReport(f"the value of {faulty[0][:64]!r} in a report is not a number")
    return _report([(name, value) for name, value in found.items() if name not in faulty and value is not None])


def _report(pairs: list[tuple[str, Any]]) -> ScriptReport | None:
    """The report of these pairs, where names of steps give the step. None without metrics."""
    metrics, steps = dict[str, float](), dict[str, int]()
    for name, written in pairs:
        value = _float(written)
        if name.lower() in STEP_NAMES:
            if value is not None and value.is_integer():
                steps.setdefault(name.lower(), int(value))
        elif value is not None:
            metrics[name] = value
    step = next((steps[name] for name in STEP_NAMES if name in steps), None)
    return ScriptReport(step, metrics) if metrics else None


def _float(written: Any) -> float | None:
    try:
        return float(written)
    except OverflowError:  # an integer of more than 308 digits
        return float("inf") if written > 0 else float("-inf")
    except ValueError:
        return None


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Interrupt the block after that time. Only in the main thread; `re` checks for signals while it searches."""

    def interrupt(*_: object) -> None:
        raise UnreadableReport(f"the regular expressions of metrics took more than {seconds:g} seconds for one line; simplify them")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class FollowedFile:
    """A file of JSON lines that the script appends to. A file that is replaced or shortened is read from its start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._inode: int | None = None
        self._rest = b""
        self.unreadable = 0  # lines

    def reports(self, *, end: bool = False) -> Iterator[ScriptReport]:
        """The reports since the last call, at most those of FOLLOW_BYTES.

        `end`: the script has ended; all that is left is read, and the last line needs no line feed.
        """
        while chunk := self._more():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from self._parsed(lines)
            if len(self._rest) > LONGEST_REPORT:
                self._rest, self.unreadable = b"", self.unreadable + 1
            if not end:
                return
        if end:
            yield from self._parsed([self._rest])
            self._rest = b""

    def _more(self) -> bytes:
        try:
            with files.open_regular(self._path, 2**40) as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._read:
                    self._inode, self._read, self._rest = status.st_ino, 0, b""
                file.seek(self._read)
                chunk = file.read(FOLLOW_BYTES)
        except OSError:
            return b""
        self._read += len(chunk)
        return chunk

    def _parsed(self, lines: list[bytes]) -> Iterator[ScriptReport]:
        for line in lines:
            try:
                report = json_in(line, strict=False)
            except UnreadableReport:
                self.unreadable += 1
                continue
            if report is not None:
                yield report


class EventFiles:
    """The scalars of a folder of TensorBoard event files, read by the library tensorboard. Raises ImportError without it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # The module by which tensorboard does without TensorFlow, whose import takes seconds and 700 MB.
        sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
        loader: Any = import_module("tensorboard.backend.event_processing.event_file_loader")
        self._load: Callable[[str], Any] = loader.EventFileLoader
        self._to_number: Callable[[Any], Any] = import_module("tensorboard.util.tensor_util").make_ndarray
        self._files = dict[str, Any]()

    def reports(self, *, end: bool = False) -> list[ScriptReport]:
        """The reports since the last call, by step."""
        found = dict[int, dict[str, float]]()
        for path in sorted(str(path) for path in self._folder.rglob("*tfevents*") if path.is_file()):  # a named pipe would block
            if path not in self._files:
                self._files[path] = self._load(path)
            for event in self._files[path].Load():
                for value in event.summary.value:
                    if (number := self._number(value)) is not None:
                        found.setdefault(event.step, {})[value.tag] = number
        return [ScriptReport(step, metrics) for step, metrics in sorted(found.items())]

    def _number(self, value: Any) -> float | None:
        if value.HasField("simple_value"):
            return float(value.simple_value)
        if not value.HasField("tensor"):
            return None
        array = self._to_number(value.tensor)
        return float(array) if array.size == 1 and array.dtype.kind in "fiu" else None


class KeptReports:
    """The reports of a trial in a file, where an attempt that resumes finds those of the attempts before it."""

    def __init__(self, path: Path, *, resumed: bool) -> None:
        """Not `resumed`: the file begins anew. Raises OSError."""
        self.earlier: Mapping[int, Metrics] = _kept(path) if resumed else {}  # by step, in order
        anew = 0 if resumed else os.O_TRUNC
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | anew, 0o600)

    def add(self, step: int, metrics: Metrics) -> None:
        """Keep a report. Without a free disk it is not kept."""
        with suppress(OSError):
            # The line feed comes first, so that what was written of a line when the disk was full does not spoil the next one.
            os.write(self._descriptor, b"\n" + json.dumps({"step": step, "metrics": metrics}).encode())

    def close(self) -> None:
        os.close(self._descriptor)


def _kept(path: Path) -> dict[int, Metrics]:
    """The reports in the file. An attempt replaces those of earlier ones from its first step on."""
    found = dict[int, dict[str, float]]()
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            try:
                report = json.loads(line)
                step, metrics = int(report["step"]), {str(name): float(value) for name, value in report["metrics"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # an empty line, or one that was not written to its end
            while found and next(reversed(found)) > step:
                found.popitem()
            found.setdefault(step, {}).update(metrics)
    return dict(found)


@dataclass(slots=True)
class StepCounter:
    """Puts reports in order: one set of metrics for each step, and steps that only grow.

    A step stays open until its objective and what follows it closely have arrived, or a report of a later step. Reports without a step
    continue the open one, or begin the next. Steps that a script counts from 0 are counted from 1.
    """

    objective: str
    last: int = 0  # the last complete step
    offset: int | None = None  # added to steps of the script; None until the first one
    metrics: dict[str, float] = field(default_factory=dict)  # the newest value of each name, of complete steps
    ignored: Counter[str] = field(default_factory=Counter)  # reports that are not used, by why
    _step: int | None = None  # the open step
    _open: dict[str, float] = field(default_factory=dict)

    @property
    def open_step(self) -> int | None:
        """The step that further reports may add to."""
        return self._step

    @property
    def is_complete(self) -> bool:
        """Whether the open step has its objective."""
        return self.objective in self._open

    def add(self, report: ScriptReport) -> tuple[int, Metrics] | None:
        """Add a report. Returns the step that it completes by beginning another one."""
        values = self._accepted(report.metrics)
        step = self._numbered(report.step, values)
        if not values or step is None:
            return None
        done = self.close() if self._step is not None and step > self._step else None
        if self._step is None:
            self._step = step
        for name, value in values.items():
            if name in self._open and not _is_equal(self._open[name], value):
                self.ignored["a second value of a metric at the same step"] += 1
            self._open.setdefault(name, value)
        return done

    def close(self) -> tuple[int, Metrics] | None:
        """Complete the open step and return it; None if there is none."""
        if self._step is None:
            return None
        done = self._step, dict(self._open)
        self.last, self._step, self._open = self._step, None, {}
        self.metrics |= done[1]
        return done

    def _numbered(self, step: int | None, values: Metrics) -> int | None:
        """The report's step, or None if it is one that is complete."""
        if step is None:
            if self._step is None:
                return self.last + 1
            begins = self.is_complete and self.objective in values
            return self._step + begins
        if not 0 <= step <= MOST_STEP:
            self.ignored["a step below 0 or above 2^31"] += 1
            return None
        if self.offset is None:
            self.offset = int(step == 0 and self.last == 0)
        step += self.offset
        if step <= self.last or (self._step is not None and step < self._step):
            same = step == self.last and all(_is_equal(self.metrics.get(name), value) for name, value in values.items())
            if not same:
                self.ignored["a report of a step that was complete, or after one of a later step"] += 1
            return None
        return step

    def _accepted(self, values: Metrics) -> dict[str, float]:
        known = self.metrics.keys() | self._open.keys() | {self.objective}
        accepted = dict[str, float]()
        for name, value in values.items():
            if len(name) > 64 or (name not in known and len(known | accepted.keys()) >= MOST_NAMES):
                self.ignored[f"a metric beyond the first {MOST_NAMES} names, or with a name of more than 64 characters"] += 1
            else:
                accepted[name] = value
        return accepted


def _is_equal(one: float | None, other: float) -> bool:
    return one == other or (one is not None and one != one and other != other)
