"""A worker with toy trainers on a real store: each thing that can happen to a trial has its outcome, and the next trial runs."""

import os
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from service import operations
from service.domain.records import Study
from service.domain.states import StudyState, TrialState
from service.store import Store, queries
from service.worker import slot_runner
from service.worker.context import Timeouts
from tests.processes import children

MakeStudy = Callable[..., Study]
OpenShop = Callable[..., Any]
Until = Callable[[Callable[[], bool]], None]


def test_queued_trials_are_checked_run_and_recorded(make_study: MakeStudy, shop: OpenShop) -> None:
    study = make_study("train", "train")
    trials = shop().trials_at_end(study)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.COMPLETE]
    assert trials[0].value == pytest.approx(1 - 1 / 4.9)
    assert trials[0].step == 3 and trials[0].attempt == 1
    assert trials[0].result["environment"]["device"] == "toy"


@pytest.mark.parametrize(
    ("behaviour", "reason", "detail"),
    [
        ("crash", "crashed", "the toy broke"),
        ("segfault", "crashed", "SIGSEGV"),
        ("killed", "crashed", "SIGKILL"),
        ("quit", "crashed", "exit code 3"),
        ("fork", "crashed", "exit code 4"),
        ("hang", "timeout", "sent no message for 6 seconds"),
        ("rant", "timeout", "sent no message"),
        ("stubborn", "timeout", "sent no message"),
    ],
)
def test_what_goes_wrong_is_an_outcome_and_the_next_trial_runs(
    make_study: MakeStudy, shop: OpenShop, behaviour: str, reason: str, detail: str
) -> None:
    failed, fine = shop().trials_at_end(make_study(behaviour, "train"))
    assert failed.state is TrialState.FAILED
    assert (failed.reason, detail in (failed.detail or "")) == (reason, True), failed.detail
    assert failed.attempt == (3 if reason == "crashed" else 1)
    assert fine.state is TrialState.COMPLETE


def test_a_trial_that_others_left_no_memory_is_released_a_few_times_and_then_fails(
    make_study: MakeStudy, shop: OpenShop, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_runner, "CROWDED", (0.2, 0.4))
    study = make_study("crowd", "train")
    failed, fine = shop().trials_at_end(study)
    attempts = store.read(queries.attempts, failed.id)
    assert [attempt.ending for attempt in attempts] == ["released"] * 3 + ["failed"]
    assert {attempt.detail for attempt in attempts[:3]} == {"other processes hold memory of the GPU: the toy has no memory left"}
    pauses = [after.started_at - (before.ended_at or 0) for before, after in pairwise(attempts)]
    assert min(pauses) > 0.05, "the slot does not claim it again at once"
    assert (failed.state, failed.reason, fine.state) == (TrialState.FAILED, "out_of_memory", TrialState.COMPLETE)


def test_data_that_changed_since_the_check_end_the_study(make_study: MakeStudy, shop: OpenShop) -> None:
    study = make_study("bad_data", "train")
    opened = shop()
    failed, other = opened.trials_at_end(study)
    assert (failed.state, failed.reason, other.state) == (TrialState.FAILED, "bad_data", TrialState.QUEUED)
    assert opened.study(study).state is StudyState.FAILED
    assert (opened.study(study).reason or "").startswith("bad_data in trial 0: ")


def test_a_metric_that_is_no_number_makes_the_trial_diverged(make_study: MakeStudy, shop: OpenShop) -> None:
    failed, fine = shop().trials_at_end(make_study("nan", "train"))
    assert (failed.state, failed.reason) == (TrialState.FAILED, "diverged")
    assert fine.state is TrialState.COMPLETE


def test_a_trial_over_its_time_ends_as_timeout(make_study: MakeStudy, shop: OpenShop) -> None:
    study = make_study("endless", "train", limits={"minutes": 0.01})
    late, fine = shop("--slow-epoch", "0.05").trials_at_end(study)
    assert (late.state, late.reason) == (TrialState.FAILED, "timeout")
    assert "limits.minutes" in (late.detail or "")
    assert fine.state is TrialState.COMPLETE


