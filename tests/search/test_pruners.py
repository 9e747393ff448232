"""Pruners: the verdict is Optuna's, at the steps where there can be one, with a reason."""

import json
import math
import random
import re
from collections.abc import Mapping
from typing import Any

import optuna
import pytest

from search_spaces import Params
from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Random, Threshold, Wilcoxon
from service.domain.states import TrialState
from service.search.pruners import pruner_for
from service.search.study import Decision, decision_steps
from tests.search.simulation import Ending, Simulation, complete, decide, study_spec, trial_row

PRUNERS: list[Pruner] = [
    Median(n_startup_trials=3),
    Median(n_startup_trials=2, n_warmup_steps=2, interval_steps=3, n_min_trials=2),
    Percentile(percentile=25.0, n_startup_trials=3),
    Asha(min_steps=1, reduction_factor=2),
    Asha(min_steps=1, reduction_factor=3, min_early_stopping_rate=1),
    Hyperband(min_steps=1, reduction_factor=2),
    Threshold(lower=0.2, upper=0.8, n_warmup_steps=1),
    Wilcoxon(p_threshold=0.3),
    Patient(patience=1, wrapped=Median(n_startup_trials=1)),
    Patient(patience=2, min_delta=0.01),
    Patient(patience=0, wrapped=Asha(min_steps=1, reduction_factor=2)),
]
PARAMS: Params = {"lr": 0.01, "batch_size": 32, "optimizer": "adam", "frozen_layers": 3}
EPOCHS = 9


def named(pruner: Any) -> str:
    return "-".join(
        [pruner.name, *(f"{key}={value}" for key, value in pruner.model_dump(exclude_defaults=True, exclude={"wrapped"}).items())]
    )


def curve_of(dice: random.Random) -> dict[int, float]:
    level = dice.random()
    return {step: level * step / EPOCHS + 0.2 * dice.random() for step in range(1, EPOCHS + 1)}


def run_to_the_end(sim: Simulation, curve: Mapping[int, float]) -> tuple[list[Decision], int]:
    """The decisions on one more trial with this curve, and the step at which it ended."""
    number, decisions = len(sim.trials), list[Decision]()
    memory: dict[str, Any] = {}
    sim.put(trial_row(number, PARAMS))
    for step in decision_steps(sim.spec, EPOCHS):
        so_far = {each: curve[each] for each in range(1, step + 1)}
        decision = decide(sim.grown, number, so_far)
        assert decision == decide(sim.rebuilt(), number, so_far)
        decisions.append(decision)
        memory |= decision.memory
        sim.put(trial_row(number, PARAMS, memory=memory, step=step), so_far)
        if not decision.go_on:
            sim.end(number, Ending(TrialState.PRUNED, curve=so_far))
            return decisions, step
    sim.end(number, complete(curve[EPOCHS], curve))
    return decisions, EPOCHS


def optunas_end(study: optuna.Study, curve: Mapping[int, float]) -> int:
    """The step at which Optuna ends a trial with this curve, asked at each."""
    trial = study.ask()
    for step in range(1, EPOCHS):
        trial.report(curve[step], step)
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return step
    trial.report(curve[EPOCHS], EPOCHS)
    study.tell(trial, curve[EPOCHS])
    return EPOCHS


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("pruner", PRUNERS, ids=named)
def test_trials_end_where_optuna_ends_them_though_it_is_asked_only_at_decision_steps(pruner: Pruner, metric: str) -> None:
    sim, dice = Simulation(study_spec(pruner=pruner, sampler=Random(seed=7), metric=metric, epochs=EPOCHS)), random.Random(1)  # noqa: S311
    study = optuna.create_study(direction=sim.spec.objective.direction, study_name="7", pruner=pruner_for(pruner, EPOCHS))
    ends = []
    for _ in range(30):
        curve = curve_of(dice)
        decisions, end = run_to_the_end(sim, curve)
        assert end == optunas_end(study, curve)
        ends.append(end)
        assert all((decision.why is None) == decision.go_on for decision in decisions)
        assert json.loads(json.dumps([decision.memory for decision in decisions], allow_nan=False)) == [d.memory for d in decisions]
    assert len(set(ends)) > 1


def test_without_a_pruner_there_is_no_decision_step_and_no_end() -> None:
    sim = Simulation(study_spec(epochs=EPOCHS))
    assert decision_steps(sim.spec, EPOCHS) == ()
    assert decide(sim.grown, 0, {1: math.nan}) == Decision(go_on=True)


@pytest.mark.parametrize(
    ("pruner", "steps"),
    [
        (Median(), (1, 2, 3, 4, 5, 6, 7, 8)),
        (Median(n_warmup_steps=2, interval_steps=3), (3, 6)),
        (Threshold(lower=0.1, interval_steps=4), (1, 5)),
        (Asha(min_steps=1, reduction_factor=3), (1, 3)),
        (Asha(min_steps=2, reduction_factor=2, min_early_stopping_rate=1), (4, 8)),
        (Hyperband(min_steps=1, reduction_factor=2), (1, 2, 4, 8)),
        (Wilcoxon(n_startup_steps=4), (4, 5, 6, 7, 8)),
        (Patient(patience=3), (5, 6, 7, 8)),
        (Patient(patience=3, wrapped=Hyperband(min_steps=1, reduction_factor=2)), (5, 6, 7, 8)),
        (Patient(patience=0, wrapped=Median(interval_steps=4)), (5,)),
        (Asha(min_steps=20), ()),
    ],
    ids=lambda value: named(value) if not isinstance(value, tuple) else None,
)
def test_decision_steps(pruner: Pruner, steps: tuple[int, ...]) -> None:
    assert decision_steps(study_spec(pruner=pruner), EPOCHS) == steps


