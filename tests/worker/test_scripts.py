"""A worker runs scripts only in the folders that its operator allows."""

from pathlib import Path

import pytest

from service.settings import Settings
from service.store import Store, queries
from service.worker.devices import Slot
from service.worker.home import CheckpointFolder, Spool
from service.worker.scripts import AllowedScripts
from service.worker.store_client import StoreClient
from tests.operations import driving
from tests.operations.test_scripts import claimed, finish, ready
from tests.operations.test_unavailable import register


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


def test_folders_are_compared_with_their_links_resolved(tmp_path: Path, code: Path) -> None:
    (tmp_path / "link").symlink_to(code)
    (code / "out").symlink_to("/usr")
    allowed = AllowedScripts.below([tmp_path / "link"])
    assert allowed.folders == (code.resolve(),)
    assert allowed.refusal(str(code)) is None and allowed.refusal(str(code / "sub")) is None
    for outside in (tmp_path, code / ".." / "other", code / "out", Path("/")):
        refusal = allowed.refusal(str(outside))
        assert refusal is not None and f"{outside} lies outside the folders" in refusal


def test_without_the_option_nothing_is_allowed(code: Path) -> None:
    refusal = AllowedScripts(()).refusal(str(code))
    assert refusal == f"the worker allows no scripts; start it with `thaw worker --allow-scripts {code}`"
    assert AllowedScripts(()).command(Slot(0, None, 1), Settings()) == ()


def test_a_folder_that_does_not_exist_cannot_be_allowed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AllowedScripts.below([tmp_path / "missing"])


def test_the_variable_has_several_folders(tmp_path: Path) -> None:
    settings = Settings.from_environment({"THAW_ALLOW_SCRIPTS": f"{tmp_path}/a:{tmp_path}/b"})
    assert settings.allow_scripts == (tmp_path / "a", tmp_path / "b")


def client(store: Store, tmp_path: Path, *folders: Path) -> StoreClient:
    register(store, "w")
    return StoreClient(store, "w", Spool(tmp_path / "spool", "db"), scripts=AllowedScripts.below(folders))


def test_a_worker_without_permission_neither_checks_nor_claims_and_says_why(store: Store, tmp_path: Path, code: Path) -> None:
    study = ready(store, workdir=str(code))
    refused = client(store, tmp_path)
    assert refused.look() == (False, None) and refused.claim() == [] and not refused.has_training()
    assert not refused.unavailable.update()
    (found,) = store.read(queries.unavailabilities)
    assert (found.study, found.what) == (study.id, "script") and "the worker allows no scripts" in found.detail
    refused.unavailable.update()  # it looks again later, and the refusal lasts
    assert refused.unavailable.ids() == {study.id}


def test_a_worker_with_permission_claims_scripts_also_while_it_cannot_train(store: Store, tmp_path: Path, code: Path) -> None:
    ready(store, workdir=str(code))
    allowing = client(store, tmp_path, code)
    assert [claim.lease.number for claim in allowing.claim(trains=False)] == [0]


def test_a_worker_that_cannot_train_claims_no_other_studies(store: Store, tmp_path: Path, code: Path) -> None:
    driving.ready(store)
    allowing = client(store, tmp_path, code)
    assert allowing.claim(trains=False) == [] and allowing.has_training() and len(allowing.claim()) == 1


def test_checkpoints_of_a_script_are_removed_when_its_trial_has_ended(store: Store, tmp_path: Path) -> None:
    study = ready(store)
    folder = CheckpointFolder(tmp_path / "checkpoints", "db")
    claim = claimed(store)
    attempt = folder.folder(claim.lease)
    assert attempt is not None
    kept = attempt.parent / "checkpoint" / "e1"
    for place in (attempt / "logs", kept):
        place.mkdir(parents=True)
        (place / "file").write_text("x")
    folder.tidy(store, study.id, 0)
    assert (kept / "file").exists() and (attempt / "logs").exists()  # while it runs
    finish(store, claim, 0.5)
    folder.tidy(store, study.id, 0)
    assert not attempt.parent.exists()
