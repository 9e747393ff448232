"""Reads of studies."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import and_, case, func, or_, select

from service.domain.errors import StudyNotFound
from service.domain.records import Study
from service.domain.states import StudyState, TrialState
from service.store.codec import is_storable
from service.store.engine import Transaction
from service.store.rows import study_of
from service.store.schema import study, trial


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study that a worker might claim from."""

    study: Study
    running: int
    claimable: int  # queued trials that wait for a worker
    exhausted: bool  # the sampler has nothing left to suggest


def find_study(tx: Transaction, ref: str) -> Study:
    """The study of that id or name. Raises StudyNotFound."""
    row = tx.execute(select(study).where(or_(study.c.id == ref, study.c.name == ref))).one_or_none() if is_storable(ref) else None
    if row is None:
        raise StudyNotFound(ref)
    return study_of(row)


def studies(tx: Transaction, limit: int = 100, after: str | None = None) -> list[Study]:
    """A page of studies, newest first; `after` is the id or name of the last one of the page before. Raises StudyNotFound."""
    query = select(study).order_by(study.c.created_at.desc(), study.c.id.desc()).limit(limit)
    if after is not None:
        last = find_study(tx, after)
        same_time = and_(study.c.created_at == last.created_at, study.c.id < last.id)
        query = query.where(or_(study.c.created_at < last.created_at, same_time))
    return [study_of(row) for row in tx.execute(query)]


def counts(tx: Transaction, ids: Iterable[str] | None = None) -> dict[str, Mapping[TrialState, int]]:
    """Trials by state of each of the studies, or of all; every state is named."""
    query = select(trial.c.study_id, trial.c.state, func.count()).group_by(trial.c.study_id, trial.c.state)
    known = list(tx.scalars(select(study.c.id)) if ids is None else ids)
    if ids is not None:
        query = query.where(trial.c.study_id.in_(known))
    counted = {(row[0], row[1]): row[2] for row in tx.execute(query)}
    return {one: {state: counted.get((one, state), 0) for state in TrialState} for one in known}


def unchecked_study(tx: Transaction) -> Study | None:
    """The oldest active study whose data and weights nobody has looked at."""
    query = select(study).where(study.c.state == StudyState.ACTIVE, study.c.facts.is_(None))
    row = tx.execute(query.order_by(study.c.created_at, study.c.id).limit(1)).one_or_none()
    return None if row is None else study_of(row)


def candidates(tx: Transaction) -> list[Candidate]:
    """Checked, active studies: the one with the fewest running trials first, then the oldest."""
    running = func.count(case((trial.c.state == TrialState.RUNNING, 1)))
    claimable = func.count(case((and_(trial.c.state == TrialState.QUEUED, trial.c.duplicate_of.is_(None)), 1)))
    open_trials = (
        select(trial.c.study_id, running.label("running"), claimable.label("claimable"))
        .where(trial.c.state.in_((TrialState.RUNNING, TrialState.QUEUED)))
        .group_by(trial.c.study_id)
        .subquery()
    )
    query = (
        select(
            study, func.coalesce(open_trials.c.running, 0).label("running"), func.coalesce(open_trials.c.claimable, 0).label("claimable")
        )
        .outerjoin(open_trials, open_trials.c.study_id == study.c.id)
        .where(study.c.state == StudyState.ACTIVE, study.c.facts.is_not(None))
        .order_by("running", study.c.created_at, study.c.id)
    )
    return [Candidate(study_of(row), row.running, row.claimable, row.exhausted) for row in tx.execute(query)]
