"""What a worker reads from and writes to the store: retried, buffered, and spooled to disk where the store cannot be reached."""

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
from service.operations import Outcome, Searches, Write
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
    """A folder with one file for each end of a trial, named by trial and attempt. Never raises OSError.

    `<root>/<database>/` belongs to the database of that identity, since databases may share a home. `set-aside/` in it holds the
    results that the database did not accept. Files directly in `root` were written by version 0.1, which did not record the database:
    they are delivered if their study is in this database, and otherwise neither moved nor removed.
    """

    def __init__(self, root: Path, database: str) -> None:
        self._root = root
        self._folder = root / database
        self._aside = self._folder / SET_ASIDE
        self._refused = set[Path]()  # files that could not be written, each logged once
        self._complained = set[Path]()  # files that cannot be used, each logged once

    def keep(self, write: Write) -> bool:
        """Write it to the disk atomically, with fsync. False if that fails: the write is then in memory only.

        An attempt has one end, so an existing file already holds it.
        """
        path = self._folder / _name(write.lease)
        if os.path.exists(path) and path not in self._refused:
            return True
        try:
            files.write(path, partial(_dump, write))
        except OSError as error:
            if path not in self._refused:
                log.error("the result of trial %d is kept in memory only, because it cannot be spooled: %s", write.lease.number, error)
                self._refused.add(path)
            return False
        self._refused.discard(path)
        return True

    def forget(self, lease: Lease) -> None:
        """Remove the attempt's files: this database has accepted its end, or a later attempt owns the trial."""
        for path in self._places(lease):
            self._refused.discard(path)
            try:
                path.unlink(missing_ok=True)
            except NotADirectoryError:
                continue
            except OSError as error:
                log.warning("%s cannot be removed: %s", path, error)  # it will be delivered again, which has no effect

    def set_aside(self, write: Write, why: str) -> None:
        """Keep a write that the database does not accept, and log its path. A file of version 0.1 is not moved."""
        own, unmarked, aside = self._places(write.lease)
        what = f"the result of trial {write.lease.number}, attempt {write.lease.attempt}, of study {write.lease.study}"
        if not os.path.exists(own) and os.path.exists(unmarked):
            self._complain(unmarked, f"{what} stays in {unmarked} for the database that it belongs to: {why}")
            return
        try:
            if os.path.exists(own):
                _move(own, aside)
            elif not os.path.exists(aside):
                files.write(aside, partial(_dump, write))
        except OSError as error:
            log.error("%s cannot be set aside (%s), and the database does not accept it: %s", what, error, why)
        else:
            self._complain(aside, f"{what} is set aside in {aside}: {why}")

    def count_set_aside(self) -> int:
        """The number of results that are set aside, including files that cannot be parsed."""
        return sum(1 for _ in self._aside.glob("*.json"))

    def kept(self, *, again: bool = False) -> Iterator[Write]:
        """The ends of trials that earlier workers could not deliver; with `again` also those that were set aside.

        A file that cannot be read is set aside, not lost.
        """
        folders = (self._folder, self._root, self._aside) if again else (self._folder, self._root)
        for path in [path for folder in folders for path in sorted(folder.glob("*.json"))]:
            try:
                yield WRITES.validate_json(path.read_bytes())
            except FileNotFoundError:
                continue  # another worker delivered it meanwhile
            except OSError as error:
                log.error("the spooled result %s cannot be read now: %s", path, error)
            except ValidationError as error:
                self._set_file_aside(path, error)

    def _set_file_aside(self, path: Path, error: ValidationError) -> None:
        """Move an unreadable file out of the way; one of version 0.1 may belong to another database and stays."""
        place = self._aside / path.name if path.parent == self._folder else path
        try:
            if place != path:
                _move(path, place)
        except OSError as failed:
            place = path
            log.warning("%s cannot be set aside: %s", path, failed)
        self._complain(place, f"the spooled result {place} cannot be read by this version and is left there: {error}")

    def _complain(self, path: Path, what: str) -> None:
        if path not in self._complained:
            self._complained.add(path)
            log.warning("%s", what)

    def _places(self, lease: Lease) -> tuple[Path, Path, Path]:
        """The paths that may hold the attempt's end: the usual one, that of version 0.1, and the one in `set-aside/`."""
        name = _name(lease)
        return self._folder / name, self._root / name, self._aside / name


