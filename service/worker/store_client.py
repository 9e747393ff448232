"""A worker's access to the store: retries, buffered writes, and a spool on disk for outcomes while the store is unavailable."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from service import operations
from service.domain.errors import LeaseLost, StoreUnavailable, StudyNotFound, StudyUnreadable, TrialNotFound
from service.domain.records import Claim, Lease, MetricReport, Study
from service.operations import Searches, TrialOutcome, Write
from service.search.study import Decision
from service.store import Store, queries
from service.timing import Backoff
from service.worker.checkpoints import CheckpointFolder
from service.worker.unavailable import UnavailableStudies
from trainer import files
from trainer.protocol import Checked, Checkpoint

log = logging.getLogger(__name__)
WRITES: TypeAdapter[Write] = TypeAdapter(Write)
SET_ASIDE = "set-aside"


class Spool:
    """A folder with a file per undelivered outcome, named by trial and attempt. Never raises OSError.

    `<root>/<database>/` belongs to the database with that identity, because several databases may share a home. Its subfolder
    `set-aside/` contains results that the database did not accept. Version 0.1 wrote its files to `root` and did not record the database:
    such a file is delivered if its study is in this database, and otherwise neither moved nor removed.
    """

    def __init__(self, root: Path, database: str) -> None:
        self._root = root
        self._folder = root / database
        self._aside = self._folder / SET_ASIDE
        self._refused = set[Path]()  # files that could not be written, each logged once
        self._logged = set[Path]()  # files that cannot be used, each logged once

    def keep(self, write: Write) -> bool:
        """Write the file atomically, with fsync. Returns False if that fails; the write is then in memory only.

        An attempt has only one outcome, so an existing file is not written again.
        """
        path = self._folder / _name(write.lease)
        if os.path.exists(path) and path not in self._refused:
            return True
        try:
            files.write(path, partial(_dump, write))
        except OSError as error:
            if path not in self._refused:
                log.error(
                    "the result of trial %d is kept in memory only, because writing it to the spool failed: %s", write.lease.number, error
                )
                self._refused.add(path)
            return False
        self._refused.discard(path)
        return True

    def forget(self, lease: Lease) -> None:
        """Remove the attempt's files, because the database has accepted its outcome or a later attempt holds the trial."""
        for path in self._paths(lease):
            self._refused.discard(path)
            try:
                path.unlink(missing_ok=True)
            except NotADirectoryError:
                continue
            except OSError as error:
                log.warning("%s cannot be removed: %s", path, error)  # delivering the outcome again has no effect

    def set_aside(self, write: Write, reason: str) -> None:
        """Move a write that the database did not accept to `set-aside/`, and log the path. A file of version 0.1 is not moved."""
        own, unmarked, aside = self._paths(write.lease)
        result = f"the result of trial {write.lease.number}, attempt {write.lease.attempt}, of study {write.lease.study}"
        if not os.path.exists(own) and os.path.exists(unmarked):
            self._log_once(unmarked, f"{result} stays in {unmarked}: {reason}")
            return
        try:
            if os.path.exists(own):
                _move(own, aside)
            elif not os.path.exists(aside):
                files.write(aside, partial(_dump, write))
        except OSError as error:
            log.error("the database did not accept %s (%s), and moving it aside failed: %s", result, reason, error)
        else:
            self._log_once(aside, f"{result} was moved to {aside}, because the database did not accept it: {reason}")

    def count_set_aside(self) -> int:
        """The number of files in `set-aside/`, including those that cannot be parsed."""
        return sum(1 for _ in self._aside.glob("*.json"))

    def kept(self, *, again: bool = False) -> Iterator[Write]:
        """The outcomes that earlier workers could not deliver; with `again`, also those in `set-aside/`.

        A file that cannot be parsed is moved to `set-aside/`.
        """
        folders = (self._folder, self._root, self._aside) if again else (self._folder, self._root)
        for path in [path for folder in folders for path in sorted(folder.glob("*.json"))]:
            try:
                yield WRITES.validate_json(path.read_bytes())
            except FileNotFoundError:
                continue  # another worker has delivered it
            except OSError as error:
                log.error("the spooled result %s cannot be read: %s", path, error)
            except ValidationError as error:
                self._set_file_aside(path, error)

    def _set_file_aside(self, path: Path, error: ValidationError) -> None:
        """Move a file that cannot be parsed to `set-aside/`. A file of version 0.1 stays, because it may belong to another database."""
        target = self._aside / path.name if path.parent == self._folder else path
        try:
            if target != path:
                _move(path, target)
        except OSError as failed:
            target = path
            log.warning("%s cannot be moved aside: %s", path, failed)
        self._log_once(target, f"this version cannot read the spooled result {target}, which is not removed: {error}")

    def _log_once(self, path: Path, message: str) -> None:
        if path not in self._logged:
            self._logged.add(path)
            log.warning("%s", message)

    def _paths(self, lease: Lease) -> tuple[Path, Path, Path]:
        """The paths where the attempt's outcome may be: the normal one, that of version 0.1, and that in `set-aside/`."""
        name = _name(lease)
        return self._folder / name, self._root / name, self._aside / name


