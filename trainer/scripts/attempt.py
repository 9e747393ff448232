"""One attempt at a trial of a script, from the order to its last message."""

import logging
import os
import platform
import re
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from trainer.pipes import HostMessage
from trainer.protocol import (
    BatchProgress,
    Cancel,
    Deferred,
    EpochMetrics,
    Failed,
    FailureReason,
    Finished,
    PruningDecision,
    Run,
    RunPrepared,
    Scores,
    Stopped,
)
from trainer.scripts import inputs, processes
from trainer.scripts.child import ScriptEnd, ScriptProcess, Stream
from trainer.scripts.inputs import AttemptFolders
from trainer.scripts.metrics import (
    LONGEST_REPORT,
    MOST_REPORTS,
    EventFiles,
    FollowedFile,
    KeptReports,
    Metrics,
    ScriptReport,
    StepCounter,
    UnreadableReport,
    json_in,
    matches_in,
    pairs_in,
    text_of,
)
from trainer.tasks.script.config import REQUEUE_EXIT_CODE, ScriptConfig, ScriptInfo

GRACE_SECONDS = 4.0  # less than the worker waits (service.worker.context.Timeouts.grace)
HOLD_SECONDS = 0.1  # after the objective of a step, for further metrics of it on the next lines
LOOK_SECONDS = 0.2  # between two looks at followed files
MEASURE_SECONDS = 0.5  # least time between two measurements of memory and disk
MEASURE_SHARE = 0.02  # greatest share of the time that they take
ALIVE_SECONDS = 10.0  # between two messages of a script that reports nothing
REPLY_SHARE = 0.4  # of the grace period, for a script that was asked to stop by the answer to its report
LONGEST_HELD = 8_192  # bytes of an incomplete line that are held back
TAIL_BYTES, TAIL_LINES, TAIL_CHARACTERS = 16_384, 6, 2_000
ON_FLOOR_BYTES = 10**7  # size of the attempt's files from which a full disk counts as its fault
SECRET_NAME = re.compile("TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|KEY", re.IGNORECASE)
EXHAUSTED = re.compile(r"OutOfMemoryError|CUDA out of memory|RESOURCE_EXHAUSTED|\bMemoryError\b|std::bad_alloc|Cannot allocate memory")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptOptions:
    """Options of the process."""

    allowed: tuple[Path, ...] = ()  # folders in which scripts may be run, links resolved
    grace_seconds: float = GRACE_SECONDS  # that a script has to end on request
    floor_bytes: int = 0  # of free disk space, below which a script that writes is ended


class ScriptMessages(Protocol):
    """Receives messages; implemented by `trainer.pipes.MessageWriter`."""

    def send(self, *lines: HostMessage) -> None: ...


