"""All that the database says of one study at one moment, in few statements: a state machine looks after each of its steps."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from service.domain.records import Event, Lease, Study, Trial
from service.store import Transaction, queries
from service.store.codec import number_of
from service.store.rows import HeldTrial, event_of, held_trial_of
from service.store.schema import attempt, event, metric, trial

TABLES = (trial, attempt, metric)


@dataclass(frozen=True)
class News:
    """What is looked at only when something was told since the last time."""

    attempts: Mapping[int, Sequence[tuple[Any, ...]]]  # of each trial: attempt, worker, resumed, ending, step
    curves: Mapping[int, Mapping[int, Mapping[str, float]]]  # of each trial: metrics by step
    events: Sequence[Event]  # the new ones
    leases: frozenset[Lease]
    best: Trial | None


@dataclass(frozen=True)
class Snapshot:
    study: Study
    trials: Sequence[HeldTrial]  # by number
    news: News | None


# Built once: that takes longer than running them.
MINE = trial.c.study_id == bindparam("study")
TRIALS = select(trial).where(MINE).order_by(trial.c.number)
ATTEMPTS = (
    select(trial.c.number, attempt.c.attempt, attempt.c.worker, attempt.c.resumed, attempt.c.ending, attempt.c.step)
    .join(trial, trial.c.id == attempt.c.trial)
    .where(MINE)
    .order_by(attempt.c.attempt)
)
METRICS = (
    select(trial.c.number, metric.c.step, metric.c.name, metric.c.value, metric.c.kind)
    .join(trial, trial.c.id == metric.c.trial)
    .where(MINE)
)
EVENTS = select(event).where(event.c.study_id == bindparam("study"), event.c.seq > bindparam("after")).order_by(event.c.seq)


def taken(tx: Transaction, study_id: str, after: int) -> Snapshot:
    """Of the study, with its events after a sequence number. Raises StudyNotFound."""
    study, mine = queries.find_study(tx, study_id), {"study": study_id}
    trials = [held_trial_of(row) for row in tx.execute(TRIALS, mine)]
    if study.seq == after:
        return Snapshot(study, trials, None)
    attempts = defaultdict[int, list[tuple[Any, ...]]](list)
    for number, *row in tx.execute(ATTEMPTS, mine):
        attempts[number].append(tuple(row))
    curves = defaultdict[int, dict[int, dict[str, float]]](lambda: defaultdict(dict))
    for number, step, name, value, kind in tx.execute(METRICS, mine):
        curves[number][step][name] = number_of(value, kind)
    news = News(
        attempts,
        curves,
        [event_of(row) for row in tx.execute(EVENTS, mine | {"after": after})],
        frozenset(lease for lease, _ in queries.running_leases(tx) if lease.study == study_id),
        queries.best_trial(tx, study),
    )
    return Snapshot(study, trials, news)


def same(one: Any, other: Any) -> bool:
    """Equality under which NaN equals itself, within mappings and sequences too."""
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return bool(one == other)
