"""What a trial was pruned on: the numbers are the pruner's, and the sentence follows from them."""

import json
import math
import random
from collections.abc import Mapping
from typing import Any

import pytest

from search_spaces import Params
from service.domain.pruning import MOST_PEERS, Finding, PruningReason, sentence_of
from service.domain.samplers import Asha, Hyperband, Median, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.states import TrialState, ValueKind
from service.search.study import Decision
from tests.search.simulation import Simulation, decide, study_spec, trial_row

EPOCHS = 9
PARAMS: Params = {"lr": 0.01, "batch_size": 32, "optimizer": "adam", "frozen_layers": 3}
RISING = [{step: level * step / EPOCHS for step in range(1, EPOCHS + 1)} for level in (0.5, 0.6, 0.7, 0.8, 0.9)]

PRUNERS: list[Pruner] = [
    Median(n_startup_trials=1),
    Percentile(percentile=25.0, n_startup_trials=1),
    Asha(min_steps=1, reduction_factor=2),
    Hyperband(min_steps=1, reduction_factor=2),
    Threshold(lower=0.2),
    Wilcoxon(p_threshold=0.3),
    Patient(patience=0, wrapped=Median(n_startup_trials=1)),
    Patient(patience=0, wrapped=Hyperband(min_steps=1, reduction_factor=2)),
    Patient(patience=1, wrapped=Threshold(lower=0.3)),
    Patient(patience=2),
]


def ids(pruner: Any) -> str:
    return f"{pruner.name}-{pruner.wrapped.name}" if isinstance(pruner, Patient) else str(pruner.name)


def simulated(pruner: Pruner, curves: list[dict[int, float]], metric: str = "accuracy") -> Simulation:
    sim = Simulation(study_spec(pruner=pruner, metric=metric, epochs=EPOCHS))
    for curve in curves:
        rungs = {f"completed_rung_{rung}": curve[2**rung] for rung in range(3) if 2**rung in curve}
        sim.put(trial_row(len(sim.trials), PARAMS, TrialState.COMPLETE, value=curve[EPOCHS], memory=rungs, step=EPOCHS), curve)
    return sim


def evidence_on(pruner: Pruner, curves: list[dict[int, float]], values: Mapping[int, float], metric: str = "accuracy") -> PruningReason:
    decision = decide(simulated(pruner, curves, metric).grown, len(curves), values)
    assert decision.evidence is not None
    return decision.evidence


def pairs(evidence: PruningReason) -> list[tuple[int, float]]:
    return [(peer.number, peer.value) for peer in evidence.peers]


def test_a_median_compares_the_best_so_far_with_complete_trials_at_the_step() -> None:
    evidence = evidence_on(Median(n_startup_trials=1), [{1: 0.5, 9: 1.0}, {1: 0.6, 9: 1.0}, {1: 0.8, 9: 1.0}], {1: 0.4})
    assert (evidence.value, evidence.step, evidence.threshold, evidence.rung, evidence.peers_total) == (0.4, 1, 0.6, None, 3)
    assert pairs(evidence) == [(1, 0.6), (0, 0.5), (2, 0.8)]
    assert (evidence.metric, evidence.direction, evidence.rule) == ("accuracy", "maximize", Median(n_startup_trials=1))


def test_a_rung_has_the_values_that_others_had_in_it() -> None:
    evidence = evidence_on(
        Asha(reduction_factor=2), [{1: 0.9, 2: 0.9, 4: 0.9, 9: 1.0}, {1: 0.8, 2: 0.8, 4: 0.8, 9: 1.0}], {1: 0.85, 2: 0.1}
    )
    assert (evidence.rung, evidence.value, evidence.threshold, evidence.step) == (0, 0.1, 0.9, 2)
    assert pairs(evidence) == [(0, 0.9), (1, 0.8)]
    assert evidence.bracket is None


def test_a_bracket_is_named_and_its_trials_alone_are_peers() -> None:
    curves = [dict(RISING[4]) for _ in range(30)]
    evidence = next(
        decision.evidence
        for number in range(100, 140)
        if (decision := decide(simulated(Hyperband(reduction_factor=2), curves).grown, number, {1: 0.0})).evidence is not None
    )
    assert evidence.bracket == 0
    assert 0 < evidence.peers_total < 30


def test_a_threshold_is_the_bound_that_was_left() -> None:
    low = evidence_on(Threshold(lower=0.2, upper=0.8), [], {1: 0.1})
    high = evidence_on(Threshold(lower=0.2, upper=0.8), [], {1: 0.9})
    assert (low.threshold, high.threshold, low.peers) == (0.2, 0.8, ())


def test_a_signed_rank_test_has_a_peer_and_no_threshold() -> None:
    evidence = evidence_on(Wilcoxon(p_threshold=0.3), RISING, {step: 0.001 * step for step in range(1, 6)})
    assert (pairs(evidence), evidence.threshold) == ([(4, RISING[4][5])], None)


