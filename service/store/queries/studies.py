"""Reads of studies."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, and_, case, false, func, null, or_, select

from service.domain.errors import StudyNotFound
from service.domain.records import CONFIRMATION, Study
from service.domain.states import StudyState, TrialState
from service.store.codec import is_storable
from service.store.engine import Transaction
from service.store.rows import readable, study_of
from service.store.schema import VISIBLE, study, trial


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study that a worker might claim from."""

    study: Study
    running: int
    claimable: int  # queued trials that wait for a worker
    exhausted: bool  # the sampler has nothing left to suggest

    @property
    def has_work(self) -> bool:
        """Whether a trial waits, or one may be added."""
        budget = self.study.spec.budget
        if budget.parallel is not None and self.running >= budget.parallel:
            return False
        return self.claimable > 0 or (not self.exhausted and self.study.created < budget.max_trials)


IN_A_LIST = (
    *(column for column in study.c if column is not study.c.facts),
    null().label("facts"),
    study.c.facts.is_not(None).label("checked"),
)
"""The columns of a study without its facts, which may have megabytes."""


def find_study(tx: Transaction, ref: str) -> Study:
    """The study of that id or name. Raises StudyNotFound, StudyUnreadable."""
    mine = select(study).where(or_(study.c.id == ref, study.c.name == ref), VISIBLE)
    row = tx.execute(mine).one_or_none() if is_storable(ref) else None
    if row is None:
        raise StudyNotFound(ref)
    return study_of(row)


def is_being_imported(tx: Transaction, name: str) -> bool:
    """Whether an import under way has taken the name."""
    return tx.scalar(select(study.c.id).where(study.c.name == name, study.c.unpublished >= 0)) is not None


def count_studies(tx: Transaction) -> int:
    """How many there are, ended ones included."""
    return int(tx.execute(select(func.count()).select_from(study).where(VISIBLE)).scalar_one())


def studies(
    tx: Transaction, limit: int = 100, after: str | None = None, name: str | None = None, states: Collection[StudyState] = ()
) -> list[Study]:
    """A page of studies, newest first, without their facts; `after` is the id or name of the last one of the page before.

    Raises StudyNotFound. With `name` those whose names hold that text, with `states` those in one of these.
    """
    newest_first = select(*IN_A_LIST).order_by(study.c.created_at.desc(), study.c.id.desc()).where(*_wanted(name, states))
    query, found = newest_first if after is None else newest_first.where(_older(find_study(tx, after))), list[Study]()
    while (missing := limit - len(found)) > 0:
        rows = tx.execute(query.limit(missing)).all()
        found += [one for _, one in readable(rows)]
        if len(rows) < missing:
            break
        query = newest_first.where(_older(rows[-1]))
    return found


def _wanted(name: str | None, states: Collection[StudyState]) -> Iterator[ColumnElement[bool]]:
    yield VISIBLE
    if name:
        yield func.lower(study.c.name).contains(name.lower(), autoescape=True) if is_storable(name) else false()
    if states:
        yield study.c.state.in_(states)


def _older(last: Study | Row[Any]) -> ColumnElement[bool]:
    return or_(study.c.created_at < last.created_at, and_(study.c.created_at == last.created_at, study.c.id < last.id))


def counts(tx: Transaction, ids: Iterable[str]) -> dict[str, Mapping[TrialState, int]]:
    """Trials of the search by state, of each of the studies; every state is named."""
    known = list(ids)
    query = select(trial.c.study_id, trial.c.state, func.count()).where(trial.c.study_id.in_(known), trial.c.source != CONFIRMATION)
    counted = {(row[0], row[1]): row[2] for row in tx.execute(query.group_by(trial.c.study_id, trial.c.state))}
    return {one: {state: counted.get((one, state), 0) for state in TrialState} for one in known}


def totals(tx: Transaction) -> tuple[Mapping[StudyState, int], Mapping[TrialState, int]]:
    """How many studies and how many trials of all studies there are in each state."""
    hidden = trial.c.study_id.in_(select(study.c.id).where(~VISIBLE))
    return {**dict.fromkeys(StudyState, 0), **_by_state(tx, study, VISIBLE)}, {
        **dict.fromkeys(TrialState, 0),
        **_by_state(tx, trial, ~hidden),
    }


def _by_state(tx: Transaction, table: Table, counted: ColumnElement[bool]) -> dict[Any, int]:
    return {state: count for state, count in tx.execute(select(table.c.state, func.count()).where(counted).group_by(table.c.state))}


# What every look of an idle worker asks, built once: that takes longer than running it.
UNCHECKED = (
    select(study)
    .where(study.c.state == StudyState.ACTIVE, or_(study.c.facts.is_(None), study.c.recheck), VISIBLE)
    .order_by(study.c.created_at, study.c.id)
)


def unchecked_study(tx: Transaction, without: Collection[str] = ()) -> Study | None:
    """The oldest active study whose data and weights are to be checked, and whose key is not in `without`."""
    return next((one for _, one in readable(tx.execute(UNCHECKED)) if one.id not in without), None)


def _candidates() -> Select[Any]:
    running = func.count(case((trial.c.state == TrialState.RUNNING, 1)))
    claimable = func.count(case((and_(trial.c.state == TrialState.QUEUED, trial.c.duplicate_of.is_(None)), 1)))
    open_trials = (
        select(trial.c.study_id, running.label("running"), claimable.label("claimable"))
        .where(trial.c.state.in_((TrialState.RUNNING, TrialState.QUEUED)))
        .group_by(trial.c.study_id)
        .subquery()
    )
    return (
        select(
            study, func.coalesce(open_trials.c.running, 0).label("running"), func.coalesce(open_trials.c.claimable, 0).label("claimable")
        )
        .outerjoin(open_trials, open_trials.c.study_id == study.c.id)
        .where(study.c.state == StudyState.ACTIVE, study.c.facts.is_not(None), ~study.c.recheck, VISIBLE)
        .order_by("running", study.c.created_at, study.c.id)
    )


CANDIDATES = _candidates()


def candidates(tx: Transaction) -> list[Candidate]:
    """Checked, active studies: the one with the fewest running trials first, then the oldest."""
    return [Candidate(one, row.running, row.claimable, row.exhausted) for row, one in readable(tx.execute(CANDIDATES))]
