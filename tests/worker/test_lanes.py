"""Several trials on one trainer: each ends by itself, whatever becomes of the others, and none is blamed for the process."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import Study, Trial
from service.domain.states import TrialState
from service.settings import Settings
from service.store import Store, queries
from service.worker import store_client
from tests.operations.driving import FACTS
from tests.worker.fragile import Fragile

MakeLanes = Callable[..., Study]
OpenShop = Callable[..., Any]
Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """On each database."""
    return Settings(home=tmp_path / "home", database_url=database_url, heartbeat_seconds=0.2, lease_seconds=2.0)


@pytest.fixture
def make_lanes(store: Store, lr_of: Callable[[str], float]) -> MakeLanes:
    """A study of head-only trials, all queued: those behaviours of the toy in order, each with a momentum if one is given."""

    def one(*behaviours: str | tuple[str, float], epochs: int = 4, **document: Any) -> Study:
        whole = {
            "name": "heads", "data": {"path": "/data"}, "model": {"name": "squeezenet1_1", "weights": "/weights/s.safetensors"},
            "fixed": {"epochs": epochs, "image_size": 32, "frozen_layers": "all"},
            "search_space": {"lr": {"type": "float", "low": 1e-4, "high": 1.0}, "momentum": {"type": "float", "low": 0.0, "high": 0.99}},
            "objective": {"metric": "accuracy", "direction": "maximize"}, "sampler": {"name": "random"},
            "budget": {"trials": len(behaviours)}, **document,
        }  # fmt: skip
        study = operations.create_study(store, parse_study(whole))
        for behaviour in behaviours:
            name, momentum = (behaviour, 0.9) if isinstance(behaviour, str) else behaviour
            operations.queue_trial(store, study.id, {"lr": lr_of(name), "momentum": momentum})
        return study

    return one


def different(behaviour: str, count: int) -> list[tuple[str, float]]:
    """So many trials that are no duplicates of each other."""
    return [(behaviour, place / 100) for place in range(count)]


def ends(trials: list[Trial]) -> list[tuple[TrialState, int]]:
    return [(trial.state, trial.attempt) for trial in trials]


def test_of_five_lanes_each_meets_its_own_end(make_lanes: MakeLanes, shop: OpenShop, store: Store, until: Until) -> None:
    behaviours = [("train", 0.0), ("diverge", 0.5), ("endless", 0.5), ("endless", 0.6), ("train", 0.5)]
    study = make_lanes(*behaviours, epochs=25, pruner={"name": "threshold", "lower": 0.55})
    opened = shop("--slow-epoch", "0.1")
    until(lambda: opened.trial(study, 4).step > 2)
    operations.cancel_trial(store, study.id, 2)
    cancelled_at = opened.trial(study, 2).step
    lose(store, study, 3)
    until(lambda: opened.trial(study, 4).state.terminal)

    pruned, diverged, cancelled, lost, done = store.read(queries.trials, study.id)
    assert (pruned.state, pruned.step, pruned.attempt) == (TrialState.PRUNED, 1, 1)
    assert (diverged.state, diverged.reason, diverged.attempt) == (TrialState.FAILED, "diverged", 1)
    assert (cancelled.state, cancelled.step) == (TrialState.CANCELLED, cancelled_at)
    assert (done.state, done.step, done.attempt) == (TrialState.COMPLETE, 25, 1)
    assert {metric.step for metric in store.read(queries.metrics, done.id)} == set(range(1, 26))
    assert done.result["reuse"]["lanes"] == 5
    assert done.result["environment"] == {"device": "toy", "threads": "1", "accelerator": "cpu"}
    assert done.result["pace"]["seconds"]["control"] > 0
    until(lambda: opened.trial(study, 3).attempt == 2 and opened.trial(study, 3).step > 2)  # alone
    assert {metric.attempt for metric in store.read(queries.metrics, lost.id)} == {2}


def lose(store: Store, study: Study, number: int) -> None:
    """As a reaper does whom the heartbeats did not reach."""
    while True:
        [suspect] = [one for one in store.read(queries.running_leases) if (one[0].study, one[0].number) == (study.id, number)]
        if operations.requeue_lost(store, [suspect]):
            return


@pytest.mark.parametrize(
    ("misdeed", "reason", "attempts"),
    [("crash", "crashed", 3), ("killed", "crashed", 3), ("hang", "timeout", 1), ("starve", "out_of_memory", 1)],
)
def test_a_process_that_fails_with_several_trials_blames_none_and_each_runs_again_alone(
    make_lanes: MakeLanes, shop: OpenShop, misdeed: str, reason: str, attempts: int
) -> None:
    study = make_lanes(("train", 0.1), (misdeed, 0.2), ("train", 0.3))
    first, culprit, last = shop().trials_at_end(study)
    assert ends([first, last]) == [(TrialState.COMPLETE, 2)] * 2
    assert (culprit.state, culprit.reason, culprit.attempt) == (TrialState.FAILED, reason, 1 + attempts)
    assert last.result["environment"]["device"] == "toy"


def test_a_trainer_that_falls_silent_before_all_are_measured_is_not_waited_for(make_lanes: MakeLanes, shop: OpenShop) -> None:
    study = make_lanes(("train", 0.1), ("mute", 0.2), pruner={"name": "threshold", "lower": 0.0})
    first, culprit = shop().trials_at_end(study)
    assert (first.state, first.attempt) == (TrialState.COMPLETE, 2)
    assert (culprit.state, culprit.reason) == (TrialState.FAILED, "timeout")


def test_leaving_hands_all_back_with_checkpoints_and_another_worker_goes_on(make_lanes: MakeLanes, shop: OpenShop, until: Until) -> None:
    study = make_lanes(*different("train", 3), epochs=30, limits={"attempts": 1})
    first = shop("--slow-epoch", "0.05")
    until(lambda: first.trial(study, 2).step > 2)
    first.close()
    handed_back = first.store.read(queries.trials, study.id)
    saved = [trial.checkpoints[0].step for trial in handed_back]
    assert [trial.state for trial in handed_back] == [TrialState.QUEUED] * 3
    assert min(saved) > 2
    trials = shop().trials_at_end(study)
    assert ends(trials) == [(TrialState.COMPLETE, 2)] * 3
    for trial, resumed_from in zip(trials, saved, strict=True):
        by_attempt = {metric.step: metric.attempt for metric in first.store.read(queries.metrics, trial.id)}
        assert by_attempt == {step: 1 if step <= resumed_from else 2 for step in range(1, 31)}


def test_trials_over_their_time_end_without_the_process(make_lanes: MakeLanes, shop: OpenShop, until: Until) -> None:
    study = make_lanes(*different("endless", 2), limits={"minutes": 0.02})
    opened = shop("--slow-epoch", "0.05")
    until(lambda: opened.trial(study, 0).step > 0)
    [runner] = opened.worker._runners
    pid = runner._process.pid
    trials = opened.trials_at_end(study)
    assert [(trial.reason, trial.attempt) for trial in trials] == [("timeout", 1)] * 2
    assert runner._process.pid == pid and runner._process.alive


def test_trials_that_reach_a_rung_together_are_judged_by_each_other(make_lanes: MakeLanes, shop: OpenShop) -> None:
    study = make_lanes(*different("train", 9), epochs=9, pruner={"name": "asha", "reduction_factor": 3, "min_steps": 1})
    trials = shop().trials_at_end(study)
    assert {trial.attempt for trial in trials} == {1}
    assert sum(trial.step == 1 for trial in trials) == 6
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == 1


def test_a_short_outage_costs_no_lane_anything(make_lanes: MakeLanes, shop: OpenShop, fragile: Fragile, until: Until) -> None:
    study = make_lanes(*different("train", 3), epochs=30, pruner={"name": "threshold", "lower": 0.0, "interval_steps": 12})
    opened = shop("--slow-epoch", "0.05", on=fragile, lease_seconds=20)
    until(lambda: opened.trial(study).step > 2)
    fragile.down = True
    threading.Event().wait(0.7)  # under the trust window, by far: the machine may be busy
    fragile.down = False
    trials = opened.trials_at_end(study)
    assert ends(trials) == [(TrialState.COMPLETE, 1)] * 3
    for trial in trials:
        assert {metric.step for metric in fragile.read(queries.metrics, trial.id)} == set(range(1, 31))


def test_leases_that_cannot_be_renewed_end_all_that_share_the_trainer(
    make_lanes: MakeLanes, shop: OpenShop, fragile: Fragile, store: Store, until: Until
) -> None:
    study = make_lanes(*different("endless", 2))
    opened = shop("--slow-epoch", "0.05", on=fragile)
    until(lambda: store.read(queries.find_trial, study.id, 1).step > 2)
    [runner] = opened.worker._runners
    process = runner._process
    fragile.down = True
    until(lambda: not process.alive)
    fragile.down = False
    until(lambda: sorted(trial.attempt for trial in store.read(queries.trials, study.id)) == [1, 2])  # one slot: one by one now


def test_results_that_meet_an_outage_are_spooled_and_delivered_later(
    make_lanes: MakeLanes, shop: OpenShop, fragile: Fragile, store: Store, settings: Settings, until: Until
) -> None:
    study = make_lanes(*different("train", 3), ("endless", 0.5), epochs=6)
    opened = shop("--slow-epoch", "0.1", on=fragile)
    until(lambda: store.read(queries.find_trial, study.id, 0).step >= 1)
    fragile.down = True
    until(lambda: len(list((settings.home / "spool").rglob("*.json"))) >= 3)
    opened.close()  # the store is still away
    assert {trial.state for trial in store.read(queries.trials, study.id)} == {TrialState.RUNNING}
    again = shop()
    until(lambda: ends(store.read(queries.trials, study.id)[:3]) == [(TrialState.COMPLETE, 1)] * 3)
    until(lambda: again.trial(study, 3).attempt == 2)


def test_missing_data_sends_back_all_trials_of_a_pass_and_none_is_claimed_until_it_is_there(
    make_lanes: MakeLanes, shop: OpenShop, store: Store, until: Until, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_client, "READ_RETRY", (0.1, 0.3))
    study = make_lanes(*different("train", 3), data={"path": str(tmp_path / "mount")})
    operations.pass_check(store, study.id, FACTS)
    opened = shop()
    until(lambda: ends(store.read(queries.trials, study.id)) == [(TrialState.QUEUED, 1)] * 3)
    until(lambda: len(store.read(queries.unavailabilities)) == 1)
    (tmp_path / "mount" / "class").mkdir(parents=True)
    assert ends(opened.trials_at_end(study)) == [(TrialState.COMPLETE, 2)] * 3
