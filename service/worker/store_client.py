"""A worker's access to the store: claims and writes with retries, and the studies that it cannot claim because their data is unreadable."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from service import operations
from service.domain.errors import LeaseLost, StoreUnavailable, StudyNotFound, StudyUnreadable, ThawlineError, TrialNotFound
from service.domain.records import Claim, Lease, Study
from service.domain.spec import ProgramStudy
from service.operations import Searches, Write
from service.search.study import Decision
from service.store import Store, queries
from service.timing import Backoff
from service.worker.home import CheckpointFolder, Spool
from service.worker.scripts import AllowedScripts
from trainer.configuration import RunConfig
from trainer.files import is_readable
from trainer.protocol import Checked, Checkpoint, Unavailable

log = logging.getLogger(__name__)

READ_RETRY = (2.0, 300.0)  # first and longest delay between two attempts to read, in seconds


def hung(config: RunConfig, detail: str, step: int = 0) -> Unavailable:
    """The result for a trainer that hung while it read data or weights, as on a dead mount. Which of the two is not known."""
    return Unavailable(what="data", detail=detail, paths=config.paths, step=step)


@dataclass(slots=True)
class _Study:
    """The reason, and the time of the next attempt to read."""

    reason: Unavailable
    backoff: Backoff
    due: float  # monotonic seconds
    excluded: bool = True  # from claims
    stored: bool = False  # whether `excluded` was reported to the store
    reading: bool = False


class UnavailableStudies:
    """Thread-safe. One thread calls `update` periodically.

    Each attempt to read runs in its own thread, because it may block for ever on a dead mount.
    """

    def __init__(self, store: Store, worker: str) -> None:
        self._store, self._worker = store, worker
        self._studies: dict[str, _Study] = {}
        self._lock = threading.Lock()

    def add(self, study: str, reason: Unavailable) -> None:
        """Exclude the study from claims, because its data or weights could not be read."""
        with self._lock:
            known = self._studies.get(study)
            if known is None:
                known = self._studies[study] = _Study(reason, Backoff(*READ_RETRY), due=0.0)
            elif known.excluded:
                return
            known.reason, known.excluded, known.stored = reason, True, False
            known.due = time.monotonic() + known.backoff.delay()
        until = "run" if reason.what == "script" else "read"
        log.warning(
            "no trials of study %s are claimed until its %s can be %s on this machine: %s", study, reason.what, until, reason.detail
        )

    def ids(self) -> frozenset[str]:
        """The ids of the excluded studies. A study stays excluded until its recovery is reported to the store."""
        with self._lock:
            return frozenset(study for study, known in self._studies.items() if known.excluded or not known.stored)

    def was_read(self, study: str) -> None:
        """Reset the retry delay, because the study's data and weights were read."""
        with self._lock:
            if (known := self._studies.get(study)) is not None and not known.excluded and known.stored:
                del self._studies[study]

    def update(self) -> bool:
        """Report changes to the store, and start due attempts to read. Returns whether trials of a study can be claimed again.

        Raises StoreUnavailable.
        """
        claimable = False
        for study, known in self._all():
            if not known.stored:
                claimable = self._report(study, known) or claimable
        for study, known in self._all():
            if known.excluded and not known.reading and time.monotonic() >= known.due:
                known.reading = True
                threading.Thread(target=self._try_to_read, args=(study, known), name="read", daemon=True).start()
        return claimable

    def _all(self) -> list[tuple[str, _Study]]:
        with self._lock:
            return list(self._studies.items())

    def _report(self, study: str, known: _Study) -> bool:
        """Report whether this worker can read the study. Returns whether its trials can be claimed. Raises StoreUnavailable."""
        with self._lock:
            excluded, reason = known.excluded, known.reason
        try:
            if excluded:
                accepted = operations.report_unavailable(self._store, self._worker, study, reason.what, reason.detail)
            else:
                accepted = operations.report_available(self._store, self._worker, study)
        except StoreUnavailable:
            raise
        except ThawlineError as error:
            log.info("no further attempts to read the data or weights of study %s: %s", study, error)
            accepted = False
        with self._lock:
            if not accepted:
                self._studies.pop(study, None)
            elif known.excluded is excluded and known.reason is reason:  # not changed by another thread since the report
                known.stored = True
            return accepted and not excluded

    def _try_to_read(self, study: str, known: _Study) -> None:
        lasts = known.reason.what == "script" and not known.reason.paths  # until the worker is restarted with other folders
        readable = not lasts and all(is_readable(Path(path)) for path in known.reason.paths)
        with self._lock:
            known.reading = False
            known.due = time.monotonic() + known.backoff.delay()
            known.excluded = not readable
            # Reported again even if nothing changed: the result of the report shows whether the study still exists and runs.
            known.stored = False
        if readable:
            log.info("trials of study %s are claimed again, because its %s can be read", study, known.reason.what)