class ScriptAttempt:
    """Starts the script, follows it, and sends what it reports."""

    def __init__(
        self,
        run: Run,
        config: ScriptConfig,
        folders: AttemptFolders,
        sink: ScriptMessages,
        received: Callable[[], Sequence[PruningDecision | Cancel]],
        options: ScriptOptions,
    ) -> None:
        """`received` returns the orders since its last call."""
        self._run, self._config, self._folders, self._sink, self._received = run, config, folders, sink, received
        self._grace_seconds, self._floor_bytes = options.grace_seconds, options.floor_bytes
        self._counter = StepCounter(config.metric)
        self._steps = deque[tuple[int, Metrics]]()  # complete, and not sent while a decision is awaited
        self._awaited: int | None = None  # the step whose decision is awaited
        self._unanswered = 0  # reports that the script waits for an answer to
        self._reports = self._bytes = self._peak = 0
        self._rest: dict[Stream, bytes] = {"output": b"", "error": b"", "report": b""}
        self._tail = bytearray()
        self._held_since = 0.0
        self._failure: Failed | None = None
        self._is_stopped = False
        self._terminate_at = self._kill_at = float("inf")  # monotonic seconds
        self._source = source_of(config, folders.out)
        self._kept = KeptReports(folders.reported, resumed=folders.is_resumed)
        self._has_reported = False  # a step of this attempt was complete
        self._look_at = self._alive_at = 0.0
        self._measure_at = time.monotonic() + MEASURE_SECONDS
        self._secrets = [
            value.encode()
            for name, value in config.environment.items()
            if value is not None and len(value) >= 6 and SECRET_NAME.search(name)
        ]

    def follow(self, facts: ScriptInfo, wake: int) -> None:
        """Run the script to its end. `wake` is a descriptor that can be read when an order has arrived."""
        config, began_at, kills = self._config, time.monotonic(), processes.oom_kills()
        environment = inputs.environment_of(config, self._folders, os.environ)
        command = inputs.command_of(config, environment)
        inputs.find_program(command[0], Path(config.workdir), environment)
        inputs.write_inputs(config, self._folders)
        self._sink.send(RunPrepared(facts=facts, parameters=0, trainable=0, environment=versions()))
        limit = config.limits.disk_gb
        try:
            process = ScriptProcess(
                command, environment, Path(config.workdir), self._folders.out, None if limit is None else int(limit * 1e9)
            )
        except OSError as error:
            raise inputs.InputError(f"command: {command[0]} cannot be started: {error.strerror}") from None
        try:
            while process.end is None:
                for stream, chunk in process.read(self._timeout(), wake):
                    self._on_chunk(process, stream, chunk)
                self._look(process, ended=process.end is not None)
                self._on_orders(process)
                self._send_steps(process)
                self._end_overdue(process)
        finally:
            process.close()
        self._on_lines("output", [self._rest["output"]])
        self._complete()
        if process.end.code == 0 and config.metric not in self._counter.metrics:
            self._restore()
        if not self._is_stopped:
            for step, metrics in self._steps:  # also of a script that did not wait for a decision
                self._sink.send(EpochMetrics(step=step, metrics=metrics))
        self._log_ignored(process.end.left)
        self._sink.send(self._outcome(process.end, time.monotonic() - began_at, processes.oom_kills() > kills))

    def close(self) -> None:
        """Close the file of the reports."""
        self._kept.close()

    def _timeout(self) -> float:
        now = time.monotonic()
        due = [self._terminate_at, self._kill_at, self._alive_at, self._measure_at, now + 1]
        if self._counter.is_complete:
            due.append(self._held_since + HOLD_SECONDS)
        if self._source is not None:
            due.append(self._look_at)
        return max(0.0, min(due) - now)

    def _on_chunk(self, process: ScriptProcess, stream: Stream, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes > self._config.limits.output_mb * 1e6:
            limit = f"limits.output_mb ({self._config.limits.output_mb:g} MB)"
            self._fail(process, "script_error", f"the script has written more than {limit}; let it write less, or raise the limit")
            return
        *lines, rest = (self._rest[stream] + chunk).split(b"\n")
        if len(rest) > (LONGEST_REPORT if stream == "report" else LONGEST_HELD):
            lines, rest = [*lines, rest], b""
        self._rest[stream] = rest
        if stream == "report":
            self._on_reports(process, lines)
        elif lines:
            self._on_lines(stream, lines)

    def _on_lines(self, stream: Stream, lines: Sequence[bytes]) -> None:
        """Copy lines of output to the log, and find metrics in those of standard output."""
        if lines == [b""]:
            return
        self._write(b"\n".join(lines) + b"\n")
        patterns, source = self._patterns, self._config.metrics
        if source.file is not None or source.tensorboard is not None or (stream == "error" and not patterns):
            return
        for line in lines:
            if not patterns and b"=" not in line:
                continue
            text = text_of(line)
            try:
                report = matches_in(text, patterns) if patterns else pairs_in(text)
            except UnreadableReport as error:
                self._failure = self._failure or Failed(reason="script_error", detail=str(error))
                self._kill_at = 0.0
                return
            if report is not None:
                self._add(report)

    def _on_reports(self, process: ScriptProcess, lines: Sequence[bytes]) -> None:
        """Read reports from the descriptor, which are complete steps and are answered."""
        for line in lines:
            try:
                report = json_in(line, strict=True)
            except UnreadableReport as error:
                self._fail(process, "script_error", str(error))
                return
            if report is not None:
                self._add(report)
                self._unanswered += 1
                if self._counter.is_complete:
                    self._complete()

    def _add(self, report: ScriptReport) -> None:
        was_complete = self._counter.is_complete
        if (done := self._counter.add(report)) is not None:
            self._on_step(*done)
            was_complete = False
        if self._counter.open_step is not None:
            self._kept.add(self._counter.open_step, report.metrics)
        if self._counter.is_complete and not was_complete:
            self._held_since = time.monotonic()

    def _complete(self) -> None:
        if (done := self._counter.close()) is not None:
            self._on_step(*done)

    def _on_step(self, step: int, metrics: Metrics) -> None:
        """Add a complete step. Steps between the last one in the store and the first of this attempt were lost with an earlier attempt."""
        if not self._has_reported:
            self._has_reported = True
            self._steps.extend((one, kept) for one, kept in self._kept.earlier.items() if self._run.reported < one < step)
        self._steps.append((step, metrics))
        self._reports += 1
        if self._reports > MOST_REPORTS and self._failure is None:
            detail = f"the script reports more than {MOST_REPORTS:,} steps; let it report every tenth step"
            self._failure, self._kill_at = Failed(reason="script_error", detail=detail), 0.0
        if self._reports > MOST_REPORTS:
            self._steps.clear()

    def _look(self, process: ScriptProcess, *, ended: bool) -> None:
        """Read followed files, complete a step that was held, measure memory and disk, and show that the script runs."""
        now = time.monotonic()
        if self._source is not None and self._failure is None and (ended or now >= self._look_at):
            self._look_at = now + LOOK_SECONDS
            for report in self._source.reports(end=ended):
                self._add(report)
                if self._failure is not None:
                    break
        if self._counter.is_complete and now >= self._held_since + HOLD_SECONDS:
            self._complete()
        if now >= self._measure_at and not ended:
            self._measure(process)
            took = time.monotonic() - now
            self._measure_at = now + max(MEASURE_SECONDS, took / MEASURE_SHARE)
        if now >= self._alive_at and self._awaited is None:
            self._alive_at = now + ALIVE_SECONDS
            self._sink.send(BatchProgress(epoch=self._counter.last + 1, batch=0, batches=1, samples_per_second=0.0))

    def _measure(self, process: ScriptProcess) -> None:
        limits, pids = self._config.limits, process.pids()
        memory = processes.resident_bytes(pids)
        if limits.memory_gb is not None and memory > limits.memory_gb * 1e9:
            memory = processes.proportional_bytes(pids)
            if memory > limits.memory_gb * 1e9:
                detail = f"the script used {memory / 1e9:.2f} GB of memory, more than limits.memory_gb ({limits.memory_gb:g})"
                self._fail(process, "out_of_memory", detail)
        self._peak = max(self._peak, memory)
        if limits.disk_gb is None and not self._floor_bytes:
            return
        size = processes.folder_bytes(self._folders.out) + processes.folder_bytes(self._folders.checkpoint)
        if limits.disk_gb is not None and size > limits.disk_gb * 1e9:
            written = f"{size / 1e9:.2f} GB to THAW_OUT and THAW_CHECKPOINT"
            self._fail(process, "script_error", f"the script has written {written}, more than limits.disk_gb ({limits.disk_gb:g})")
        elif size > ON_FLOOR_BYTES and shutil.disk_usage(self._folders.out).free < self._floor_bytes:
            free = f"less than {self._floor_bytes / 1e9:g} GB are free on the disk of THAW_OUT"
            self._fail(
                process, "script_error", f"{free}, to which the script has written {size / 1e9:.2f} GB; free space, or set limits.disk_gb"
            )

    def _on_orders(self, process: ScriptProcess) -> None:
        for order in self._received():
            if isinstance(order, PruningDecision):
                self._awaited = None
                if order.go_on:
                    continue
            self._stop(process, at_once=isinstance(order, Cancel))

    def _send_steps(self, process: ScriptProcess) -> None:
        """Send complete steps up to one that needs a decision, and answer the reports that need none."""
        while self._steps and self._awaited is None and not self._is_stopped:
            step, metrics = self._steps.popleft()
            self._sink.send(EpochMetrics(step=step, metrics=metrics))
            self._alive_at = time.monotonic() + ALIVE_SECONDS
            if step in self._run.decision_steps and self._config.metric in metrics and process.end is None:
                self._awaited = step
        if self._awaited is None:
            for _ in range(self._unanswered):
                process.reply(stop=self._is_stopped)
            self._unanswered = 0

    def _restore(self) -> None:
        """Take the metrics of earlier attempts, if this one has resumed after the last step and had nothing left to report."""
        newest, last = dict[str, float](), max(self._kept.earlier, default=0)
        for metrics in self._kept.earlier.values():
            newest |= metrics
        if self._config.metric not in newest:
            return
        if not self._has_reported:
            self._steps.extend((step, metrics) for step, metrics in self._kept.earlier.items() if step > self._run.reported)
        self._counter.last = max(last, self._counter.last)
        self._counter.metrics = newest | self._counter.metrics
        log.warning("this attempt reported no %s; the values of earlier attempts count, up to step %d", self._config.metric, last)

    def _stop(self, process: ScriptProcess, *, at_once: bool) -> None:
        """Ask the script to end: by the answer to its report if it waits for one, else and later by SIGTERM, and last by SIGKILL."""
        if self._is_stopped:
            return
        self._is_stopped, self._awaited = True, None
        now = time.monotonic()
        reports = self._unanswered > 0 and not at_once
        self._terminate_at = now + (REPLY_SHARE * self._grace_seconds if reports else 0)
        self._kill_at = now + self._grace_seconds

    def _fail(self, process: ScriptProcess, reason: FailureReason, detail: str) -> None:
        """End the script at once as failed."""
        self._failure = self._failure or Failed(reason=reason, detail=detail)
        process.kill()

    def _end_overdue(self, process: ScriptProcess) -> None:
        now = time.monotonic()
        if now >= self._kill_at:
            self._kill_at = self._terminate_at = float("inf")
            process.kill()
        elif now >= self._terminate_at:
            self._terminate_at = float("inf")
            process.terminate()

    def _outcome(self, end: ScriptEnd, seconds: float, oom_killed: bool) -> HostMessage:
        step = self._counter.last
        if self._failure is not None:
            return self._failure.model_copy(update={"step": step})
        if self._is_stopped:
            return Stopped(step=step)
        if end.error is not None:
            return Failed(reason="script_error", detail=f"command: {self._config.command[0]} cannot be started: {end.error}")
        if end.code == REQUEUE_EXIT_CODE:
            return Deferred(detail=f"the script ended with exit code {REQUEUE_EXIT_CODE}, which asks to be queued again", step=step)
        if end.code != 0:
            reason, how = self._failed(end, oom_killed)
            last = self._last_lines()
            return Failed(reason=reason, detail=how + (f": {last}" if last else ""), step=step)
        metrics = self._counter.metrics
        if self._config.metric not in metrics:
            return Failed(reason="metric_missing", detail=self._missing(), step=step)
        return Finished(
            step=step,
            metrics=metrics,
            train_seconds=seconds,
            peak_memory=max(self._peak, end.peak),
            test=Scores(metrics=metrics) if self._run.score_test else None,
        )

    def _failed(self, end: ScriptEnd, oom_killed: bool) -> tuple[FailureReason, str]:
        code = end.code
        if code is None:
            return "crashed", "the process that watches the script was killed"
        if oom_killed and code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return "out_of_memory", "the kernel killed the script because the machine ran out of memory"
        if code == -signal.SIGXFSZ and self._config.limits.disk_gb is not None:
            return "script_error", f"a file of the script became larger than limits.disk_gb ({self._config.limits.disk_gb:g})"
        if code < 0:
            name = ""
            with suppress(ValueError):
                name = f" ({signal.Signals(-code).name})"
            return "crashed", f"the script ended with signal {-code}{name}"
        exhausted = EXHAUSTED.search(self._last_lines()) is not None
        return "out_of_memory" if exhausted else "script_error", f"the script ended with exit code {code}"

    def _missing(self) -> str:
        name, found = self._config.metric, sorted(self._counter.metrics)
        seen = f"it reported {', '.join(found[:10])}" if found else "it reported no metric"
        return f"the script ended with exit code 0 without a value of the objective {name}: {seen}; print a line such as {name}=0.5"

    def _write(self, printed: bytes) -> None:
        """Write output of the script to the log."""
        for secret in self._secrets:
            printed = printed.replace(secret, b"***")
        self._tail += printed[-TAIL_BYTES:]
        del self._tail[:-TAIL_BYTES]
        rest = memoryview(printed)
        while rest:
            rest = rest[os.write(2, rest) :]

    def _last_lines(self) -> str:
        lines = [text for line in bytes(self._tail).split(b"\n") if (text := text_of(line).strip())]
        return "\n".join(lines[-TAIL_LINES:])[-TAIL_CHARACTERS:]

    def _log_ignored(self, left: int) -> None:
        for why, count in self._counter.ignored.items():
            log.warning("not used, %d times: %s", count, why)
        if isinstance(self._source, FollowedFile) and self._source.unreadable:
            log.warning("%s has %d lines that are not JSON objects, which are not used", self._config.metrics.file, self._source.unreadable)
        if left:
            log.warning("%d processes that the script left behind were killed", left)

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        return {name: re.compile(pattern) for name, pattern in (self._config.metrics.regex or {}).items()}


def source_of(config: ScriptConfig, out: Path) -> FollowedFile | EventFiles | None:
    """The file or folder in THAW_OUT that is followed. Raises InputError without the package that reads it."""
    if (name := config.metrics.file) is not None:
        return FollowedFile(out / name)
    if (name := config.metrics.tensorboard) is None:
        return None
    try:
        return EventFiles(out / name)
    except ImportError:
        raise inputs.InputError("metrics: tensorboard is not installed on this worker; install thawline[tensorboard]") from None


def versions() -> dict[str, str]:
    """What the results of a script may depend on besides its files."""
    return {"python": platform.python_version(), "system": platform.platform(), "host": platform.node()}
