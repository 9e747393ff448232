"""Devices that cannot be used: they are reported in time, take no trials, and the study goes on elsewhere."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service import operations
from service.domain.records import Study, UnusableDevice, Worker
from service.domain.states import TrialState
from service.settings import Settings
from service.store import Store, queries
from service.worker.devices import Device, layout_of
from tests.worker.conftest import SHORT, Shop

FIRST = Device("GPU-1", "cuda", "NVIDIA H100", "0", 80 * 2**30)
SECOND = Device("GPU-2", "cuda", "NVIDIA H200", "1", 141 * 2**30)
IN_TIME = 15.0  # seconds until a worker has reported a device that cannot be used
RETRIES = replace(SHORT, device_retry=0.5)
MakeStudy = Callable[..., Study]
Until = Callable[..., None]
OpenShop = Callable[..., Shop]


def worker_of(store: Store, shop: Shop) -> Worker:
    return store.read(queries.find_worker, shop.worker.id)


def is_registered(store: Store, shop: Shop) -> bool:
    return shop.worker.id in {worker.id for worker in store.read(queries.workers)}


@pytest.fixture
def fault(tmp_path: Path) -> Path:
    """A file; while it exists, the device is bad."""
    file = tmp_path / "fault"
    file.touch()
    return file


def bad(device: Device, how: str, fault: Path) -> tuple[str, ...]:
    return ("--bad-device", device.id, "--how", how, "--while", str(fault))


@pytest.mark.parametrize("how", ["unusable", "dies", "slow"])
def test_a_worker_whose_only_gpu_fails_reports_it_in_time_and_trains_on_the_cpu_until_it_works(
    how: str, fault: Path, shop: OpenShop, store: Store, make_study: MakeStudy, until: Until
) -> None:
    study = make_study("train", "train")
    opened = shop(*bad(FIRST, how, fault), patience=RETRIES, layout=layout_of([FIRST], 2))
    until(lambda: is_registered(store, opened))
    until(lambda: worker_of(store, opened).unusable, IN_TIME)
    [reported] = worker_of(store, opened).unusable
    assert (reported.device, reported.name) == ("cuda:GPU-1", "NVIDIA H100 #0, 80 GB")
    if how == "dies":
        assert "the driver broke the toy" in reported.detail and reported.remedy
    else:
        assert reported.detail == "the toy's device is a brick at http://toy:***@host/" and reported.remedy == "Replace the brick"
    assert all(trial.state is TrialState.COMPLETE for trial in opened.trials_at_end(study))
    on_cpu = worker_of(store, opened)
    assert (on_cpu.devices, on_cpu.slots, on_cpu.device_names) == (("cpu", "cpu"), 2, ("CPU", "CPU"))
    fault.unlink()
    until(lambda: not worker_of(store, opened).unusable)
    until(lambda: worker_of(store, opened).devices == ("cuda:GPU-1",))
    assert worker_of(store, opened).slots == 1
    again = make_study("train", name="again")
    assert [trial.state for trial in opened.trials_at_end(again)] == [TrialState.COMPLETE]


def test_a_worker_that_was_given_its_gpus_waits_while_another_one_trains(
    fault: Path, shop: OpenShop, store: Store, make_study: MakeStudy, until: Until
) -> None:
    waiting = shop(*bad(FIRST, "unusable", fault), patience=RETRIES, layout=layout_of([FIRST], 2, waits=True))
    until(lambda: is_registered(store, waiting))
    until(lambda: worker_of(store, waiting).unusable, IN_TIME)
    until(lambda: worker_of(store, waiting).slots == 0 and worker_of(store, waiting).devices == ())
    study = make_study("train")
    time.sleep(2 * RETRIES.device_retry)
    assert not store.read(queries.find_study, study.id).state.terminal
    assert store.read(queries.find_trial, study.id, 0).state is TrialState.QUEUED
    other = shop()
    [trial] = other.trials_at_end(study)
    assert (trial.state, trial.attempt, trial.worker) == (TrialState.COMPLETE, 1, other.worker.id)
    operations.drain_worker(store, waiting.worker.id)
    until(waiting.has_ended)


def test_of_two_gpus_the_one_that_works_trains_and_the_cpu_is_not_used(
    fault: Path, shop: OpenShop, store: Store, make_study: MakeStudy, until: Until
) -> None:
    layout = layout_of([FIRST, SECOND], 2, count=4)
    opened = shop(*bad(FIRST, "unusable", fault), patience=replace(SHORT, device_retry=600), layout=layout)
    until(lambda: is_registered(store, opened))
    until(lambda: worker_of(store, opened).unusable, IN_TIME)
    study = make_study("train", "train", "train")
    assert {trial.state for trial in opened.trials_at_end(study)} == {TrialState.COMPLETE}
    worker = worker_of(store, opened)
    assert (worker.devices, worker.slots) == (("cuda:GPU-2",) * 2, 2)
    assert [one.device for one in worker.unusable] == ["cuda:GPU-1"]


def test_of_two_slots_on_a_gpu_one_that_fails_leaves_the_other_usable_and_is_shown(
    fault: Path, shop: OpenShop, store: Store, make_study: MakeStudy, until: Until
) -> None:
    fault.unlink()
    opened = shop("--slow-epoch", "0.02", *bad(FIRST, "unusable", fault), patience=RETRIES, layout=layout_of([FIRST], 2, count=2))
    until(lambda: is_registered(store, opened))
    first, second = opened.worker._runners
    until(lambda: first._process is not None and first._process.ready)
    fault.touch()
    study = make_study("endless", "train")
    until(lambda: worker_of(store, opened).unusable, IN_TIME)
    worker = worker_of(store, opened)
    assert [(one.device, one.name) for one in worker.unusable] == [("cuda:GPU-1", "1 of 2 slots on NVIDIA H100 #0, 80 GB")]
    assert (worker.devices, worker.slots) == (("cuda:GPU-1",), 1), "the first slot trains"
    operations.cancel_trial(store, study.id, 0)
    assert opened.trials_at_end(study)[1].state is TrialState.COMPLETE
    fault.unlink()
    until(lambda: not worker_of(store, opened).unusable)
    assert worker_of(store, opened).slots == 2 and second.fault is None


def test_slots_on_the_cpu_are_forgotten_when_they_have_ended(
    fault: Path, shop: OpenShop, store: Store, make_study: MakeStudy, until: Until
) -> None:
    opened = shop(*bad(FIRST, "unusable", fault), patience=RETRIES, layout=layout_of([FIRST], 2))
    until(lambda: len(opened.worker._runners) == 3)
    fault.unlink()
    until(lambda: len(opened.worker._runners) == 1)
    assert opened.trials_at_end(make_study("train"))[0].state is TrialState.COMPLETE


def test_a_driver_that_does_not_work_is_reported_with_the_registration(
    shop: OpenShop, store: Store, make_study: MakeStudy, until: Until
) -> None:
    broken = UnusableDevice("NVIDIA driver", "NVIDIA driver", "NVML: Driver/library version mismatch", "Reboot")
    opened = shop(layout=layout_of((), 1, faults=[broken]))
    until(lambda: is_registered(store, opened))
    assert worker_of(store, opened).unusable == (broken,)
    assert [trial.state for trial in opened.trials_at_end(make_study("train"))] == [TrialState.COMPLETE]
    assert worker_of(store, opened).unusable == (broken,) and worker_of(store, opened).devices == ("cpu",)


@pytest.mark.slow
def test_a_real_worker_reports_a_left_over_variable_and_uses_the_cpu(settings: Settings, store: Store, until: Until) -> None:
    """No machine has this GPU, so the driver, or without one the trainer's test, refuses it."""
    missing = "GPU-00000000-0000-0000-0000-000000000000"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": missing, "THAW_HOME": str(settings.home)}
    log = settings.home / "log"
    with log.open("w") as stderr:
        command = [sys.executable, "-P", "-m", "service.cli", "worker", "--slots", "1"]
        worker = subprocess.Popen(command, env=environment, stderr=stderr, stdin=subprocess.DEVNULL)
        try:
            until(lambda: any(one.unusable for one in store.read(queries.workers)))
            until(lambda: [one.devices for one in store.read(queries.workers)] == [("cpu",)])
        finally:
            worker.terminate()
            assert worker.wait(60) == 0
    [registered] = store.read(queries.workers)
    assert "There is no such device for this process: check CUDA_VISIBLE_DEVICES" in registered.unusable[0].remedy
    assert "train on the CPU" in log.read_text()


def test_a_trial_whose_error_ends_its_trainer_is_tried_again_and_the_next_one_gets_a_new_trainer(
    shop: OpenShop, make_study: MakeStudy
) -> None:
    opened = shop()
    poisoned, sound = opened.trials_at_end(make_study("poison", "train", limits={"attempts": 2}))
    assert (poisoned.state, poisoned.reason, poisoned.attempt) == (TrialState.FAILED, "crashed", 2)
    assert poisoned.detail is not None and "an illegal memory access" in poisoned.detail
    assert (sound.state, sound.attempt) == (TrialState.COMPLETE, 1)
