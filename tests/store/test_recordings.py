"""What a replay of the pruning reads, the same on both databases."""

import math

from service import operations
from service.store import Store
from service.store.queries.trials import recorded_study
from tests.operations.driving import claim_trials, finished, ready, report, searches_of, tell
from trainer.protocol import Pace, Reuse


def test_reports_come_in_columns_with_the_trials_that_made_them(store: Store) -> None:
    study = ready(store)
    first, second, third = claim_trials(store, searches_of(), limit=3)
    pace = Pace(samples_per_second=1.0, seconds_left=30.0, memory=1, seconds={})
    shared = {"pace": pace.model_dump(), "reuse": Reuse(pixels="cached", lanes=3).model_dump()}
    assert tell(store, second.lease, reports=[report(1, math.nan)], result=shared)
    assert tell(store, first.lease, reports=[report(1, 0.25), report(2, 0.5)], result={"pace": pace.model_dump()})
    assert tell(store, second.lease, outcome=operations.Pruned("why"))
    assert tell(store, first.lease, reports=[report(3, 0.75)], outcome=finished(0.75, step=3))
    found = store.read(recorded_study, study.id)
    assert found.reports is not None
    numbers = {one.id: one.number for one in found.trials}
    owners, steps, values, seqs = found.reports
    in_order = sorted(zip(seqs, (numbers[key] for key in owners), steps, values, strict=True))
    assert str([row[1:] for row in in_order]) == "[(1, 1, nan), (0, 1, 0.25), (0, 2, 0.5), (0, 3, 0.75)]"
    complete, pruned, running = found.trials
    assert (complete.complete, complete.value, complete.shared, complete.seconds_left) == (True, 0.75, None, 30.0)
    assert (pruned.value, pruned.shared is None, pruned.seconds_left) == (None, False, 10.0)
    assert (running.number, running.ended, running.step) == (third.lease.number, None, 0)
    assert pruned.ended is not None and complete.ended is not None and pruned.ended < complete.ended
    assert store.read(recorded_study, study.id, 3).reports is None