@pytest.mark.parametrize("pruner", PRUNERS, ids=named)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_ends_a_trial_under_every_pruner(pruner: Pruner, value: float) -> None:
    decision = decide(Simulation(study_spec(pruner=pruner)).grown, 0, {1: 0.5, 2: value})
    assert not decision.go_on
    assert not decision.memory
    assert decision.why is not None
    assert "at step 2" in decision.why


def after(
    pruner: Pruner, curves: list[dict[int, float]], values: dict[int, float], metric: str = "accuracy", number: int | None = None
) -> Decision:
    sim = Simulation(study_spec(pruner=pruner, metric=metric, epochs=EPOCHS))
    for curve in curves:
        memory = {"completed_rung_0": curve[1]} if pruner.name in ("asha", "hyperband") else {}
        sim.put(trial_row(len(sim.trials), PARAMS, TrialState.COMPLETE, value=curve[max(curve)], memory=memory, step=max(curve)), curve)
    return decide(sim.grown, len(curves) if number is None else number, values)


@pytest.mark.parametrize(
    ("pruner", "curves", "values", "why"),
    [
        (
            Median(n_startup_trials=1),
            [{1: 0.5}, {1: 0.6}, {1: 0.7}],
            {1: 0.41},
            "The best accuracy up to step 1 is 0.41, below the median of 3 complete trials at that step: 0.6.",
        ),
        (
            Percentile(percentile=25.0, n_startup_trials=1),
            [{1: 0.5}, {1: 0.6}, {1: 0.7}, {1: 0.8}, {1: 0.9}],
            {1: 0.75},
            "The best accuracy up to step 1 is 0.75, below the threshold of the best 25 % of 5 complete trials at that step: 0.8.",
        ),
        (
            Asha(min_steps=1, reduction_factor=3),
            [{1: 0.5}, {1: 0.6}, {1: 0.7}, {1: 0.8}, {1: 0.9}],
            {1: 0.75},
            "accuracy is 0.75 at step 1: not among the best 2 of 6 trials in rung 0, which needs 0.8.",
        ),
        (
            Threshold(upper=0.8),
            [],
            {1: 0.3, 2: 0.95},
            "accuracy is 0.95 at step 2, above the upper bound 0.8.",
        ),
        (
            Wilcoxon(p_threshold=0.2),
            [{step: 0.9 + step / 100 for step in range(1, 6)}],
            {step: 0.1 + step / 200 for step in range(1, 6)},
            "accuracy is 0.125 at step 5: step by step it is worse than the best trial, 0, by a signed-rank test at p < 0.2.",
        ),
        (
            Patient(patience=1),
            [],
            {1: 0.5, 2: 0.4, 3: 0.4},
            "accuracy has not improved for more than 1 steps: accuracy is 0.4 at step 3.",
        ),
    ],
    ids=["median", "percentile", "asha", "threshold", "wilcoxon", "patient"],
)
def test_the_reason_names_the_value_the_step_and_what_it_fell_short_of(
    pruner: Pruner, curves: list[dict[int, float]], values: dict[int, float], why: str
) -> None:
    decision = after(pruner, curves, values)
    assert not decision.go_on
    assert decision.why == why


def test_hyperbands_reason_speaks_of_the_trials_bracket() -> None:
    for number in range(100, 140):
        decision = after(Hyperband(min_steps=1, reduction_factor=3), [{1: 0.9}] * 30, {1: 0.1}, number=number)
        if decision.why is not None:
            found = re.fullmatch(
                r"accuracy is 0\.1 at step 1: not among the best \d+ of (\d+) trials in rung 0, which needs 0\.9\.", decision.why
            )
            assert found is not None
            assert 1 < int(found[1]) < 31
            return
    raise AssertionError("no trial was in the bracket that decides at step 1")


def test_a_rung_that_was_passed_before_a_worker_was_lost_is_not_asked_again() -> None:
    sim = Simulation(study_spec(pruner=Asha(min_steps=1, reduction_factor=2), epochs=EPOCHS))
    sim.put(trial_row(0, PARAMS, TrialState.COMPLETE, value=0.9, memory={"completed_rung_0": 0.9}, step=9), {1: 0.9})
    sim.put(trial_row(1, PARAMS, memory={"completed_rung_0": 0.5}))
    assert decide(sim.grown, 1, {1: 0.5}).go_on
    assert not decide(sim.grown, 2, {1: 0.5}).go_on


def test_a_trial_that_diverged_is_no_peer() -> None:
    sim = Simulation(study_spec(pruner=Median(n_startup_trials=0), epochs=EPOCHS))
    sim.put(trial_row(0, PARAMS, TrialState.FAILED, reason="diverged", step=2), {1: 0.9, 2: 0.9})
    assert decide(sim.grown, 1, {1: 0.5}).go_on
    sim.put(trial_row(1, PARAMS, TrialState.COMPLETE, value=0.9, step=9), {1: 0.9})
    assert not decide(sim.grown, 2, {1: 0.5}).go_on


def test_no_pruner_decides_on_what_it_was_not_given() -> None:
    assert study_spec().pruner == NoPruner()
    assert decide(Simulation(study_spec(pruner=Median())).grown, 0, {}) == Decision(go_on=True)