def test_patience_alone_needs_what_was_reached_before() -> None:
    evidence = evidence_on(Patient(patience=1, min_delta=0.05), [], {1: 0.5, 2: 0.41, 3: 0.4})
    assert evidence.value == 0.4
    assert evidence.threshold == pytest.approx(0.45)
    falling = evidence_on(Patient(patience=1, min_delta=0.05), [], {1: 0.5, 2: 0.56, 3: 0.6}, metric="loss")
    assert (falling.value, falling.direction) == (0.6, "minimize")
    assert falling.threshold == pytest.approx(0.55)


def test_patience_around_another_rule_has_that_rules_evidence() -> None:
    wrapped = evidence_on(Patient(patience=0, wrapped=Median(n_startup_trials=1)), RISING, {1: 0.01, 2: 0.005})
    plain = evidence_on(Median(n_startup_trials=1), RISING, {1: 0.01, 2: 0.005})
    assert (wrapped.threshold, wrapped.peers, wrapped.value) == (plain.threshold, plain.peers, plain.value)
    assert wrapped.sentence == "accuracy has not improved for more than 0 steps, and " + plain.sentence


@pytest.mark.parametrize("pruner", PRUNERS, ids=ids)
@pytest.mark.parametrize(
    ("value", "kind", "word"),
    [(math.nan, ValueKind.NAN, "nan"), (math.inf, ValueKind.POS_INF, "inf"), (-math.inf, ValueKind.NEG_INF, "-inf")],
)
def test_a_value_that_is_no_number_is_evidence_by_itself(pruner: Pruner, value: float, kind: ValueKind, word: str) -> None:
    evidence = evidence_on(pruner, RISING, {1: 0.5, 2: value})
    assert (evidence.value, evidence.kind, evidence.threshold, evidence.peers) == (None, kind, None, ())
    assert evidence.sentence == f"accuracy is {word} at step 2."


def test_of_many_peers_those_nearest_to_the_threshold_are_named() -> None:
    curves = [{step: (number + 1) / 200 for step in range(1, EPOCHS + 1)} for number in range(120)]
    evidence = evidence_on(Median(n_startup_trials=1), curves, {1: 0.001})
    assert evidence.threshold is not None
    assert (evidence.peers_total, len(evidence.peers)) == (120, MOST_PEERS)
    far = max(abs(peer.value - evidence.threshold) for peer in evidence.peers)
    assert far <= min(abs(curve[1] - evidence.threshold) for n, curve in enumerate(curves) if n not in {p.number for p in evidence.peers})


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("pruner", PRUNERS, ids=ids)
def test_the_sentence_follows_from_the_numbers_and_json_keeps_all_of_it(pruner: Pruner, metric: str) -> None:
    worse = {step: (0.002 if metric == "accuracy" else 3.0) + (-1e-4 if metric == "accuracy" else 1e-4) * step for step in range(1, 6)}
    curves = [dict(curve) for curve in RISING * 4]
    if isinstance(pruner, Threshold) or (isinstance(pruner, Patient) and isinstance(pruner.wrapped, Threshold)):
        curves = []
        worse = {step: 0.1 - 0.001 * step if metric == "accuracy" else 0.1 + 0.001 * step for step in range(1, 6)}
    decisions = [decide(simulated(pruner, curves, metric).grown, number, worse) for number in range(len(curves), len(curves) + 20)]
    found = [decision.evidence for decision in decisions if decision.evidence is not None]
    assert found
    for evidence in found:
        read = PruningReason.model_validate_json(json.dumps(evidence.model_dump(mode="json"), allow_nan=False))
        assert read == evidence
        assert sentence_of(Finding(**{name: getattr(read, name) for name in Finding.model_fields})) == evidence.sentence
        assert evidence.threshold is None or f"{evidence.threshold:.6g}" in evidence.sentence or evidence.rule.name == "patient"


@pytest.mark.parametrize("pruner", [*PRUNERS[:2], *PRUNERS[4:7], *PRUNERS[8:]], ids=ids)
def test_trials_asked_together_have_the_evidence_that_they_have_one_by_one(pruner: Pruner) -> None:
    """Of rules in which trials under way are no peers; of rungs the next test speaks."""
    dice = random.Random(3)  # noqa: S311
    curves = {20 + number: {step: dice.random() / 5 for step in range(1, 6)} for number in range(12)}
    sim = simulated(pruner, RISING)
    together = sim.grown.decide_all(curves)
    assert together == {number: decide(sim.grown, number, curve) for number, curve in curves.items()}
    assert any(decision.evidence is not None for decision in together.values())


def test_of_trials_in_a_rung_together_each_has_all_others_as_peers() -> None:
    sim = simulated(Asha(reduction_factor=2), [])
    for number in range(4):
        sim.put(trial_row(number, PARAMS))
    together: Mapping[int, Decision] = sim.grown.decide_all({number: {1: number / 8} for number in range(4)})
    lowest = together[0].evidence
    assert lowest is not None
    assert (lowest.peers_total, lowest.threshold, pairs(lowest)) == (3, 0.25, [(2, 0.25), (1, 0.125), (3, 0.375)])
    assert decide(sim.grown, 0, {1: 0.0}).go_on