T = TypeVar("T")

FIRST_RETRY, LAST_RETRY = 0.2, 5.0  # seconds


class StoreClient:
    """Claims, pruning decisions and writes of one worker, for all its slots. Thread-safe."""

    def __init__(self, store: Store, worker: str, spool: Spool, lane_bytes: int = 0, scripts: AllowedScripts | None = None) -> None:
        """`lane_bytes` limits the memory of trials that are trained together; with 0 each trial runs alone."""
        self.store = store
        self.scripts = scripts or AllowedScripts(())
        self.worker = worker
        self._lane_bytes = lane_bytes
        self._spool = spool
        self._reported_set_aside = 0  # number of results set aside, as last written to the store
        self._searches = Searches()
        self.unavailable = UnavailableStudies(store, worker)

    def look(self, checking: Collection[str] = (), *, trains: bool = True) -> tuple[bool, Study | None]:
        """Whether this worker is draining, and a study that must be checked and is not in `checking`. Raises StoreUnavailable.

        Without `trains` only a study of scripts is returned.
        """
        with self.store.reading() as tx:
            return queries.is_draining(tx, self.worker), queries.unchecked_study(tx, self._accepts(trains, checking))

    def _accepts(self, trains: bool, without: Collection[str] = ()) -> Callable[[Study], bool]:
        """Whether the worker can run the trials of a study. A study whose script it may not run is reported to the store."""
        unavailable = {*without, *self.unavailable.ids()}

        def accepts(study: Study) -> bool:
            if study.id in unavailable:
                return False
            if not isinstance(study.spec, ProgramStudy):
                return trains
            if (refusal := self.scripts.refusal(study.spec.workdir)) is not None:
                self.unavailable.add(study.id, Unavailable(what="script", detail=refusal))
            return refusal is None

        return accepts

    def wants_check(self, study: Study) -> bool:
        """Whether the study exists and has not ended. Raises StoreUnavailable."""
        try:
            return not self.store.read(queries.find_study, study.id).state.terminal
        except (StudyNotFound, StudyUnreadable):
            return False

    def has_training(self, device_bytes: int = 0) -> bool:
        """Whether a claim would probably find a trial that needs a trainer. A cheap query; a claim may still find none.

        Raises StoreUnavailable.
        """
        unavailable = self.unavailable.ids()
        candidates = self.store.read(queries.candidates, device_bytes)
        waiting = [one.study for one in candidates if one.has_work and one.study.id not in unavailable]
        return any(not isinstance(study.spec, ProgramStudy) for study in waiting)

    def claim(self, device_bytes: int = 0, *, trains: bool = True) -> list[Claim]:
        """Claim trials to run together on one trainer: none, one, or several of one study. Raises StoreUnavailable.

        `device_bytes` is the memory of the slot's GPU, 0 without one. Without `trains` only the trial of a script is claimed.
        """
        return operations.claim_together(self.store, self._searches, self.worker, self._lane_bytes, self._accepts(trains), device_bytes)

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
    logged_at: float | None = None
    for _ in Backoff(FIRST_RETRY, LAST_RETRY).tries(leaving):
        try:
            return call()
        except StoreUnavailable as error:
            if logged_at is None or time.monotonic() - logged_at > 60:
                log.warning("the store is unavailable, retrying: %s", error)
                logged_at = time.monotonic()
    return None
