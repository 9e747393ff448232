"""What a trial has told and the store has not taken yet."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.domain.records import Lease, Report
from service.operations import Outcome, Write
from trainer.protocol import Checkpoint

GATHER_SECONDS = 0.25  # reports of fast epochs share a transaction; a reader sees them at most this much later
LOG_SECONDS = 1.0  # the same for a log alone: mostly it goes with a report
MOST_LOG = 512 * 1024  # characters; the rest waits in the transcript, which has a bound of its own


@dataclass(slots=True)
class Unwritten:
    """Gathers until it is due; then it becomes one write, and a new one begins."""

    reports: list[Report] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    log_start: int = 0  # bytes of the attempt's log that were taken before
    outcome: Outcome | None = None
    _due_at: float | None = None  # monotonic seconds

    def measured(self, report: Report) -> None:
        """Add the metrics of a step."""
        self.reports.append(report)
        self._set_due(GATHER_SECONDS)

    def saved(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint; it takes the place of an older one."""
        self.checkpoint = checkpoint
        self._set_due(GATHER_SECONDS)

    def logged(self, lines: str) -> None:
        """Add lines to the log."""
        if lines:
            self.log += lines
            self._set_due(LOG_SECONDS)

    @property
    def log_is_full(self) -> bool:
        """Whether no more of the log is to be added before the next write."""
        return len(self.log) >= MOST_LOG

    def ended(self, outcome: Outcome) -> None:
        """Add the trial's last word."""
        self.outcome = outcome
        self._set_due(GATHER_SECONDS)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.reports or self.checkpoint or self.memory or self.result or self.log or self.outcome)

    def due(self, now: float) -> bool:
        """Whether to write, at `now` (monotonic seconds)."""
        return self._due_at is not None and now >= self._due_at

    def as_write(self, lease: Lease) -> Write:
        """All of it in one write."""
        reports = tuple(self.reports)
        return Write(lease, reports, self.checkpoint, self.memory, self.result, self.log, self.log_start, self.outcome)

    def after(self) -> "Unwritten":
        """What follows once all of it was taken: nothing yet."""
        return Unwritten(log_start=self.log_start + len(self.log.encode()))

    def _set_due(self, seconds: float) -> None:
        at = time.monotonic() + seconds
        self._due_at = at if self._due_at is None else min(at, self._due_at)