def _name(lease: Lease) -> str:
    return f"{lease.study}-{lease.number}-e{lease.attempt}.json"


def _dump(write: Write, file: BinaryIO) -> None:
    # Not with pydantic's JSON, which writes NaN as null.
    file.write(json.dumps(WRITES.dump_python(write, mode="python")).encode())


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    path.replace(target)
    files.flush_folder(target.parent)


GATHER_SECONDS = 0.25  # longest delay before a report is written, so that reports of short epochs share a transaction
LOG_SECONDS = 1.0  # longest delay before log lines are written if there is no report
MOST_LOG = 512 * 1024  # characters in a write; the rest stays in the LogSanitizer, which has its own limit


@dataclass(slots=True)
class WriteBuffer:
    """Collects the data of one attempt for its next write."""

    reports: list[MetricReport] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    log_start: int = 0  # bytes of the attempt's log in earlier writes
    outcome: TrialOutcome | None = None
    _due_at: float | None = None  # monotonic seconds

    def measured(self, report: MetricReport) -> None:
        """Add the metrics of a step."""
        self.reports.append(report)
        self._set_due(GATHER_SECONDS)

    def saved(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint, which replaces an older one."""
        self.checkpoint = checkpoint
        self._set_due(GATHER_SECONDS)

    def logged(self, lines: str) -> None:
        """Add lines to the log."""
        if lines:
            self.log += lines
            self._set_due(LOG_SECONDS)

    @property
    def log_is_full(self) -> bool:
        """Whether the log has reached MOST_LOG, so that no lines should be added before the next write."""
        return len(self.log) >= MOST_LOG

    def ended(self, outcome: TrialOutcome) -> None:
        """Add the trial's outcome."""
        self.outcome = outcome
        self._set_due(GATHER_SECONDS)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.reports or self.checkpoint or self.memory or self.result or self.log or self.outcome)

    def due(self, now: float) -> bool:
        """Whether a write is due at `now` (monotonic seconds)."""
        return self._due_at is not None and now >= self._due_at

    def as_write(self, lease: Lease) -> Write:
        """The collected data as a write."""
        reports = tuple(self.reports)
        return Write(lease, reports, self.checkpoint, self.memory, self.result, self.log, self.log_start, self.outcome)

    def after(self) -> "WriteBuffer":
        """An empty buffer for the time after this one was written."""
        return WriteBuffer(log_start=self.log_start + len(self.log.encode()))

    def _set_due(self, seconds: float) -> None:
        at = time.monotonic() + seconds
        self._due_at = at if self._due_at is None else min(at, self._due_at)


T = TypeVar("T")

FIRST_RETRY, LAST_RETRY = 0.2, 5.0  # seconds


