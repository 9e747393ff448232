"""How the trials of studies have gone of late: what an estimate of the time left rests on."""

from collections.abc import Collection
from dataclasses import fields

from sqlalchemy import Select, and_, case, func, select

from service.domain.pace import Course
from service.domain.states import StudyState, TrialState
from service.store.engine import Transaction
from service.store.schema import study, trial

RECENT = 256  # trials that ended last, for the rate
COUNTS = ("waiting", "running", "ended")


def courses(tx: Transaction, ids: Collection[str]) -> dict[str, Course]:
    """The course of each of the studies that is active, by its key."""
    active = select(study.c.id).where(study.c.id.in_(ids), study.c.state == StudyState.ACTIVE)
    now, lately = _open_trials(active).subquery(), _ended_trials(active).subquery()
    names = [field.name for field in fields(Course)]
    columns = [(now if name in now.c else lately).c[name] for name in names]
    query = select(study.c.id, *columns).outerjoin(now, now.c.study_id == study.c.id).outerjoin(lately, lately.c.study_id == study.c.id)
    found = {row.id: dict(zip(names, row[1:], strict=True)) for row in tx.execute(query.where(study.c.id.in_(active)))}
    return {key: Course(**known | {name: known[name] or 0 for name in COUNTS}) for key, known in found.items()}


def _open_trials(active: Select[tuple[str]]) -> Select[*tuple[object, ...]]:
    running = trial.c.state == TrialState.RUNNING
    waiting = and_(trial.c.state == TrialState.QUEUED, trial.c.duplicate_of.is_(None))
    left = trial.c.result["pace", "seconds_left"].as_float()
    return (
        select(
            trial.c.study_id,
            func.count(case((waiting, 1))).label("waiting"),
            func.count(case((running, 1))).label("running"),
            func.min(case((running, trial.c.started_at))).label("running_since"),
            func.max(case((running, left))).label("running_seconds_left"),
        )
        .where(trial.c.study_id.in_(active), trial.c.state.in_((TrialState.RUNNING, TrialState.QUEUED)))
        .group_by(trial.c.study_id)
    )


def _ended_trials(active: Select[tuple[str]]) -> Select[*tuple[object, ...]]:
    """Duplicates never had a worker, and say nothing of the rate; neither do trials that were over when the study came here."""
    place = func.row_number().over(partition_by=trial.c.study_id, order_by=trial.c.finished_at.desc()).label("place")
    had_a_worker = trial.c.study_id.in_(active) & trial.c.finished_at.is_not(None) & trial.c.started_at.is_not(None)
    here = trial.c.finished_at >= study.c.started_at
    ranked = select(trial.c.study_id, trial.c.started_at, trial.c.finished_at, place).join(study).where(had_a_worker, here).subquery()
    return (
        select(
            ranked.c.study_id,
            func.count().label("ended"),
            func.min(ranked.c.started_at).label("first_start"),
            func.max(ranked.c.finished_at).label("last_end"),
        )
        .where(ranked.c.place <= RECENT)
        .group_by(ranked.c.study_id)
    )
