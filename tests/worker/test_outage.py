"""A store that stops answering: training goes on inside the trust window, results wait, and nobody writes without a lease."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from service import operations
from service.domain.records import Lease, MetricReport, Study
from service.domain.states import TrialState
from service.operations import Pruned, Released, Write
from service.settings import Settings
from service.store import Store, queries
from service.worker.home import Spool
from service.worker.store_client import StoreClient
from tests.worker.fragile import Fragile
from trainer.protocol import Checkpoint, Failed, Finished

MakeStudy = Callable[..., Study]
OpenShop = Callable[..., Any]
Until = Callable[[Callable[[], bool]], None]

LEASE = Lease(study="5" * 16, trial=1, number=0, attempt=2, worker="w")
FINISHED = Finished(
    step=1, metrics={"accuracy": float("nan")}, report={"per_class_recall": {}, "confusion_matrix": []}, train_seconds=1, peak_memory=1
)


def test_a_short_outage_costs_nothing(make_study: MakeStudy, shop: OpenShop, fragile: Fragile, until: Until) -> None:
    study = make_study("train", fixed={"epochs": 30})
    opened = shop("--slow-epoch", "0.05", on=fragile, lease_seconds=20)
    until(lambda: opened.trial(study).step > 2)
    fragile.down = True
    threading.Event().wait(0.7)  # far below the trust window, since the machine may be busy
    fragile.down = False
    [trial] = opened.trials_at_end(study)
    assert (trial.state, trial.step, trial.attempt) == (TrialState.COMPLETE, 30, 1)
    assert {metric.step for metric in fragile.read(queries.metrics, trial.id)} == set(range(1, 31))


def test_a_worker_waits_for_a_store_that_is_not_there_yet(make_study: MakeStudy, shop: OpenShop, fragile: Fragile, store: Store) -> None:
    study = make_study("train")
    fragile.down = True
    opened = shop(on=fragile)
    threading.Event().wait(0.5)
    assert store.read(queries.workers) == []
    fragile.down = False
    assert opened.trials_at_end(study)[0].state is TrialState.COMPLETE


def test_a_lease_that_cannot_be_renewed_ends_the_training(
    make_study: MakeStudy, shop: OpenShop, fragile: Fragile, store: Store, until: Until
) -> None:
    study = make_study("endless")
    opened = shop("--slow-epoch", "0.05", on=fragile)
    until(lambda: store.read(queries.find_trial, study.id, 0).step > 2)
    [runner] = opened.worker._runners
    process = runner._process
    fragile.down = True
    until(lambda: not process.alive)
    fragile.down = False
    until(lambda: store.read(queries.find_trial, study.id, 0).attempt == 2)


def test_a_result_that_meets_an_outage_is_spooled_and_delivered_later(
    make_study: MakeStudy, shop: OpenShop, fragile: Fragile, store: Store, settings: Settings, until: Until
) -> None:
    study = make_study("train", fixed={"epochs": 6})
    opened = shop("--slow-epoch", "0.1", on=fragile)
    until(lambda: store.read(queries.find_trial, study.id, 0).step >= 1)
    fragile.down = True
    until(lambda: len(list((settings.home / "spool").rglob("*.json"))) == 1)
    opened.close()  # the store is still away
    assert store.read(queries.find_trial, study.id, 0).state is TrialState.RUNNING
    [trial] = shop().trials_at_end(study)
    assert (trial.state, trial.attempt, trial.step) == (TrialState.COMPLETE, 1, 6)
    until(lambda: not list((settings.home / "spool").rglob("*.json")))


@pytest.mark.parametrize("outcome", [FINISHED, Failed(reason="crashed", detail="x"), Pruned("worse than the median"), Released()])
def test_the_spool_gives_back_what_it_was_given(settings: Settings, outcome: Any) -> None:
    checkpoint = Checkpoint(step=3, path="/c/s3", sha256="0" * 64, size=1)
    write = Write(
        LEASE,
        (MetricReport(3, {"accuracy": 0.5, "loss": 1e-9}),),
        checkpoint,
        {"rung": 1},
        {"environment": {"torch": "2"}},
        outcome=outcome,
    )
    spool = Spool(settings.home / "spool", "d" * 32)
    spool.keep(write)
    [kept] = spool.kept()
    assert (kept.lease, list(kept.reports), kept.checkpoint, kept.memory, kept.result) == (
        LEASE,
        list(write.reports),
        checkpoint,
        write.memory,
        write.result,
    )
    assert repr(kept.outcome) == repr(outcome)  # NaN does not equal itself
    spool.forget(LEASE)
    assert list(spool.kept()) == []


def test_a_spooled_result_of_an_attempt_that_is_over_is_dropped(make_study: MakeStudy, store: Store, settings: Settings) -> None:
    study = make_study("train")
    trial = operations.cancel_trial(store, study.id, 0)
    spool = Spool(settings.home / "spool", "d" * 32)
    spool.keep(Write(replace(LEASE, study=study.id, trial=trial.id, attempt=0), outcome=FINISHED))
    StoreClient(store, "w", spool).deliver_spooled()
    assert list(spool.kept(again=True)) == []


def test_a_damaged_spool_file_is_set_aside(settings: Settings) -> None:
    folder = settings.home / "spool" / ("d" * 32)
    folder.mkdir(parents=True)
    (folder / "a.json").write_text('{"lease"')
    spool = Spool(settings.home / "spool", "d" * 32)
    assert list(spool.kept()) == [] and spool.count_set_aside() == 1
    assert [path.name for path in (folder / "set-aside").iterdir()] == ["a.json"]
