"""Reads that precede a claim or a decision: who waits, and which leases still hold."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import select

from search_spaces import Scalar
from service.domain.records import Lease, Study
from service.domain.states import TrialState
from service.store.engine import Transaction
from service.store.rows import readable
from service.store.schema import CLAIM_ORDER, VISIBLE, study, trial


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a queued trial is claimed by."""

    number: int
    params: Mapping[str, Scalar]
    attempt: int
    round: int | None


def waiting(tx: Transaction, study_id: str, limit: int) -> list[Waiting]:
    """The trials that wait for a worker, in the order in which they are claimed."""
    queued = (trial.c.study_id == study_id) & (trial.c.state == TrialState.QUEUED) & trial.c.duplicate_of.is_(None)
    query = select(trial.c.number, trial.c.params, trial.c.attempt, trial.c.round).where(queued).order_by(*CLAIM_ORDER).limit(limit)
    return [Waiting(row.number, row.params, row.attempt, row.round) for row in tx.execute(query)]


def held(tx: Transaction, leases: Iterable[Lease]) -> set[Lease]:
    """Those of the leases that hold their trial."""
    known = {(lease.study, lease.trial, lease.attempt): lease for lease in leases}
    running = trial.c.id.in_({key for _, key, _ in known}) & (trial.c.state == TrialState.RUNNING)
    found = tx.execute(select(trial.c.study_id, trial.c.id, trial.c.attempt).where(running))
    return {known[tuple(row)] for row in found if tuple(row) in known}


def strangers(tx: Transaction, leases: Collection[Lease]) -> dict[Lease, str]:
    """Those of the leases whose trial this database does not know at that attempt, or cannot read, each with the reason.

    The others are of trials that are at that attempt, or at a later one.
    """
    readable_studies = studies_of(tx, {lease.study for lease in leases})
    stored = set(tx.scalars(select(study.c.id).where(study.c.id.in_({lease.study for lease in leases}), VISIBLE)))
    rows = tx.execute(select(trial.c.study_id, trial.c.id, trial.c.attempt).where(trial.c.id.in_({lease.trial for lease in leases})))
    attempts = {(row.study_id, row.id): row.attempt for row in rows}
    found = dict[Lease, str]()
    for lease in leases:
        if lease.study not in stored:
            found[lease] = "this database has no such study: it was deleted, or it belongs to another database"
        elif lease.study not in readable_studies:
            found[lease] = "this version of Thawline cannot read the study"
        elif attempts.get((lease.study, lease.trial), -1) < lease.attempt:
            found[lease] = "this database knows of no such attempt; was an older copy of it restored?"
    return found


def studies_of(tx: Transaction, ids: Collection[str]) -> dict[str, Study]:
    """Those of the studies that exist and can be read, by their keys."""
    return {one.id: one for _, one in readable(tx.execute(select(study).where(study.c.id.in_(ids), VISIBLE)))}
