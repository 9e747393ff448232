"""The checkpoints that a trial's row names, while it runs and after each kind of end."""

from collections.abc import Callable

import pytest

from service import operations
from service.domain.records import Claim, Study
from service.operations import Pruned, Released, Searches
from service.store import Store, queries
from tests.operations.driving import checkpoint, claim_one, finished, lose, ready, report, tell, trial_of
from trainer.protocol import Failed

RISING = {1: 0.2, 2: 0.9, 3: 0.3, 4: 0.4}


def run_four_epochs(store: Store, claim: Claim) -> None:
    for step, value in RISING.items():
        assert tell(store, claim.lease, reports=[report(step, value)], checkpoint=checkpoint(step))


def steps(store: Store, study: Study) -> list[int]:
    return [one.step for one in trial_of(store, study, 0).checkpoints]


def test_the_newest_two_and_the_best_are_named_while_it_runs(store: Store, study: Study, searches: Searches) -> None:
    run_four_epochs(store, claim_one(store, searches))
    assert steps(store, study) == [4, 3, 2]


def lost_for_good(store: Store, _study: Study, claim: Claim) -> bool:
    lose(store, claim)
    return True


ENDS: dict[str, Callable[[Store, Study, Claim], object]] = {
    "finished": lambda store, _, claim: tell(store, claim.lease, outcome=finished(0.5, step=5)),
    "failed": lambda store, _, claim: tell(store, claim.lease, outcome=Failed(reason="out_of_memory", detail="x")),
    "pruned": lambda store, _, claim: tell(store, claim.lease, outcome=Pruned("worse")),
    "cancelled": lambda store, study, _: operations.cancel_trial(store, study.id, 0),
    "stopped": lambda store, study, _: operations.stop_study(store, study.id),
    "lost for good": lost_for_good,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_the_last_and_the_best_are_named_after_the_end(store: Store, searches: Searches, end: Callable[..., object]) -> None:
    study = ready(store, limits={"attempts": 1})
    claim = claim_one(store, searches)
    run_four_epochs(store, claim)
    assert end(store, study, claim)
    assert trial_of(store, study, 0).state.terminal and steps(store, study) == [4, 2]


def test_what_the_last_write_reports_counts_for_the_best(store: Store, searches: Searches) -> None:
    study = ready(store)
    claim = claim_one(store, searches)
    run_four_epochs(store, claim)
    assert tell(store, claim.lease, reports=[report(5, 0.95)], checkpoint=checkpoint(5), outcome=finished(0.95, step=5))
    assert steps(store, study) == [5]


@pytest.mark.parametrize("lost", [True, False])
def test_a_trial_that_waits_for_its_next_attempt_keeps_them_all(store: Store, searches: Searches, lost: bool) -> None:
    study = ready(store)
    claim = claim_one(store, searches)
    run_four_epochs(store, claim)
    if lost:
        lose(store, claim)
    else:
        assert tell(store, claim.lease, outcome=Released())
    assert steps(store, study) == [4, 3, 2]


def test_an_attempt_that_could_not_use_the_newest_supersedes_it(store: Store, searches: Searches) -> None:
    study = ready(store)
    run_four_epochs(store, claim := claim_one(store, searches))
    lose(store, claim)
    again = claim_one(store, searches)
    assert tell(store, again.lease, reports=[report(3, 0.3)], checkpoint=checkpoint(3))  # it went on from 2
    assert steps(store, study) == [3, 2]
    assert [one.resumed for one in store.read(queries.attempts, again.lease.trial)] == [0, 2]
    assert tell(store, again.lease, reports=[report(3, 0.3), report(4, 0.4)])  # the third epoch's answer was lost
    assert [one.resumed for one in store.read(queries.attempts, again.lease.trial)] == [0, 2]
