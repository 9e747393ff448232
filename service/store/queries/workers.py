"""Reads of workers, leases and queued trials."""

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select

from search_spaces import Scalar
from service.domain.claims import CLAIMANT
from service.domain.errors import WorkerNotFound
from service.domain.records import Lease, StaleLease, Study, Unavailability, Worker
from service.domain.states import StudyState, TrialState, WorkerState
from service.store.codec import is_storable
from service.store.engine import Transaction
from service.store.rows import readable, worker_of
from service.store.schema import CLAIM_ORDER, FITS, VISIBLE, attempt, standstill, study, trial, unavailable, worker

HAS_ID = worker.c.id == bindparam("its_id")
WORKER_BY_ID = select(worker).where(HAS_ID)
ALIVE = worker.c.state == WorkerState.ALIVE
SILENT_SECONDS = 60.0  # since the last heartbeat, by the local clock; only for displays
STATE = select(worker.c.state).where(HAS_ID)  # executed by every poll of a worker


def workers(tx: Transaction, limit: int = 1_000) -> list[Worker]:
    """Registered workers by state, alive ones first, and by last heartbeat, the newest first."""
    return [
        worker_of(row) for row in tx.execute(select(worker).order_by(worker.c.state, worker.c.seen_at.desc(), worker.c.id).limit(limit))
    ]


def find_worker(tx: Transaction, worker_id: str) -> Worker:
    """The worker with this id. Raises WorkerNotFound."""
    row = tx.execute(WORKER_BY_ID, {"its_id": worker_id}).one_or_none() if is_storable(worker_id) else None
    if row is None:
        raise WorkerNotFound(worker_id)
    return worker_of(row)


def is_draining(tx: Transaction, worker_id: str) -> bool:
    """Whether the worker is marked as draining."""
    return tx.scalar(STATE, {"its_id": worker_id}) == WorkerState.DRAINING


def unavailabilities(tx: Transaction, ids: Collection[str] | None = None) -> list[Unavailability]:
    """Data and weights that live workers cannot read, of these studies or of all, ordered by study name and time."""
    found = (
        select(unavailable, study.c.name, worker.c.host)
        .join(study, study.c.id == unavailable.c.study_id)
        .join(worker, worker.c.id == unavailable.c.worker)
        .where(ALIVE, worker.c.seen_at > time.time() - SILENT_SECONDS)
        .order_by(study.c.name, unavailable.c.since, unavailable.c.worker)
    )
    rows = tx.execute(found if ids is None else found.where(unavailable.c.study_id.in_(ids)))
    return [
        Unavailability(
            study=row.study_id, name=row.name, worker=row.worker, host=row.host, what=row.what, detail=row.detail, since=row.since
        )
        for row in rows
    ]


def count_live(tx: Transaction) -> int:
    """The number of workers that are not draining and sent a heartbeat within the last minute."""
    live = select(func.count()).select_from(worker).where(ALIVE, worker.c.seen_at > time.time() - SILENT_SECONDS)
    return int(tx.execute(live).scalar_one())


def script_folders(tx: Transaction) -> list[tuple[str, ...]]:
    """The folders in which each live worker process runs scripts. See `count_live`. Claimants over REST are left out: they start none."""
    processes = ~worker.c.id.startswith(CLAIMANT)
    found = tx.execute(select(worker.c.scripts).where(ALIVE, processes, worker.c.seen_at > time.time() - SILENT_SECONDS))
    return [tuple(row.scripts or ()) for row in found]


def blocked_workers(tx: Transaction) -> list[Worker]:
    """The live workers that have no slot, because they can use none of their devices. See `count_live`."""
    blocked = select(worker).where(ALIVE, worker.c.slots == 0, worker.c.seen_at > time.time() - SILENT_SECONDS).order_by(worker.c.id)
    return [worker_of(row) for row in tx.execute(blocked)]


def trials_by_worker(tx: Transaction) -> Mapping[str, list[tuple[str, int]]]:
    """Running trials by worker, as sorted (study name, trial number). Workers without a trial are missing."""
    running = select(trial.c.worker, study.c.name, trial.c.number).join(study).where(trial.c.state == TrialState.RUNNING)
    found = defaultdict[str, list[tuple[str, int]]](list)
    for name, owner, number in tx.execute(running.order_by(study.c.name, trial.c.number)):
        found[name].append((owner, number))
    return found


@dataclass(frozen=True, slots=True)
class QueuedTrial:
    """The columns of a queued trial that decide with which others it is claimed."""

    number: int
    params: Mapping[str, Scalar]
    attempt: int
    round: int | None


def queued_trials(tx: Transaction, study_id: str, limit: int, device_bytes: int = 0) -> list[QueuedTrial]:
    """The first `limit` trials that a device with that memory may claim, in CLAIM_ORDER."""
    queued = (trial.c.study_id == study_id) & (trial.c.state == TrialState.QUEUED) & trial.c.duplicate_of.is_(None) & FITS
    query = select(trial.c.number, trial.c.params, trial.c.attempt, trial.c.round).where(queued).order_by(*CLAIM_ORDER).limit(limit)
    return [QueuedTrial(row.number, row.params, row.attempt, row.round) for row in tx.execute(query, {"device_bytes": device_bytes})]


