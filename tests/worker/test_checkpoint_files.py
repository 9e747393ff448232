"""Of a trial's checkpoints those files lie on the disk that its row names, while it runs and after each kind of end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import operations
from service.domain.records import Lease, Study
from service.domain.states import TrialState
from service.settings import Settings
from service.store import Store, queries
from service.worker.home import CheckpointFolder
from tests.worker.conftest import Shop
from trainer.protocol import Checkpoint

MakeStudy = Callable[..., Study]
OpenShop = Callable[..., Shop]
Until = Callable[..., None]

EACH_EPOCH = {"checkpoint_seconds": 0}


def folder(settings: Settings, study: Study) -> Path:
    return settings.home / "checkpoints" / study.id


def on_disk(settings: Settings, study: Study) -> set[str]:
    return {str(path) for path in (folder(settings, study) / "0").rglob("*") if path.is_file()}


def recorded(opened: Shop, study: Study) -> list[int]:
    """The steps of all checkpoints that the store has heard of; one that is overtaken within a moment is never told."""
    events = opened.store.read(queries.events_after, study.id, 0, 10_000)
    return [event.body["step"] for event in events if event.kind == "trial_saved"]


def named(opened: Shop, study: Study) -> dict[int, str]:
    return {one.step: one.path for one in opened.trial(study).checkpoints}


def test_while_a_trial_runs_the_newest_two_and_the_best_are_kept(
    make_study: MakeStudy, shop: OpenShop, settings: Settings, until: Until
) -> None:
    study = make_study("peak", fixed={"epochs": 10_000}, limits=EACH_EPOCH)
    opened = shop("--slow-epoch", "0.3")

    def settled() -> bool:
        steps = named(opened, study)
        known = recorded(opened, study)
        return len(known) > 4 and steps.keys() == {known[0], *known[-2:]} and on_disk(settings, study) == set(steps.values())

    until(settled)


@pytest.mark.parametrize(("behaviour", "places"), [("peak", [-1, 0]), ("train", [-1])], ids=["first best", "last best"])
def test_a_complete_trial_keeps_the_last_and_the_best(
    behaviour: str, places: list[int], make_study: MakeStudy, shop: OpenShop, settings: Settings, until: Until
) -> None:
    study = make_study(behaviour, fixed={"epochs": 6}, limits=EACH_EPOCH)
    opened = shop("--slow-epoch", "0.3")
    [trial] = opened.trials_at_end(study)
    known = recorded(opened, study)
    assert trial.state is TrialState.COMPLETE and known[-1] == 6
    assert [one.step for one in trial.checkpoints] == [known[place] for place in places]
    until(lambda: on_disk(settings, study) == set(named(opened, study).values()))


@pytest.mark.parametrize(
    ("behaviour", "state", "more"),
    [("starve", TrialState.FAILED, {}), ("peak", TrialState.PRUNED, {"pruner": {"name": "threshold", "lower": 0.22}})],
    ids=["failed", "pruned"],
)
def test_a_trial_that_ends_without_a_result_keeps_what_its_row_names(
    behaviour: str,
    state: TrialState,
    more: Any,
    make_study: MakeStudy,
    shop: OpenShop,
    settings: Settings,
    until: Until,
) -> None:
    study = make_study(behaviour, fixed={"epochs": 6}, limits=EACH_EPOCH, **more)
    opened = shop("--slow-epoch", "0.3")
    [trial] = opened.trials_at_end(study)
    known = recorded(opened, study)
    assert trial.state is state and {one.step for one in trial.checkpoints} == {known[0], known[-1]}
    until(lambda: on_disk(settings, study) == set(named(opened, study).values()))


def test_a_cancelled_trial_keeps_the_last_and_the_best(
    make_study: MakeStudy, shop: OpenShop, settings: Settings, store: Store, until: Until
) -> None:
    study = make_study("peak", fixed={"epochs": 10_000}, limits=EACH_EPOCH)
    opened = shop("--slow-epoch", "0.1")
    until(lambda: len(named(opened, study)) == 3)
    cancelled = operations.cancel_trial(store, study.id, 0)
    known = recorded(opened, study)
    assert [one.step for one in cancelled.checkpoints] == [known[-1], known[0]]
    until(lambda: on_disk(settings, study) == {one.path for one in cancelled.checkpoints})


def test_a_trial_that_was_handed_back_keeps_what_the_next_attempt_needs(
    make_study: MakeStudy, shop: OpenShop, settings: Settings, until: Until
) -> None:
    study = make_study("peak", fixed={"epochs": 25}, limits=EACH_EPOCH)
    opened = shop("--slow-epoch", "0.1")
    until(lambda: len(named(opened, study)) == 3)
    opened.close()
    assert len(named(opened, study)) == 3 and on_disk(settings, study) == set(named(opened, study).values())
    again = shop()
    [trial] = again.trials_at_end(study)
    assert trial.attempt == 2 and [one.step for one in trial.checkpoints] == [25, recorded(again, study)[0]]
    until(lambda: on_disk(settings, study) == set(named(again, study).values()))
    until(lambda: sorted(path.name for path in (folder(settings, study) / "0").iterdir()) == ["e1", "e2"])


def test_what_a_lost_attempt_left_behind_goes_with_the_next_one(tmp_path: Path) -> None:
    shelf, lease = CheckpointFolder(tmp_path, "d" * 32), Lease(study="5" * 16, trial=1, number=0, attempt=2, worker="w")
    first = tmp_path / lease.study / "0" / "e1"
    kept = put(first / "epoch-000002.pt", 2)
    for name in ("epoch-000003.pt", "epoch-000004.pt.77.tmp"):
        put(first / name, 3)
    own = put(tmp_path / lease.study / "0" / "e2" / "epoch-000003.pt", 3)
    shelf.clear(lease, [kept])
    assert files_in(tmp_path / lease.study / "0") == {kept.path, own.path}, "nothing of the attempt that is at work"
    shelf.clear(lease, [own], superseded=[kept.path, own.path])
    assert files_in(tmp_path / lease.study / "0") == {own.path} and not first.exists()


def test_no_file_outside_the_trials_folder_is_ever_removed(tmp_path: Path) -> None:
    shelf, lease = CheckpointFolder(tmp_path / "home", "d" * 32), Lease(study="5" * 16, trial=1, number=0, attempt=1, worker="w")
    stranger = put(tmp_path / "elsewhere.pt", 1)
    shelf.clear(lease, [], superseded=[stranger.path])
    assert Path(stranger.path).exists()


def test_a_sweep_leaves_what_rows_name_and_what_is_at_work(
    make_study: MakeStudy, shop: OpenShop, settings: Settings, store: Store, until: Until
) -> None:
    study = make_study("endless", "train", limits=EACH_EPOCH, fixed={"epochs": 3})
    opened = shop("--slow-epoch", "0.3", slots=2)
    until(lambda: opened.trial(study, 1).state.terminal and opened.trial(study).step > 2)
    half_written = put(folder(settings, study) / "0" / "e1" / "epoch-000009.pt.77.tmp", 9)
    orphan = put(folder(settings, study) / "1" / "e1" / "epoch-000009.pt.77.tmp", 9)
    deleted = make_study("train")
    put(folder(settings, deleted) / "0" / "e1" / "epoch-000001.pt", 1)
    (folder(settings, deleted) / "database").write_text((folder(settings, study) / "database").read_text())
    operations.delete_study(store, deleted.id)
    CheckpointFolder(settings.home / "checkpoints", store.read(queries.identity)).sweep(store)
    assert Path(half_written.path).exists() and not Path(orphan.path).exists() and not folder(settings, deleted).exists()
    assert {one.path for one in opened.trial(study, 1).checkpoints} == files_in(folder(settings, study) / "1")


def test_a_disk_that_takes_no_folder_costs_the_checkpoints_and_not_the_trial(
    make_study: MakeStudy, shop: OpenShop, settings: Settings
) -> None:
    settings.home.mkdir(exist_ok=True)
    (settings.home / "checkpoints").write_text("no folder can be made here")
    study = make_study("train", fixed={"epochs": 3})
    [trial] = shop().trials_at_end(study)
    assert trial.state is TrialState.COMPLETE and trial.checkpoints == ()


def put(path: Path, step: int) -> Checkpoint:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return Checkpoint(step=step, path=str(path), sha256="0" * 64, size=1)


def files_in(place: Path) -> set[str]:
    return {str(path) for path in place.rglob("*") if path.is_file()}
