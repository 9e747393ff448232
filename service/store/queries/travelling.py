"""Reads of a whole study, a part at a time."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from itertools import groupby

from sqlalchemy import select

from service.domain.records import Report, Trial
from service.store.codec import number_of
from service.store.engine import Transaction
from service.store.rows import trial_of
from service.store.schema import metric, trial


def trials_between(tx: Transaction, study_id: str, first: int, until: int) -> list[Trial]:
    """Trials of every source, by number, from `first` on and below `until`."""
    mine = (trial.c.study_id == study_id) & (trial.c.number >= first) & (trial.c.number < until)
    return [trial_of(row) for row in tx.execute(select(trial).where(mine).order_by(trial.c.number))]


def reports_between(tx: Transaction, trials: Collection[Trial], after: int, until: int) -> Mapping[int, list[Report]]:
    """By `Trial.id` what these trials reported for steps above `after` and up to `until`, by step; none above the trial's own step."""
    steps = {one.id: one.step for one in trials}
    mine = metric.c.trial.in_(list(steps)) & (metric.c.step > after) & (metric.c.step <= until)
    columns = (metric.c.trial, metric.c.step, metric.c.name, metric.c.value, metric.c.kind)
    rows = tx.execute(select(*columns).where(mine).order_by(metric.c.trial, metric.c.step, metric.c.name))
    found = defaultdict[int, list[Report]](list)
    for (key, step), group in groupby(rows, lambda row: (row[0], row[1])):
        if step <= steps[key]:
            found[key].append(Report(step, {name: number_of(value, kind) for _, _, name, value, kind in group}))
    return found