@dataclass(frozen=True, slots=True)
class WaitingTrial:
    """A queued trial of an active study that needs a device of a certain memory."""

    study: str
    trial: int  # primary key
    least_device_bytes: int


def waiting_for_device(tx: Transaction) -> list[WaitingTrial]:
    """The queued trials that ran out of memory and wait for a larger device."""
    waits = (trial.c.state == TrialState.QUEUED) & trial.c.least_device_bytes.is_not(None)
    query = select(trial.c.study_id, trial.c.id, trial.c.least_device_bytes).join(study)
    return [WaitingTrial(*row) for row in tx.execute(query.where(study.c.state == StudyState.ACTIVE, VISIBLE, waits).order_by(trial.c.id))]


@dataclass(frozen=True, slots=True)
class DeviceWait:
    """The queued trials of a study, if all of them wait for a larger device."""

    trials: int
    least_device_bytes: int  # the smallest need among them
    since: float  # when the first of them began to wait


def device_waits(tx: Transaction, study_ids: Collection[str]) -> dict[str, DeviceWait]:
    """The studies all of whose queued trials wait for a larger device, by id. Duplicates, which wait for their original, do not count."""
    last = (attempt.c.trial == trial.c.id) & (attempt.c.attempt == trial.c.attempt)
    queued = (trial.c.state == TrialState.QUEUED) & trial.c.duplicate_of.is_(None) & trial.c.study_id.in_(study_ids)
    found = (
        select(
            trial.c.study_id, func.count().label("trials"), func.min(trial.c.least_device_bytes).label("least"),
            func.min(attempt.c.ended_at).label("since"),
        )
        .select_from(trial.outerjoin(attempt, last))
        .where(queued)
        .group_by(trial.c.study_id)
        .having((func.count() == func.count(trial.c.least_device_bytes)) & (func.min(attempt.c.ended_at).is_not(None)))
    )  # fmt: skip
    return {row.study_id: DeviceWait(row.trials, row.least, row.since) for row in tx.execute(found)}


def workers_with_device(tx: Transaction, study_id: str, least_bytes: int) -> dict[str, float]:
    """Workers that can start a trial of the study on an accelerator with that memory: the time of the last heartbeat by worker id.

    Workers that drain or cannot read the study's data are left out. A worker that was killed is not: its heartbeat does not change.
    """
    cannot = select(unavailable.c.worker).where(unavailable.c.study_id == study_id)
    found = tx.execute(select(worker.c.id, worker.c.devices, worker.c.memory, worker.c.seen_at).where(ALIVE, worker.c.id.not_in(cannot)))
    return {
        row.id: row.seen_at
        for row in found
        if any(
            device != "cpu" and size is not None and size >= least_bytes
            for device, size in zip(row.devices, row.memory or (), strict=False)
        )
    }


def held_leases(tx: Transaction, leases: Iterable[Lease]) -> set[Lease]:
    """The leases that still hold their trial."""
    known = {(lease.study, lease.trial, lease.attempt): lease for lease in leases}
    running = trial.c.id.in_({key for _, key, _ in known}) & (trial.c.state == TrialState.RUNNING)
    found = tx.execute(select(trial.c.study_id, trial.c.id, trial.c.attempt).where(running))
    return {known[tuple(row)] for row in found if tuple(row) in known}


def unknown_leases(tx: Transaction, leases: Collection[Lease]) -> dict[Lease, str]:
    """The leases of attempts that are not in this database or whose study cannot be read, each with the reason.

    The trials of the other leases are at the lease's attempt or a later one.
    """
    found_studies = readable_studies(tx, {lease.study for lease in leases})
    stored = set(tx.scalars(select(study.c.id).where(study.c.id.in_({lease.study for lease in leases}), VISIBLE)))
    rows = tx.execute(select(trial.c.study_id, trial.c.id, trial.c.attempt).where(trial.c.id.in_({lease.trial for lease in leases})))
    attempts = {(row.study_id, row.id): row.attempt for row in rows}
    found = dict[Lease, str]()
    for lease in leases:
        if lease.study not in stored:
            found[lease] = "the study is not in this database: it was deleted, or it belongs to another database"
        elif lease.study not in found_studies:
            found[lease] = "this version of Thawline cannot read the study"
        elif attempts.get((lease.study, lease.trial), -1) < lease.attempt:
            found[lease] = "the attempt is not in this database; an older copy of the database may have been restored"
    return found


def readable_studies(tx: Transaction, ids: Collection[str]) -> dict[str, Study]:
    """The studies that exist and can be read, by id."""
    return {one.id: one for _, one in readable(tx.execute(select(study).where(study.c.id.in_(ids), VISIBLE)))}


STALE_LEASES = select(standstill.c.trial, standstill.c.heartbeats, standstill.c.seconds).where(
    standstill.c.trial.in_(bindparam("trials", expanding=True))
)


def stale_leases(tx: Transaction, trials: Iterable[int]) -> dict[int, StaleLease]:
    """The stored stale leases of the trials with these keys, by trial. Trials without one are missing."""
    if not (keys := list(trials)):
        return {}
    return {row.trial: StaleLease(row.trial, row.heartbeats, row.seconds) for row in tx.execute(STALE_LEASES, {"trials": keys})}