def _name(lease: Lease) -> str:
    return f"{lease.study}-{lease.number}-e{lease.attempt}.json"


def _dump(write: Write, file: BinaryIO) -> None:
    file.write(json.dumps(WRITES.dump_python(write, mode="python")).encode())  # not pydantic's JSON, which turns NaN into null


def _move(path: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    path.replace(place)
    files.flush_folder(place.parent)


GATHER_SECONDS = 0.25  # reports of fast epochs share a transaction; a reader sees them at most this much later
LOG_SECONDS = 1.0  # the same for a log alone: mostly it goes with a report
MOST_LOG = 512 * 1024  # characters; the rest waits in the transcript, which has a bound of its own


@dataclass(slots=True)
class WriteBuffer:
    """Gathers until it is due; then it becomes one write, and a new one begins."""

    reports: list[MetricReport] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    log_start: int = 0  # bytes of the attempt's log that were taken before
    outcome: Outcome | None = None
    _due_at: float | None = None  # monotonic seconds

    def measured(self, report: MetricReport) -> None:
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

    def after(self) -> "WriteBuffer":
        """What follows once all of it was taken: nothing yet."""
        return WriteBuffer(log_start=self.log_start + len(self.log.encode()))

    def _set_due(self, seconds: float) -> None:
        at = time.monotonic() + seconds
        self._due_at = at if self._due_at is None else min(at, self._due_at)


T = TypeVar("T")

FIRST_RETRY, LAST_RETRY = 0.2, 5.0  # seconds


class StoreClient:
    """Claims, decisions and writes of one worker, for all its slots. Safe to share between threads."""

    def __init__(self, store: Store, worker: str, spool: Spool, lane_bytes: int = 0) -> None:
        """`lane_bytes` bounds the memory of trials that are trained together; 0 for each alone."""
        self.store = store
        self.worker = worker
        self._lane_bytes = lane_bytes
        self._spool = spool
        self._told_set_aside = 0  # results, as the store has it
        self._searches = Searches()
        self.unavailable = UnavailableStudies(store, worker)

    def look(self, checking: Collection[str] = ()) -> tuple[bool, Study | None]:
        """Whether this worker shall take no more trials; and a study whose data and weights are to be checked, other than `checking`.

        Raises StoreUnavailable.
        """
        with self.store.reading() as tx:
            return queries.is_draining(tx, self.worker), queries.unchecked_study(tx, {*checking, *self.unavailable.ids()})

    def wants_check(self, study: Study) -> bool:
        """Whether the study is still there and has not ended. Raises StoreUnavailable."""
        try:
            return not self.store.read(queries.find_study, study.id).state.terminal
        except (StudyNotFound, StudyUnreadable):
            return False

    def has_work(self) -> bool:
        """Whether a claim would find a trial, as far as a glance tells. Raises StoreUnavailable."""
        without = self.unavailable.ids()
        return any(one.has_work and one.study.id not in without for one in self.store.read(queries.candidates))

    def claim(self) -> list[Claim]:
        """Trials to run together on one trainer: none, one, or several of one study. Raises StoreUnavailable."""
        return operations.claim_together(self.store, self._searches, self.worker, self._lane_bytes, self.unavailable.ids())

    def decide(self, asked: Sequence[tuple[Lease, Mapping[int, float]]]) -> list[Decision | None]:
        """The pruner's word for each trial, given its objective by step; None where the lease is lost. Raises StoreUnavailable."""
        answers = operations.decide_many(self.store, self._searches, asked)
        return [None if isinstance(answer, LeaseLost) else answer for answer in answers]

    def objective_so_far(self, claim: Claim) -> dict[int, float]:
        """The objective at each step that the store knows of the trial. Raises StoreUnavailable."""
        metrics = self.store.read(queries.metrics, claim.lease.trial)
        return {metric.step: metric.value for metric in metrics if metric.name == claim.spec.objective.metric}

    def record(self, writes: Sequence[Write]) -> list[Lease]:
        """Write all of it in one transaction; the leases that are lost come back. Raises StoreUnavailable.

        While the store does not answer, ends of trials among it lie in the spool. An end of which the database does not know the
        trial is set aside.
        """
        ends = [write for write in writes if write.outcome is not None]
        try:
            lost = operations.record(self.store, writes)
            refused = [write.lease for write in ends if write.lease in lost]
            strangers = self.store.read(queries.unknown_leases, refused) if refused else {}
        except StoreUnavailable:
            for write in ends:
                self._spool.keep(write)
            raise
        for write in ends:
            if (why := strangers.get(write.lease)) is not None:
                self._spool.set_aside(write, why)
            else:
                self._spool.forget(write.lease)
        return lost

    def conclude(self, writes: Sequence[Write], leaving: threading.Event) -> list[Lease] | None:
        """Write what ends a run, however long the store takes to answer; the leases that are lost come back.

        None when the worker leaves meanwhile: then it stays in the spool for the next start.
        """
        return retry_while_unavailable(lambda: self.record(writes), leaving)

    def deliver_spooled(self, *, again: bool = False) -> None:
        """Write what earlier workers left in the spool; with `again` also try what was set aside. Raises StoreUnavailable.

        A result of an attempt that a later one has replaced is dropped; see `record` for one whose trial is unknown.
        """
        for write in self._spool.kept(again=again):
            if not self.record([write]):
                log.info("a spooled result of trial %d was written", write.lease.number)
        if (count := self._spool.count_set_aside()) != self._told_set_aside:
            operations.count_set_aside(self.store, self.worker, count)
            self._told_set_aside = count

    def checkpoints(self, lease: Lease) -> tuple[Checkpoint, ...]:
        """Those that the store names of the trial. Raises StoreUnavailable."""
        try:
            return self.store.read(queries.find_trial, lease.study, lease.number).checkpoints
        except TrialNotFound:  # the study was deleted
            return ()

    def tidy(self, shelf: CheckpointFolder, lease: Lease) -> None:
        """Remove the files that the store does not name now that the run is over; the sweep does it when the store does not answer."""
        try:
            shelf.tidy(self.store, lease.study, lease.number)
        except StoreUnavailable as error:
            log.info("the checkpoints of trial %d are looked through later: %s", lease.number, error)

    def pass_check(self, study: Study, found: Checked) -> None:
        """Data and weights are sound. Raises StoreUnavailable."""
        operations.pass_check(self.store, study.id, found.facts, found.manifest)

    def fail_study(self, study: Study, reason: str) -> None:
        """The study cannot run. Raises StoreUnavailable."""
        operations.fail_study(self.store, study.id, reason)

    def heartbeat(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew; the lost ones come back. Raises StoreUnavailable."""
        return operations.heartbeat(self.store, self.worker, leases)


def retry_while_unavailable(call: Callable[[], T], leaving: threading.Event) -> T | None:
    """The call's answer, tried again with jitter while the store is unavailable; None when the worker leaves before it answers."""
    backoff = Backoff(FIRST_RETRY, LAST_RETRY)
    complained_at: float | None = None
    while True:
        try:
            return call()
        except StoreUnavailable as error:
            if complained_at is None or time.monotonic() - complained_at > 60:
                log.warning("the store does not answer (%s); trying again", error)
                complained_at = time.monotonic()
        if leaving.wait(backoff.delay()):
            return None