class StoreClient:
    """Claims, pruning decisions and writes of one worker, for all its slots. Thread-safe."""

    def __init__(self, store: Store, worker: str, spool: Spool, lane_bytes: int = 0) -> None:
        """`lane_bytes` limits the memory of trials that are trained together; with 0 each trial runs alone."""
        self.store = store
        self.worker = worker
        self._lane_bytes = lane_bytes
        self._spool = spool
        self._reported_set_aside = 0  # number of results set aside, as last written to the store
        self._searches = Searches()
        self.unavailable = UnavailableStudies(store, worker)

    def look(self, checking: Collection[str] = ()) -> tuple[bool, Study | None]:
        """Whether this worker is draining, and a study whose data and weights must be checked, except those in `checking`.

        Raises StoreUnavailable.
        """
        with self.store.reading() as tx:
            return queries.is_draining(tx, self.worker), queries.unchecked_study(tx, {*checking, *self.unavailable.ids()})

    def wants_check(self, study: Study) -> bool:
        """Whether the study exists and has not ended. Raises StoreUnavailable."""
        try:
            return not self.store.read(queries.find_study, study.id).state.terminal
        except (StudyNotFound, StudyUnreadable):
            return False

    def has_work(self) -> bool:
        """Whether a claim would probably find a trial. A cheap query; a claim may still find none. Raises StoreUnavailable."""
        unavailable = self.unavailable.ids()
        candidates = self.store.read(queries.candidates)
        return any(candidate.has_work and candidate.study.id not in unavailable for candidate in candidates)

    def claim(self) -> list[Claim]:
        """Claim trials to run together on one trainer: none, one, or several of one study. Raises StoreUnavailable."""
        return operations.claim_together(self.store, self._searches, self.worker, self._lane_bytes, self.unavailable.ids())

    def decide(self, requests: Sequence[tuple[Lease, Mapping[int, float]]]) -> list[Decision | None]:
        """A pruning decision for each trial, given its objective by step; None if its lease is lost. Raises StoreUnavailable."""
        decisions = operations.decide_many(self.store, self._searches, requests)
        return [None if isinstance(decision, LeaseLost) else decision for decision in decisions]

    def objective_so_far(self, claim: Claim) -> dict[int, float]:
        """The trial's objective by step in the store. Raises StoreUnavailable."""
        metrics = self.store.read(queries.metrics, claim.lease.trial)
        return {metric.step: metric.value for metric in metrics if metric.name == claim.spec.objective.metric}

    def record(self, writes: Sequence[Write]) -> list[Lease]:
        """Write everything in one transaction, and return the leases that are lost. Raises StoreUnavailable.

        If the store is unavailable, the outcomes among the writes are spooled. An outcome whose trial is not in the database is set aside.
        """
        outcomes = [write for write in writes if write.outcome is not None]
        try:
            lost = operations.record(self.store, writes)
            refused = [write.lease for write in outcomes if write.lease in lost]
            unknown = self.store.read(queries.unknown_leases, refused) if refused else {}
        except StoreUnavailable:
            # So that the outcomes are not lost if this process ends before the store is available again.
            for write in outcomes:
                self._spool.keep(write)
            raise
        for write in outcomes:
            if (reason := unknown.get(write.lease)) is not None:
                self._spool.set_aside(write, reason)
            else:
                self._spool.forget(write.lease)
        return lost

    def conclude(self, writes: Sequence[Write], leaving: threading.Event) -> list[Lease] | None:
        """Write the outcomes of a run, retrying while the store is unavailable, and return the leases that are lost.

        Returns None if the worker leaves first. The outcomes are then in the spool, and are delivered by the next worker.
        """
        return retry_while_unavailable(lambda: self.record(writes), leaving)

    def deliver_spooled(self, *, again: bool = False) -> None:
        """Write the outcomes that earlier workers left in the spool; with `again`, also those set aside. Raises StoreUnavailable.

        The outcome of an attempt that a later attempt has replaced is discarded.
        """
        for write in self._spool.kept(again=again):
            if not self.record([write]):
                log.info("the spooled result of trial %d was written", write.lease.number)
        if (count := self._spool.count_set_aside()) != self._reported_set_aside:
            operations.count_set_aside(self.store, self.worker, count)
            self._reported_set_aside = count

    def checkpoints(self, lease: Lease) -> tuple[Checkpoint, ...]:
        """The trial's checkpoints in the store. Raises StoreUnavailable."""
        try:
            return self.store.read(queries.find_trial, lease.study, lease.number).checkpoints
        except TrialNotFound:  # the study was deleted
            return ()

    def tidy(self, folder: CheckpointFolder, lease: Lease) -> None:
        """Remove the checkpoint files that the store does not list. If it is unavailable, a later sweep removes them."""
        try:
            folder.tidy(self.store, lease.study, lease.number)
        except StoreUnavailable as error:
            log.info("the checkpoint files of trial %d will be removed later: %s", lease.number, error)

    def pass_check(self, study: Study, checked: Checked) -> None:
        """Record that the check of data and weights has passed. Raises StoreUnavailable."""
        operations.pass_check(self.store, study.id, checked.facts, checked.manifest)

    def fail_study(self, study: Study, reason: str) -> None:
        """Record that the study has failed. Raises StoreUnavailable."""
        operations.fail_study(self.store, study.id, reason)

    def heartbeat(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew the leases, and return the lost ones. Raises StoreUnavailable."""
        return operations.heartbeat(self.store, self.worker, leases)


def retry_while_unavailable(call: Callable[[], T], leaving: threading.Event) -> T | None:
    """Retry the call with jitter while it raises StoreUnavailable. Returns None if the worker leaves first."""
    backoff = Backoff(FIRST_RETRY, LAST_RETRY)
    logged_at: float | None = None
    while True:
        try:
            return call()
        except StoreUnavailable as error:
            if logged_at is None or time.monotonic() - logged_at > 60:
                log.warning("the store is unavailable, retrying: %s", error)
                logged_at = time.monotonic()
        if leaving.wait(backoff.delay()):
            return None
