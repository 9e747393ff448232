"""Learning curves: what trials reported of one metric, step by step, read without making a record of each of a million rows."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select

from service.domain.records import CONFIRMATION
from service.store.engine import Transaction
from service.store.schema import metric, trial


class Moved(NamedTuple):
    """A trial that changed."""

    changed: int  # sequence of the last event that touched it
    number: int
    id: int


class Curve(NamedTuple):
    """The finite values of a trial's metric, by rising step."""

    trial: int  # the row's key
    steps: Sequence[int]
    values: Sequence[float]


POINTS = (
    select(metric.c.trial, metric.c.step, metric.c.value)
    .where(
        metric.c.trial.in_(bindparam("ids", expanding=True)),
        metric.c.trial.between(bindparam("first"), bindparam("last")),  # by which PostgreSQL takes the key before it has statistics, too
        metric.c.name == bindparam("its_name"),
        metric.c.value.is_not(None),
    )
    .order_by(metric.c.trial, metric.c.step)
)


def trials_moved(tx: Transaction, study_id: str, seq: int) -> list[Moved]:
    """All trials of the search that an event with a higher sequence number touched, in the order of their last events."""
    query = select(trial.c.changed, trial.c.number, trial.c.id).where(
        trial.c.study_id == study_id, trial.c.changed > seq, trial.c.source != CONFIRMATION
    )
    return [Moved._make(row) for row in tx.execute(query.order_by(trial.c.changed))]


def curves(tx: Transaction, ids: Sequence[int], name: str) -> Iterator[Curve]:
    """The curves of the trials of those keys, one or more; those without a finite value of this metric are missing."""
    bound = {"ids": ids, "first": min(ids), "last": max(ids), "its_name": name}
    points: Any = tx.execute(POINTS, bound).cursor  # plain tuples: a third of the time
    for key, group in groupby(points, itemgetter(0)):
        _, steps, values = zip(*group, strict=True)
        yield Curve(key, steps, values)


def metric_names(tx: Transaction, study_id: str) -> set[str]:
    """The metrics that the study's trials reported."""
    query = select(trial.c.metrics).where(trial.c.study_id == study_id, trial.c.step > 0)
    return {name for metrics in tx.scalars(query) for name in metrics}