def test_data_that_are_unfit_stop_the_study_before_any_trial(make_study: MakeStudy, shop: OpenShop) -> None:
    study = make_study("train", data={"path": "/unfit"})
    opened = shop()
    [trial] = opened.trials_at_end(study)
    assert opened.study(study).state is StudyState.FAILED
    assert opened.study(study).reason == "class b has no image"
    assert trial.state is TrialState.QUEUED and trial.attempt == 0


def test_a_cancelled_trial_ends_in_the_trainer_and_the_next_one_runs(
    make_study: MakeStudy, shop: OpenShop, store: Store, until: Until
) -> None:
    study = make_study("endless", "train")
    opened = shop("--slow-epoch", "0.02")
    until(lambda: opened.trial(study).step > 2)
    operations.cancel_trial(store, study.id, 0)
    step = opened.trial(study).step
    cancelled, fine = opened.trials_at_end(study)
    assert (cancelled.state, fine.state) == (TrialState.CANCELLED, TrialState.COMPLETE)
    assert cancelled.step == step


def test_a_trainer_that_does_not_heed_a_cancel_is_killed(make_study: MakeStudy, shop: OpenShop, store: Store, until: Until) -> None:
    study = make_study("hang", "train")
    opened = shop(patience=Timeouts(start=20, prepare=60, stall=60, grace=0.5))
    until(lambda: opened.trial(study).step == 1)
    operations.cancel_trial(store, study.id, 0)
    cancelled, fine = opened.trials_at_end(study)
    assert (cancelled.state, fine.state) == (TrialState.CANCELLED, TrialState.COMPLETE)


def test_the_pruner_is_asked_at_its_steps_and_its_word_ends_the_run(make_study: MakeStudy, shop: OpenShop) -> None:
    study = make_study("train", "train", pruner={"name": "threshold", "lower": 0.99}, fixed={"epochs": 5})
    for trial in shop().trials_at_end(study):
        assert (trial.state, trial.step) == (TrialState.PRUNED, 1)
        assert trial.detail


def test_leaving_hands_the_trial_back_with_its_checkpoint(make_study: MakeStudy, shop: OpenShop, until: Until) -> None:
    study = make_study("endless", limits={"attempts": 1})
    opened = shop("--slow-epoch", "0.02")
    until(lambda: opened.trial(study).step > 2)
    opened.close()
    handed_back = opened.trial(study)
    assert handed_back.state is TrialState.QUEUED
    assert handed_back.checkpoints[0].step >= 3
    assert [worker.state for worker in opened.store.read(queries.workers)] == ["gone"]


def test_another_worker_goes_on_from_the_checkpoint(make_study: MakeStudy, shop: OpenShop, until: Until) -> None:
    study = make_study("train", fixed={"epochs": 40}, limits={"attempts": 1})
    first = shop("--slow-epoch", "0.05")
    until(lambda: first.trial(study).step > 2)
    first.close()
    saved = first.trial(study).checkpoints[0].step
    [trial] = shop().trials_at_end(study)
    assert (trial.state, trial.step, trial.attempt) == (TrialState.COMPLETE, 40, 2)
    metrics = first.store.read(queries.metrics, trial.id)
    assert {metric.attempt for metric in metrics if metric.step > saved} == {2}
    assert {metric.attempt for metric in metrics if metric.step <= saved} == {1}


def test_old_checkpoints_are_removed_on_the_way_and_one_is_left_at_the_end(make_study: MakeStudy, shop: OpenShop, settings: Any) -> None:
    study = make_study("train", fixed={"epochs": 6}, limits={"checkpoint_seconds": 0})
    [trial] = shop("--slow-epoch", "0.3").trials_at_end(study)
    until_settled = time.monotonic() + 60
    folder = settings.home / "checkpoints" / study.id / "0"
    while len(files := [path.name for path in folder.rglob("*.safetensors")]) > 1 and time.monotonic() < until_settled:
        time.sleep(0.05)
    assert files == ["s6.safetensors"]
    assert trial.checkpoints[0].step == 6


