"""What trainers print, in the logs of the trials that they ran for, on each database."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from service import operations
from service.domain.parsing import parse_study
from service.domain.records import Lease, Study
from service.domain.states import AttemptEnd, TrialState
from service.operations import Write
from service.settings import Settings
from service.store import Store, queries
from service.worker.context import Timeouts
from service.worker.store_client import StoreClient

MakeStudy = Callable[..., Study]
OpenShop = Callable[..., Any]
Until = Callable[[Callable[[], bool]], None]
TWICE = {"limits": {"attempts": 2, "checkpoint_seconds": 0}}


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """On each database."""
    return Settings(home=tmp_path / "home", database_url=database_url, heartbeat_seconds=0.2, lease_seconds=5.0)


def log_of(store: Store, study: Study, number: int = 0, attempt: int = 1) -> str:
    trial = store.read(queries.find_trial, study.id, number)
    chunks = store.read(queries.log_chunks, trial.id, attempt, limit=10_000)
    assert [chunk.seq for chunk in chunks] == list(range(1, len(chunks) + 1))
    return "".join(chunk.text for chunk in chunks)


def test_a_traceback_is_in_the_log_of_the_attempt_that_died_and_of_no_other(make_study: MakeStudy, shop: OpenShop, store: Store) -> None:
    study = make_study("crash", "train", **TWICE)
    failed, fine = shop().trials_at_end(study)
    assert (failed.state, failed.attempt, fine.state) == (TrialState.FAILED, 2, TrialState.COMPLETE)
    assert [one.ending for one in store.read(queries.attempts, failed.id)] == 2 * [AttemptEnd.CRASHED]
    for attempt in (1, 2):
        log = log_of(store, study, 0, attempt)
        assert log.count("RuntimeError: the toy broke") >= 1 and log.count("Traceback") == 1, log
        assert "worker: failed after epoch" in log.splitlines()[-1]
    assert "Traceback" not in log_of(store, study, 1)


def test_what_was_printed_before_the_order_belongs_to_nobody(make_study: MakeStudy, shop: OpenShop, store: Store) -> None:
    study = make_study("talk", "talk")
    shop("--greet").trials_at_end(study)
    for number in (0, 1):
        log = log_of(store, study, number)
        assert "the toy is imported" not in log
        assert [line for line in log.splitlines() if line.startswith("epoch")] == [f"epoch {step} of trial" for step in (1, 2, 3)]


def test_hostile_output_becomes_plain_text(make_study: MakeStudy, shop: OpenShop, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_TOYS_TOKEN", "correct-horse")
    study = make_study("babble")
    [trial] = shop().trials_at_end(study)
    assert trial.state is TrialState.COMPLETE
    log = log_of(store, study)
    assert "red, not \ufffd\ufffd\ufffd, said *** and" in log
    assert "at http://user:***@host" in log
    assert "50 %" not in log and "100 %" in log
    assert not set(map(chr, [*range(9), *range(11, 32), 127])) & set(log)
    assert "a line that has no end" in log
    assert "no line of the contract" in log


def test_a_flood_is_cut_and_the_end_of_it_is_there(make_study: MakeStudy, shop: OpenShop, store: Store) -> None:
    study = make_study("flood")
    [trial] = shop(patience=Timeouts(stall=60)).trials_at_end(study)
    assert trial.state is TrialState.COMPLETE
    log = log_of(store, study)
    assert len(log) < 5 * 2**20
    assert "lines were dropped" in log
    assert "the last word of the flood" in log


def test_a_trainer_that_is_silent_or_handed_back_has_the_workers_word_in_its_log(
    make_study: MakeStudy, shop: OpenShop, store: Store, until: Until
) -> None:
    study = make_study("hang", "endless")
    opened = shop("--slow-epoch", "0.05", patience=Timeouts(start=20, prepare=20, stall=2, grace=3))
    until(lambda: opened.trial(study, 1).step > 1)
    opened.close()
    assert "worker: killed: the trainer sent no message for 2 seconds" in log_of(store, study)
    assert "worker: released, because the worker is shutting down" in log_of(store, study, 1)


def test_a_process_that_is_killed_says_so(make_study: MakeStudy, shop: OpenShop, store: Store, until: Until) -> None:
    study = make_study("endless", **TWICE)
    opened = shop("--slow-epoch", "0.02")
    until(lambda: opened.trial(study).step > 1)
    [runner] = opened.worker._runners
    os.kill(runner._process.pid, signal.SIGKILL)
    until(lambda: opened.trial(study).attempt == 2)
    assert "signal 9 (SIGKILL)" in log_of(store, study)


def test_a_stale_attempts_log_is_refused(make_study: MakeStudy, shop: OpenShop, store: Store, until: Until) -> None:
    study = make_study("endless")
    opened = shop("--slow-epoch", "0.02")
    until(lambda: opened.trial(study).step > 1)
    [(lease, _)] = store.read(queries.running_leases)
    operations.cancel_trial(store, study.id, 0)
    assert operations.record(store, [Write(lease, log="too late\n")]) == [lease]
    assert "too late" not in log_of(store, study)


def test_of_trials_that_share_a_pass_each_has_the_end_of_what_it_printed(
    shop: OpenShop, store: Store, lr_of: Callable[[str], float]
) -> None:
    study = operations.create_study(store, parse_study(heads(trials=3)))
    for place, behaviour in enumerate(["talk", "diverge", "talk"]):
        operations.queue_trial(store, study.id, {"lr": lr_of(behaviour), "momentum": place / 10})
    shop("--greet").trials_at_end(study)
    for number in range(3):
        log = log_of(store, study, number)
        first, *rest = log.splitlines()
        assert "3 trials were trained together" in first
        assert "epoch 1 of the pass" in rest and "the toy is imported" not in log
    assert "worker: failed after epoch 1: diverged: the toy's loss was nan" in log_of(store, study, 1)
    assert log_of(store, study, 0).count("epoch 4 of the pass") == 1


def heads(trials: int) -> dict[str, Any]:
    return {
        "name": "heads", "data": {"path": "/data"}, "model": {"name": "squeezenet1_1", "weights": "/weights/s.safetensors"},
        "fixed": {"epochs": 4, "image_size": 32, "frozen_layers": "all"},
        "search_space": {"lr": {"type": "float", "low": 1e-4, "high": 1.0}, "momentum": {"type": "float", "low": 0.0, "high": 0.99}},
        "objective": {"metric": "accuracy", "direction": "maximize"}, "sampler": {"name": "random"}, "budget": {"trials": trials},
    }  # fmt: skip


def test_a_log_costs_a_run_that_reports_no_transaction(
    make_study: MakeStudy, shop: OpenShop, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[Write] = []
    record = StoreClient.record

    def noted(self: StoreClient, said: Sequence[Write]) -> list[Lease]:
        writes.extend(said)
        return record(self, said)

    monkeypatch.setattr(StoreClient, "record", noted)
    study = make_study("talk", fixed={"epochs": 4})
    shop("--slow-epoch", "0.5", patience=Timeouts(stall=60)).trials_at_end(study)
    assert log_of(store, study).count("of trial\n") == 4
    assert [one.log for one in writes if not (one.reports or one.outcome)] == []
    reported = [one for one in writes if one.reports]
    assert reported and all(one.log for one in reported)
