"""A worker as a process of its own: how it ends, and what it leaves behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.domain.records import Study
from service.domain.states import TrialState
from service.settings import Settings
from service.store import Store, queries
from tests.processes import alive, children

MakeStudy = Callable[..., Study]
Until = Callable[[Callable[[], bool]], None]
Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def spawn(settings: Settings) -> Iterator[Spawn]:
    """Starts worker processes, and sees that none outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def one(*options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(Path(__file__).with_name("toy_worker.py")), str(settings.home), *options]
        started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        return started[-1]

    yield one
    for worker in started:
        worker.kill()
        worker.wait()


def test_no_trainer_outlives_a_worker_that_was_killed(make_study: MakeStudy, spawn: Spawn, store: Store, until: Until) -> None:
    study = make_study("hang")
    worker = spawn()
    until(lambda: store.read(queries.find_trial, study.id, 0).step == 1)
    trainers = children(worker.pid)
    assert trainers
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    until(lambda: not any(map(alive, trainers)))


def test_a_trial_of_a_killed_worker_is_run_again_by_another(make_study: MakeStudy, spawn: Spawn, store: Store, until: Until) -> None:
    study = make_study("train", fixed={"epochs": 40}, limits={"checkpoint_seconds": 0})
    worker = spawn("--slow-epoch", "0.1")
    until(lambda: len(store.read(queries.find_trial, study.id, 0).checkpoints) > 1)
    worker.send_signal(signal.SIGKILL)
    spawn()
    until(lambda: store.read(queries.find_study, study.id).state.terminal)
    trial = store.read(queries.find_trial, study.id, 0)
    assert (trial.state, trial.attempt, trial.step) == (TrialState.COMPLETE, 2, 40)
    resumed_from = min(metric.step for metric in store.read(queries.metrics, trial.id) if metric.attempt == 2)
    assert resumed_from > 1


def test_a_trial_that_kills_its_workers_ends_as_lost(make_study: MakeStudy, spawn: Spawn, store: Store, until: Until) -> None:
    study = make_study("kill_parent", limits={"attempts": 2})
    until_ended = time.monotonic() + 240
    worker = spawn()
    while not store.read(queries.find_study, study.id).state.terminal and time.monotonic() < until_ended:
        if worker.poll() is not None:
            worker = spawn()
        time.sleep(0.05)
    trial = store.read(queries.find_trial, study.id, 0)
    assert (trial.state, trial.reason, trial.attempt) == (TrialState.FAILED, "lost", 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_hands_the_trial_back_with_a_checkpoint_and_the_attempt_is_not_counted(
    make_study: MakeStudy, spawn: Spawn, store: Store, until: Until, number: signal.Signals
) -> None:
    study = make_study("endless", limits={"attempts": 1})
    worker = spawn("--slow-epoch", "0.05")
    until(lambda: store.read(queries.find_trial, study.id, 0).step > 1)
    trainers = children(worker.pid)
    worker.send_signal(number)
    assert worker.wait(60) == 0
    trial = store.read(queries.find_trial, study.id, 0)
    assert trial.state is TrialState.QUEUED
    assert trial.checkpoints[0].step >= 2
    assert not any(map(alive, trainers))
    assert [worker.state for worker in store.read(queries.workers)] == ["gone"]


def test_a_second_signal_ends_it_at_once(make_study: MakeStudy, spawn: Spawn, store: Store, until: Until) -> None:
    study = make_study("hang")
    worker = spawn()

    def has_ended() -> bool:
        if worker.poll() is None:
            worker.terminate()  # again and again: two that are pending count as one
        return worker.poll() is not None

    until(lambda: store.read(queries.find_trial, study.id, 0).step == 1)
    trainers = children(worker.pid)
    worker.terminate()
    time.sleep(0.5)
    assert worker.poll() is None, "it waits for its trainer"
    until(has_ended)
    assert worker.returncode == 128 + signal.SIGTERM
    assert not any(map(alive, trainers))


def test_a_trainer_that_does_not_heed_the_end_is_killed_in_time(make_study: MakeStudy, spawn: Spawn, store: Store, until: Until) -> None:
    study = make_study("stubborn")
    worker = spawn()
    until(lambda: store.read(queries.find_trial, study.id, 0).step == 1)
    worker.terminate()
    assert worker.wait(60) == 0
    assert store.read(queries.find_trial, study.id, 0).state is TrialState.QUEUED


def test_the_first_start_does_not_need_the_tables(settings: Settings, spawn: Spawn, until: Until) -> None:
    worker = spawn()
    until(lambda: (settings.home / "thawline.db").exists() and children(worker.pid) != set())
    assert os.path.getsize(settings.home / "thawline.db") > 0
