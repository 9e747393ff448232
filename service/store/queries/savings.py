"""What studies were spared, and what their runs do now: sums over the records of trials."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, FromClause, Select, func, select

from service.domain.states import TrialState
from service.store.engine import Transaction
from service.store.schema import VISIBLE, study, trial


@dataclass(frozen=True, slots=True)
class Saved:
    """Seconds of training that were not needed, by what spared them."""

    features_seconds: float = 0.0  # stored outputs of frozen stages; may be below 0 until they have paid
    duplicates_seconds: float = 0.0  # parameters that were answered from the trial that had them first


@dataclass(frozen=True, slots=True)
class Throughput:
    """What all running trials do together, at their last reports."""

    samples_per_second: float
    lanes: int  # trials that share their pass with others


def saved(tx: Transaction, ids: Iterable[str] | None = None) -> dict[str, Saved]:
    """What each of the studies was spared, or of all studies; those that were spared nothing are missing.

    Trials that share a pass are each told the whole pass's figures, so each counts for its share of them.
    """
    known = None if ids is None else list(ids)
    features, duplicates = _features(tx, known), _duplicates(tx, known)
    return {key: Saved(features.get(key, 0.0), duplicates.get(key, 0.0)) for key in features.keys() | duplicates.keys()}


def throughput(tx: Transaction) -> Throughput:
    """The speed of all passes that run, and how many trials share theirs."""
    speed = func.sum(told_number(trial, "pace", "samples_per_second") / lanes_of(trial))
    sharing = func.count().filter(lanes_of(trial) > 1)
    row = tx.execute(select(func.coalesce(speed, 0.0), sharing).where(trial.c.state == TrialState.RUNNING)).one()
    return Throughput(float(row[0]), int(row[1]))


def _features(tx: Transaction, ids: list[str] | None) -> dict[str, float]:
    spared = told_number(trial, "pace", "saved_seconds")
    query = select(trial.c.study_id, func.sum(spared / lanes_of(trial))).where(trial.c.duplicate_of.is_(None), spared.is_not(None))
    chosen = query.where(trial.c.study_id.in_(_visible() if ids is None else ids))
    return {key: float(seconds) for key, seconds in tx.execute(chosen.group_by(trial.c.study_id))}


def _duplicates(tx: Transaction, ids: list[str] | None) -> dict[str, float]:
    original = trial.alias("original")
    spared = told_number(original, "train_seconds")
    pair = (original.c.study_id == trial.c.study_id) & (original.c.number == trial.c.duplicate_of)
    query = select(trial.c.study_id, func.sum(spared / lanes_of(original))).join(original, pair)
    answered = query.where(trial.c.duplicate_of.is_not(None), trial.c.finished_at.is_not(None), spared.is_not(None))
    chosen = answered.where(trial.c.study_id.in_(_visible() if ids is None else ids))
    return {key: float(seconds) for key, seconds in tx.execute(chosen.group_by(trial.c.study_id))}


def _visible() -> Select[tuple[str]]:
    return select(study.c.id).where(VISIBLE)


def lanes_of(table: FromClause) -> ColumnElement[float]:
    """How many trials share the pass of a row of trials; 1 when it told nothing of it."""
    return func.coalesce(told_number(table, "reuse", "lanes"), 1.0)


def told_number(table: FromClause, *path: str) -> ColumnElement[float]:
    """A number that the run of a row of trials told, by its place there; null when it told none."""
    value: ColumnElement[float] = table.c.result[path].as_float()
    return value
