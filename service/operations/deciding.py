"""Whether running trials go on: the pruner's decision, asked for without writing anything."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from service.domain.errors import LeaseLost, StudyNotFound, StudyUnreadable
from service.domain.records import Lease, Study
from service.operations.searches import Searches, SearchFailed
from service.operations.studies import fail_study
from service.search.study import Decision
from service.store import Store, Transaction
from service.store.queries.workers import held, studies_of

log = logging.getLogger(__name__)

Curve = Mapping[int, float]
"""A trial's objective by step, the newest that of the step to decide at."""


def decide_many(store: Store, searches: Searches, asked: Sequence[tuple[Lease, Curve]]) -> list[Decision | LeaseLost]:
    """Whether running trials go on, in their order: trials of one study are judged as if each knew the values of all the others.

    What a decision leaves to remember must be recorded before a later one is asked for. Where the pruner breaks down, the study
    ends as failed and its leases are lost. Raises StoreUnavailable.
    """
    holding, studies = store.read(_standing, [lease for lease, _ in asked])
    curves = defaultdict[str, dict[int, Curve]](dict)
    for lease, values in asked:
        if lease in holding:
            curves[lease.study][lease.number] = values
    decisions = {key: _decisions(store, searches, studies[key], those) for key, those in curves.items() if key in studies}
    return [
        decisions.get(lease.study, {}).get(lease.number, LeaseLost(lease.number, lease.attempt))
        if lease in holding
        else LeaseLost(lease.number, lease.attempt)
        for lease, _ in asked
    ]


def _standing(tx: Transaction, leases: Sequence[Lease]) -> tuple[set[Lease], dict[str, Study]]:
    return held(tx, leases), studies_of(tx, {lease.study for lease in leases})


def _decisions(store: Store, searches: Searches, study: Study, curves: Mapping[int, Curve]) -> Mapping[int, Decision]:
    """By the trial's number; none when the study was deleted meanwhile, or ends because its pruner broke down."""
    try:
        try:
            with searches.for_study(store, study) as memory:
                return memory.decide_all(curves)
        except SearchFailed as error:
            log.exception("study %s ends", study.id)
            fail_study(store, study.id, str(error))
    except (StudyNotFound, StudyUnreadable):
        pass
    return {}
