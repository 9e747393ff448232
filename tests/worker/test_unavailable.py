"""A worker that cannot read a study's data hands the trial back, leaves the study alone, says so, and takes it up again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service import operations
from service.domain.records import Study
from service.domain.states import AttemptEnd, StudyState, TrialState
from service.settings import Settings
from service.store import Store, queries
from service.worker import store_client
from tests.operations.driving import FACTS
from tests.worker.conftest import SHORT, Shop
from trainer.files import is_readable

MakeStudy = Callable[..., Study]
OpenShop = Callable[..., Shop]
Until = Callable[..., None]


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_client, "READ_RETRY", (0.1, 0.3))


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """On each database."""
    return Settings(home=tmp_path / "home", database_url=database_url, heartbeat_seconds=0.2, lease_seconds=15.0)


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """Where the data lies once `show` was called."""
    return tmp_path / "mount"


def show(mount: Path) -> None:
    (mount / "class").mkdir(parents=True, exist_ok=True)


def kinds(store: Store, study: Study) -> list[str]:
    return [event.kind for event in store.read(queries.events_after, study.id, 0, 1_000)]


def left_alone(store: Store) -> list[tuple[str, str]]:
    return [(one.name, one.detail) for one in store.read(queries.unavailabilities)]


def test_missing_data_sends_the_trial_back_and_the_study_goes_on_when_it_is_there_again(
    make_study: MakeStudy, shop: OpenShop, store: Store, mount: Path, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    study = make_study("train", "train", data={"path": str(mount)}, fixed={"epochs": 4})
    operations.pass_check(store, study.id, FACTS)
    opened = shop()
    until(lambda: left_alone(store) == [("train-train", f"there is no folder {mount} for swordfish")])
    until(lambda: opened.trial(study).state is TrialState.QUEUED)
    assert opened.study(study).state is StudyState.ACTIVE
    assert "study_unavailable" in kinds(store, study) and "are claimed until its data can be read" in caplog.text
    show(mount)
    first, second = opened.trials_at_end(study)
    assert (first.state, second.state, opened.study(study).state) == (TrialState.COMPLETE, TrialState.COMPLETE, StudyState.COMPLETE)
    assert left_alone(store) == [] and "study_available" in kinds(store, study)
    released, complete = store.read(queries.attempts, first.id)
    assert (released.ending, complete.ending) == (AttemptEnd.RELEASED, AttemptEnd.COMPLETE)
    assert released.detail == f"this worker cannot read the data: there is no folder {mount} for swordfish"


def test_a_study_that_cannot_be_checked_here_waits_and_holds_up_no_other(
    make_study: MakeStudy, shop: OpenShop, store: Store, mount: Path, until: Until
) -> None:
    waiting = make_study("train", name="waiting", data={"path": str(mount)})
    other = make_study("train", name="other")
    opened = shop()
    assert opened.trials_at_end(other)[0].state is TrialState.COMPLETE
    until(lambda: [name for name, _ in left_alone(store)] == ["waiting"])
    now = opened.study(waiting)
    assert (now.state, now.facts, opened.trial(waiting).attempt) == (StudyState.ACTIVE, None, 0)
    show(mount)
    assert opened.trials_at_end(waiting)[0].state is TrialState.COMPLETE


def test_an_empty_folder_is_not_taken_for_the_data(
    make_study: MakeStudy, shop: OpenShop, store: Store, mount: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount point without its mount."""
    looks = list[str]()

    def look(path: Path) -> bool:
        looks.append(str(path))
        return is_readable(path)

    monkeypatch.setattr(store_client, "is_readable", look)
    study = make_study("train", data={"path": str(mount)})
    operations.pass_check(store, study.id, FACTS)
    opened = shop()
    until(lambda: len(left_alone(store)) == 1)
    mount.mkdir()
    seen = len(looks)
    until(lambda: len(looks) >= seen + 2)
    assert opened.trial(study).attempt == 1
    show(mount)
    assert opened.trials_at_end(study)[0].state is TrialState.COMPLETE


def test_a_check_that_exceeds_its_time_limit_ends_no_study(
    make_study: MakeStudy, shop: OpenShop, store: Store, tmp_path: Path, until: Until
) -> None:
    mount = tmp_path / "dead-mount"
    hanging = make_study("train", name="hanging", data={"path": str(mount)})
    other = make_study("train", name="other")
    opened = shop(patience=replace(SHORT, check=1))
    until(lambda: [name for name, _ in left_alone(store)] == ["hanging"])
    ((_, why),) = left_alone(store)
    assert "did not end within 1 seconds on this worker" in why and str(mount) in why
    assert opened.trials_at_end(other)[0].state is TrialState.COMPLETE
    assert opened.study(hanging).state is StudyState.ACTIVE
    opened.close()
    show(mount)  # another worker has the data, and a longer limit for busy cores
    assert shop().trials_at_end(hanging)[0].state is TrialState.COMPLETE


def test_a_trainer_that_hangs_before_it_has_read_the_data_sends_its_trial_back(
    make_study: MakeStudy, shop: OpenShop, store: Store, tmp_path: Path, until: Until
) -> None:
    mount = tmp_path / "dead-mount"
    study = make_study("train", data={"path": str(mount)}, limits={"attempts": 1})
    operations.pass_check(store, study.id, FACTS)
    opened = shop(patience=replace(SHORT, prepare=1))
    until(lambda: len(left_alone(store)) == 1 and opened.trial(study).state is TrialState.QUEUED)
    assert left_alone(store)[0][1] == "the trainer sent no message for 1 seconds while it read data and weights"
    opened.close()
    show(mount)
    second = shop()
    (trial,) = second.trials_at_end(study)
    assert (trial.state, second.study(study).state) == (TrialState.COMPLETE, StudyState.COMPLETE)
    first, last = store.read(queries.attempts, trial.id)
    assert (first.ending, last.ending) == (AttemptEnd.RELEASED, AttemptEnd.COMPLETE)


@pytest.mark.parametrize("end", [operations.stop_study, operations.delete_study])
def test_a_study_that_ends_meanwhile_is_forgotten(
    make_study: MakeStudy, shop: OpenShop, store: Store, mount: Path, until: Until, end: Callable[..., Any]
) -> None:
    study = make_study("train", data={"path": str(mount)})
    opened = shop()
    until(lambda: len(left_alone(store)) == 1)
    end(store, study.id)
    until(lambda: opened.worker._control.unavailable.ids() == frozenset())
    until(lambda: left_alone(store) == [])


def test_nothing_is_left_of_a_worker_that_has_gone(make_study: MakeStudy, shop: OpenShop, store: Store, mount: Path, until: Until) -> None:
    make_study("train", data={"path": str(mount)})
    opened = shop()
    until(lambda: len(left_alone(store)) == 1)
    opened.close()
    assert left_alone(store) == []