def test_a_lost_lease_ends_the_run_without_another_word(make_study: MakeStudy, shop: OpenShop, store: Store, until: Until) -> None:
    study = make_study("endless")
    opened = shop("--slow-epoch", "0.02")
    until(lambda: opened.trial(study).step > 2)
    [(lease, heartbeats)] = store.read(queries.running_leases)
    while not operations.requeue_lost(store, [(lease, heartbeats)]):
        [(lease, heartbeats)] = store.read(queries.running_leases)
    until(lambda: opened.trial(study).attempt == 2 and opened.trial(study).step > 2)
    assert {metric.attempt for metric in store.read(queries.metrics, opened.trial(study).id)} == {2}


def test_slots_work_side_by_side(make_study: MakeStudy, shop: OpenShop, store: Store, until: Until) -> None:
    make_study("endless", "endless")
    shop("--slow-epoch", "0.05", slots=2)
    until(lambda: len(store.read(queries.running_leases)) == 2)


def test_a_slot_starts_its_trainer_when_there_is_work_for_it(make_study: MakeStudy, shop: OpenShop, store: Store, until: Until) -> None:
    others = children(os.getpid())

    def trainers() -> int:
        return len(children(os.getpid()) - others)

    shop("--slow-epoch", "0.05", slots=2)
    until(lambda: trainers() > 0)
    time.sleep(1)  # several looks for work
    assert trainers() == 1
    make_study("endless", "endless")
    until(lambda: len(store.read(queries.running_leases)) == 2)
    assert trainers() == 2


def test_a_trainer_that_cannot_start_costs_no_trial(make_study: MakeStudy, shop: OpenShop, until: Until) -> None:
    study = make_study("train")
    broken = shop("--no-start")
    time.sleep(1.5)
    assert broken.trial(study).attempt == 0
    broken.close()
    assert shop().trials_at_end(study)[0].state is TrialState.COMPLETE


def test_a_trainer_killed_while_idle_is_started_again(make_study: MakeStudy, shop: OpenShop, until: Until) -> None:
    opened = shop()
    until(lambda: opened.worker._runners)
    [runner] = opened.worker._runners
    until(lambda: runner._process is not None and runner._process.ready)
    os.kill(runner._process.pid, signal.SIGKILL)
    assert opened.trials_at_end(make_study("train"))[0].state is TrialState.COMPLETE


def test_a_draining_worker_ends_what_it_has_takes_no_more_and_goes(
    make_study: MakeStudy, shop: OpenShop, store: Store, until: Until
) -> None:
    study = make_study("train", "train", "train", fixed={"epochs": 20})
    opened = shop("--slow-epoch", "0.05", slots=2)
    until(lambda: all(opened.trial(study, number).step > 1 for number in (0, 1)))
    operations.drain_worker(store, opened.worker.id)
    until(opened.has_ended)
    first, second, third = store.read(queries.trials, study.id)
    assert [(trial.state, trial.attempt, trial.step) for trial in (first, second)] == [(TrialState.COMPLETE, 1, 20)] * 2
    assert (third.state, third.attempt) == (TrialState.QUEUED, 0)
    assert store.read(queries.find_worker, opened.worker.id).state == "gone"


def test_an_idle_worker_that_drains_goes_at_once_and_another_takes_its_place(
    make_study: MakeStudy, shop: OpenShop, store: Store, until: Until
) -> None:
    drained = shop(slots=2)
    until(lambda: bool(store.read(queries.workers)))
    operations.drain_worker(store, drained.worker.id)
    until(drained.has_ended)
    assert [trial.state for trial in shop().trials_at_end(make_study("train"))] == [TrialState.COMPLETE]
