"""After the search its best and the baseline are trained again, by the same claims and leases, unseen by sampler and pruner."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from service import operations
from service.confirmation.verdict import phase_of, recommended_trial, verdict_of
from service.domain.errors import StudyClosed
from service.domain.parsing import parse_study
from service.domain.records import Claim, Study, Trial
from service.domain.states import StudyState, TrialState
from service.operations import Searches
from service.store import Store, queries
from tests.narrowed import trained
from tests.operations.driving import (
    FACTS,
    claim_one,
    claim_trials,
    finished,
    kinds_of,
    ready,
    scored,
    searches_of,
    spec_of,
    study_of,
    tell,
    trials_of,
)
from trainer.protocol import Failed

TRAINED = 4  # trials of the search


def confirming(store: Store, **changes: Any) -> Study:
    """A checked study of four trials whose best two are confirmed, with images for it."""
    confirm, baseline = {"top": 2, "seeds": 5}, {"lr": 0.5}
    reported = {"data": {"path": "data/pets", "test": 0.2}, "confirm": confirm, "budget": {"trials": TRAINED}, "baseline": baseline}
    return ready(store, **(reported | changes))


def search(store: Store, searches: Searches, values: Mapping[int, float]) -> None:
    """Train the trials of the search: a value for each number."""
    for number, value in values.items():
        claim = claim_one(store, searches)
        assert claim.lease.number == number
        assert tell(store, claim.lease, result=RESULT, outcome=finished(value))


RESULT = {"trainable": 1_000}


def claims(store: Store, searches: Searches) -> list[Claim]:
    """All that can be claimed, by a worker that looks again: what follows on an empty hand comes by the next look."""
    looks = (claim_trials(store, searches, limit=100) for _ in range(3))
    return next((found for found in looks if found), [])


def of_arm(store: Store, study: Study, claim: Claim) -> int:
    """Which trial of the search a claimed trial trains again."""
    found = store.read(queries.find_trial, study.id, claim.lease.number).confirms
    assert found is not None
    return found


def confirm(store: Store, searches: Searches, study: Study, tests: Mapping[int, float]) -> list[Trial]:
    """Train all rounds, in each of which an arm scores near its value; the trials of the confirmation."""
    while claimed := claims(store, searches):
        for claim in claimed:
            wobble = (claim.lease.number * 7919 % 5 - 2) / 200
            assert tell(store, claim.lease, result=RESULT, outcome=scored(0.5, tests[of_arm(store, study, claim)] + wobble))
    return store.read(queries.confirmation_trials, study.id)


def test_a_study_that_relies_on_a_given_test_part_fails_at_its_check_where_there_is_none(store: Store) -> None:
    data = {"data": {"path": "data/pets", "split": "given"}, "confirm": {"top": 2, "seeds": 5}, "baseline": {"lr": 0.5}}
    for test, state in ((3, StudyState.ACTIVE), (0, StudyState.FAILED)):
        study = operations.create_study(store, spec_of(name=f"given {test}", **data))
        facts = FACTS.model_copy(update={"images": {"train": 9, "validation": 3, "test": test}})
        checked = operations.pass_check(store, study.id, facts)
        assert checked.state is state and (state is StudyState.ACTIVE or "data's own split has none" in str(checked.reason))


def test_the_best_and_the_baseline_are_trained_again_in_rounds_with_seeds_of_their_own(store: Store, searches: Searches) -> None:
    study = confirming(store)
    search(store, searches, {0: 0.4, 1: 0.7, 2: 0.9, 3: 0.8})
    assert study_of(store, study).state is StudyState.ACTIVE, "a study that confirms is not complete when its search is"
    first = claims(store, searches)
    confirmation = study_of(store, study).confirmation
    assert confirmation is not None
    assert (confirmation.arms, confirmation.baseline) == ((2, 3, 0), 0)
    assert sorted((of_arm(store, study, one), one.round) for one in first) == [(arm, round) for arm in (0, 2, 3) for round in (1, 2, 3)]
    configs = {(one.round, of_arm(store, study, one)): one.spec.config_for(one.params, one.lease.number, one.round) for one in first}
    searched = {study.spec.config_for({}, number).seed for number in range(TRAINED)}
    for round in (1, 2, 3):
        seeds = {(config.seed, trained(config).order_seed) for (its_round, _), config in configs.items() if its_round == round}
        assert len(seeds) == 1, "what is compared in a round has its seeds in common"
        assert not {seed for seed, _ in seeds} & searched
    assert len({trained(config).order_seed for config in configs.values()}) == 3


def test_the_study_ends_with_the_last_round_and_the_verdict_names_the_better_arm(store: Store, searches: Searches) -> None:
    study = confirming(store)
    search(store, searches, {0: 0.4, 1: 0.7, 2: 0.9, 3: 0.8})
    repeats = confirm(store, searches, study, {2: 0.7, 3: 0.85, 0: 0.5})
    ended = study_of(store, study)
    assert (ended.state, phase_of(ended)) == (StudyState.COMPLETE, "done")
    assert kinds_of(store, study)[-1] == "study_completed"
    assert {one.round for one in repeats if one.confirms in (0, 3)} == {1, 2, 3, 4, 5}
    with store.reading() as tx:
        verdict, (trial, confirmed) = verdict_of(tx, ended), recommended_trial(tx, ended)
    assert verdict is not None and confirmed == verdict and trial is not None
    assert (verdict.best, verdict.recommended, trial.number) == (3, 3, 3)
    assert verdict.expected is not None and abs(verdict.expected.value - 0.85) < 0.02
    assert verdict.helped == "yes"


@pytest.mark.parametrize(("largest", "judged"), [(60, "is better"), (84, "is not better beyond its uncertainty")])
def test_a_confirmed_result_is_compared_with_the_largest_class(store: Store, searches: Searches, largest: int, judged: str) -> None:
    study = confirming(store)
    search(store, searches, {0: 0.4, 1: 0.7, 2: 0.9, 3: 0.8})
    confirm(store, searches, study, {2: 0.7, 3: 0.85, 0: 0.5})
    facts = FACTS.model_copy(update={"class_counts": {"test": (largest, 100 - largest)}})
    with store.reading() as tx:
        verdict = verdict_of(tx, replace(study_of(store, study), facts=facts))
    assert verdict is not None
    assert f"The largest class, cat, has {largest:.1f} % of the test images" in verdict.words[-1] and judged in verdict.words[-1]


def test_a_clearly_worse_arm_is_not_trained_to_the_last_seed_but_the_baseline_is(store: Store, searches: Searches) -> None:
    study = confirming(store)
    search(store, searches, {0: 0.4, 1: 0.7, 2: 0.9, 3: 0.8})
    repeats = confirm(store, searches, study, {2: 0.3, 3: 0.9, 0: 0.2})
    rounds = {arm: max(one.round or 0 for one in repeats if one.confirms == arm) for arm in (0, 2, 3)}
    assert rounds == {0: 5, 2: 3, 3: 5}


def test_sampler_pruner_and_best_know_nothing_of_the_confirmation(store: Store, searches: Searches) -> None:
    study = confirming(store)
    search(store, searches, {0: 0.4, 1: 0.7, 2: 0.9, 3: 0.8})
    before = store.read(queries.changed_since, study.id, 0)
    (first, *_) = claims(store, searches)
    assert tell(store, first.lease, result=RESULT, outcome=scored(0.99, 0.99))
    after = store.read(queries.changed_since, study.id, 0)
    assert [one.number for one in after.trials] == [one.number for one in before.trials] == [0, 1, 2, 3]
    best = store.read(queries.best_trial, study)
    assert best is not None and best.number == 2
    assert store.read(queries.counts, [study.id])[study.id][TrialState.COMPLETE] == TRAINED


def test_equal_parameters_are_one_arm_and_a_baseline_among_the_best_has_no_second_one(store: Store, searches: Searches) -> None:
    study = confirming(store, budget={"trials": 5}, confirm={"top": 3, "seeds": 2})
    operations.queue_trial(store, study.id, {"lr": 0.25})
    operations.queue_trial(store, study.id, {"lr": 0.25})
    search(store, searches, {0: 0.9, 1: 0.8, 2: 0.85, 3: 0.1, 4: 0.7})
    claims(store, searches)
    confirmation = study_of(store, study).confirmation
    assert confirmation is not None and confirmation.arms == (0, 1, 4)


def test_an_arm_that_fails_is_out_and_the_study_goes_on(store: Store, searches: Searches) -> None:
    study = confirming(store, limits={"failures": 1})
    search(store, searches, {0: 0.4, 1: 0.7, 2: 0.9, 3: 0.8})
    for claim in claims(store, searches):
        failed = of_arm(store, study, claim) == 2
        outcome = Failed(reason="diverged", detail="the loss was nan") if failed else scored(0.5, 0.8)
        assert tell(store, claim.lease, result=RESULT, outcome=outcome)
    confirm(store, searches, study, {3: 0.8, 0: 0.5})
    with store.reading() as tx:
        verdict = verdict_of(tx, study_of(store, study))
    assert verdict is not None
    assert verdict.recommended == 3
    assert [arm.failed is None for arm in verdict.arms] == [False, True, True]


def test_a_search_without_a_result_confirms_nothing(store: Store, searches: Searches) -> None:
    study = confirming(store)
    for _ in range(TRAINED):
        assert tell(store, claim_one(store, searches).lease, outcome=Failed(reason="diverged", detail="nan"))
    assert claims(store, searches) == []
    assert (study_of(store, study).state, phase_of(study_of(store, study))) == (StudyState.COMPLETE, "none")


def test_hours_bound_the_search_and_not_the_confirmation(store: Store, searches: Searches, monkeypatch: pytest.MonkeyPatch) -> None:
    study = confirming(store, budget={"hours": 0.5})
    search(store, searches, {0: 0.4, 1: 0.7})
    waiting = operations.queue_trial(store, study.id, {"lr": 0.125})
    monkeypatch.setattr("service.operations.completion.steady", lambda: 10.0**9 * 3)
    found = claims(store, searches)
    assert store.read(queries.find_trial, study.id, waiting.number).state is TrialState.CANCELLED
    assert {one.round for one in found} == {1, 2, 3}
    confirm(store, searches, study, {0: 0.5, 1: 0.5})
    for claim in found:
        tell(store, claim.lease, result=RESULT, outcome=scored(0.5, 0.5))
    confirm(store, searches, study, {0: 0.5, 1: 0.5})
    assert study_of(store, study).state is StudyState.COMPLETE


def test_no_trial_is_queued_while_the_best_are_confirmed(store: Store) -> None:
    searches = searches_of(size=2)
    study = confirming(store, baseline=None)
    search(store, searches, {0: 0.4, 1: 0.7})
    assert claims(store, searches)
    with pytest.raises(StudyClosed, match="confirmed"):
        operations.queue_trial(store, study.id, {"lr": 0.125})


def test_a_lost_worker_of_a_confirmation_is_another_attempt_at_the_same_round(store: Store, searches: Searches) -> None:
    study = confirming(store)
    search(store, searches, {0: 0.4, 1: 0.7, 2: 0.9, 3: 0.8})
    lost, *_ = claims(store, searches)
    heartbeats = dict(store.read(queries.running_leases))
    assert operations.requeue_lost(store, [(lost.lease, heartbeats[lost.lease])]) == 1
    again = claim_one(store, searches, "w2")
    assert (again.lease.number, again.lease.attempt, again.round) == (lost.lease.number, 2, lost.round)
    assert len(trials_of(store, study)) == TRAINED + 9


def test_a_study_that_stops_meanwhile_keeps_what_is_known(store: Store, searches: Searches) -> None:
    study = confirming(store)
    search(store, searches, {0: 0.4, 1: 0.7, 2: 0.9, 3: 0.8})
    first, *_ = claims(store, searches)
    assert tell(store, first.lease, result=RESULT, outcome=scored(0.5, 0.8))
    operations.stop_study(store, study.id)
    stopped = study_of(store, study)
    with store.reading() as tx:
        verdict, (trial, confirmed) = verdict_of(tx, stopped), recommended_trial(tx, stopped)
    assert (phase_of(stopped), confirmed) == ("stopped", None)
    assert verdict is not None and verdict.state == "stopped"
    assert trial is not None and trial.number == 2


def test_lanes_take_a_round_together_and_no_two_rounds(store: Store, searches: Searches) -> None:
    frozen = {"frozen_layers": 9}
    weights = {"name": "squeezenet1_1", "weights": "w.safetensors"}
    study = ready(
        store, model=weights, fixed=frozen, data={"path": "data/pets", "test": 0.2}, baseline={"lr": 0.5},
        confirm={"top": 2, "seeds": 3}, budget={"trials": TRAINED},
    )  # fmt: skip
    while not study_of(store, study).confirmation:
        for claim in operations.claim_together(store, searches, "w", lane_bytes=10**9):
            assert tell(store, claim.lease, result=RESULT, outcome=finished(claim.lease.number / 10))
    passes = []
    while claimed := operations.claim_together(store, searches, "w", lane_bytes=10**9):
        passes.append([one.round for one in claimed])
    assert passes == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]


def test_a_baseline_that_nobody_named_is_the_defaults(store: Store) -> None:
    document = spec_of(data={"path": "p", "test": 0.2}, confirm={}).model_dump(mode="json", exclude={"preset", "baseline"})
    lr, batch_size = {"type": "float", "low": 0.01, "high": 0.1}, {"type": "categorical", "choices": [16, 24]}
    document["search_space"] = {"lr": lr, "batch_size": batch_size}
    spec = parse_study(document)
    assert spec.baseline == {"lr": 0.01, "batch_size": 24}
