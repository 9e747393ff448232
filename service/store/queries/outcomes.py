"""Reads for figures: all of a study's trials in short, and a bounded part of their curves."""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import func, select

from service.domain.outcomes import Outcome
from service.domain.records import CONFIRMATION, Study
from service.domain.states import TrialState, ValueKind
from service.store.engine import Transaction
from service.store.schema import metric, trial

IN_SHORT = select(
    trial.c.number, trial.c.state, trial.c.params, trial.c.value, trial.c.step, trial.c.source,
    trial.c.started_at, trial.c.finished_at,
)  # fmt: skip


def outcomes(tx: Transaction, study_id: str) -> list[Outcome]:
    """Every trial of the search, by number."""
    return [
        Outcome(
            number=row.number, state=TrialState(row.state), params=row.params, value=row.value, step=row.step,
            source=row.source, started_at=row.started_at, finished_at=row.finished_at,
        )
        for row in tx.execute(IN_SHORT.where(trial.c.study_id == study_id, trial.c.source != CONFIRMATION).order_by(trial.c.number))
    ]  # fmt: skip


def curves(tx: Transaction, study: Study, most: int) -> Mapping[int, list[tuple[int, float]]]:
    """(step, objective) of each trial by its number, at most about `most` points in all: every n-th step from the first on.

    Values that are not finite are left out, and so are trials without any.
    """
    own = (trial.c.study_id == study.id) & (trial.c.source != CONFIRMATION)
    reported, longest = tx.execute(select(func.sum(trial.c.step), func.max(trial.c.step)).where(own)).one()
    stride = -(-(reported or 0) // most) or 1
    chosen = (metric.c.name == study.spec.objective.metric) & (metric.c.kind == ValueKind.FINITE)
    if stride > 1:  # steps that are named are looked up, and the rows between them never read
        chosen &= metric.c.step.in_(range(1, longest + 1, stride))
    query = select(trial.c.number, metric.c.step, metric.c.value).join(metric, metric.c.trial == trial.c.id).where(own, chosen)
    found = defaultdict[int, list[tuple[int, float]]](list)
    for number, step, value in tx.execute(query.order_by(trial.c.number, metric.c.step)):
        found[number].append((step, value))
    return found
