"""Decisions about many trials that report at once."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from service import operations
from service.domain.errors import LeaseLost
from service.domain.records import Claim, Study
from service.domain.states import StudyState
from service.operations import Searches, Write
from service.search.study import Decision
from service.store import Store
from tests.operations.driving import RandomSearch, claim_one, decide_one, finish, ready, report, study_of
from tests.operations.test_claiming_together import BYTES, HEAD_ONLY, STAGES, lanes_ready

EPOCHS = {"frozen_layers": STAGES, "epochs": 30}


@pytest.fixture
def searches() -> Searches:
    """Optuna's samplers and pruners."""
    return Searches()


def pruned_study(store: Store, trials: int = 27, **pruner: Any) -> Study:
    space = {"lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}}
    return lanes_ready(store, pruner=pruner, budget={"trials": trials}, fixed=EPOCHS, search_space=space)


def decided(store: Store, searches: Searches, claims: list[Claim], step: int, values: list[float]) -> list[Decision]:
    """Ask for all of them at once, and record what comes of it."""
    asked = [(claim.lease, {step: value}) for claim, value in zip(claims, values, strict=True)]
    decisions = [answer for answer in operations.decide_many(store, searches, asked) if isinstance(answer, Decision)]
    assert len(decisions) == len(claims)
    operations.record(store, [
        Write(
            claim.lease,
            reports=[report(step, value)],
            memory=decision.memory,
            outcome=None if decision.go_on else operations.Pruned(decision.why or ""),
        )
        for claim, value, decision in zip(claims, values, decisions, strict=True)
    ])  # fmt: skip
    return decisions


def shuffled(count: int) -> list[float]:
    values = [place / count for place in range(count)]
    random.Random(4).shuffle(values)  # noqa: S311  (an order, not a secret)
    return values


def test_of_27_trials_at_a_rung_the_best_third_survives_and_of_those_the_best_third(store: Store, searches: Searches) -> None:
    pruned_study(store, name="asha", reduction_factor=3)
    claims, step = operations.claim_together(store, searches, "w", BYTES), 1
    for expected in (9, 3, 1):
        values = shuffled(len(claims))
        decisions = decided(store, searches, claims, step, values)
        surviving = {value for value, decision in zip(values, decisions, strict=True) if decision.go_on}
        assert surviving == set(sorted(values)[-expected:])
        claims, step = [claim for claim, decision in zip(claims, decisions, strict=True) if decision.go_on], step * 3


def test_the_order_in_which_trials_are_asked_about_changes_nothing(store: Store, searches: Searches) -> None:
    pruned_study(store, name="asha", reduction_factor=3)
    claims, values = operations.claim_together(store, searches, "w", BYTES), shuffled(27)
    asked = [(claim.lease, {1: value}) for claim, value in zip(claims, values, strict=True)]
    assert operations.decide_many(store, searches, asked[::-1])[::-1] == operations.decide_many(store, searches, asked)


def test_trials_that_were_at_the_rung_before_are_compared_with_too(store: Store, searches: Searches) -> None:
    pruned_study(store, name="asha", reduction_factor=3)
    claims = operations.claim_together(store, searches, "w", BYTES)
    decided(store, searches, claims[:18], 1, [0.9] * 18)
    later = decided(store, searches, claims[18:], 1, [0.5] * 9)
    assert not any(decision.go_on for decision in later)
    assert later[0].why == "accuracy is 0.5 at step 1: not among the best 9 of 27 trials in rung 0, which needs 0.9."


def test_a_trial_that_reaches_two_rungs_at_once_competes_in_the_second_only_with_those_that_survive_the_first(
    store: Store, searches: Searches
) -> None:
    pruned_study(store, name="patient", patience=0, wrapped={"name": "asha", "reduction_factor": 3})
    claims, values = operations.claim_together(store, searches, "w", BYTES), shuffled(27)
    asked = [(claim.lease, {1: 2.0, 2: 1.5, 3: value}) for claim, value in zip(claims, values, strict=True)]
    decisions = operations.decide_many(store, searches, asked)
    surviving = {value for value, decision in zip(values, decisions, strict=True) if isinstance(decision, Decision) and decision.go_on}
    assert surviving == set(sorted(values)[-3:])  # a third of a third
    notes = [len(decision.memory) for decision in decisions if isinstance(decision, Decision)]
    assert sorted(notes) == [1] * 18 + [2] * 9


def test_each_bracket_of_hyperband_is_judged_apart(store: Store, searches: Searches) -> None:
    pruned_study(store, 81, name="hyperband", reduction_factor=3)
    claims, values = operations.claim_together(store, searches, "w", BYTES), shuffled(81)
    decisions = decided(store, searches, claims, 1, values)
    judged = [decision for decision in decisions if decision.memory]
    surviving = sum(decision.go_on for decision in judged)
    assert 0 < len(judged) < 81  # the other brackets have their first rung later
    assert surviving == max(1, len(judged) // 3)


@pytest.mark.parametrize("pruner", [{"name": "median", "n_startup_trials": 3}, {"name": "wilcoxon", "p_threshold": 0.3}, {"name": "none"}])
def test_pruners_that_compare_with_complete_trials_decide_as_if_asked_one_by_one(
    store: Store, searches: Searches, pruner: dict[str, Any]
) -> None:
    pruned_study(store, **pruner)
    claims = operations.claim_together(store, searches, "w", BYTES)
    for claim in claims[:5]:
        operations.record(store, [Write(claim.lease, reports=[report(step, 0.5) for step in (1, 2, 3)])])
        finish(store, claim, 0.5)
    asked = [(claim.lease, {1: value, 2: value, 3: value}) for claim, value in zip(claims[5:], shuffled(22), strict=True)]
    one_by_one = [decide_one(store, searches, lease, values) for lease, values in asked]
    assert operations.decide_many(store, searches, asked) == one_by_one
    assert all(decision.go_on for decision in one_by_one) == (pruner["name"] == "none")


def test_a_trial_that_diverges_ends_and_is_no_rival(store: Store, searches: Searches) -> None:
    pruned_study(store, 3, name="asha", reduction_factor=3)
    claims = operations.claim_together(store, searches, "w", BYTES)
    decisions = decided(store, searches, claims, 1, [float("nan"), 0.5, float("-inf")])
    assert [decision.go_on for decision in decisions] == [False, True, False]


def test_a_lost_lease_is_told_apart_and_the_others_are_decided(store: Store, searches: Searches) -> None:
    study, gone = pruned_study(store, 3, name="asha"), ready(store, **HEAD_ONLY | {"name": "gone"})
    claims = operations.claim_together(store, searches, "w", BYTES)
    alone = claim_one(store, searches)
    assert alone.lease.study == gone.id
    operations.cancel_trial(store, study.id, 1)
    operations.delete_study(store, gone.id)
    answers = operations.decide_many(store, searches, [(claim.lease, {1: 0.5}) for claim in (alone, *claims)])
    assert [isinstance(answer, LeaseLost) for answer in answers] == [True, False, True, False]
    assert answers[1:4:2] == operations.decide_many(store, searches, [(claim.lease, {1: 0.5}) for claim in claims[::2]])


class BrokenPruner(RandomSearch):
    """A search that suggests and cannot judge."""

    def decide_all(self, curves: Mapping[int, Mapping[int, float]]) -> dict[int, Decision]:
        raise ZeroDivisionError("no rung")


def test_a_study_whose_pruner_breaks_down_ends_with_the_reason_and_its_leases_are_lost(store: Store) -> None:
    study, searches = ready(store), Searches(BrokenPruner)  # type: ignore[arg-type]
    claim = claim_one(store, searches)
    (answer,) = operations.decide_many(store, searches, [(claim.lease, {1: 0.5})])
    assert isinstance(answer, LeaseLost)
    ended = study_of(store, study)
    assert (ended.state, ended.reason) == (StudyState.FAILED, "the search could not decide about pruning: ZeroDivisionError: no rung")
