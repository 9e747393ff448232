"""Databases that share a THAW_HOME: nobody delivers, drops or removes what belongs to another one."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

from service import operations
from service.domain.records import Study
from service.domain.states import TrialState
from service.operations import Write
from service.settings import Settings
from service.store import Store, open_store, queries
from service.store.migrate import upgrade
from service.store.schema import study as study_table
from service.worker.home import WRITES, CheckpointFolder, Spool
from service.worker.store_client import StoreClient
from tests.operations.driving import checkpoint, claim_one, finished, ready, searches_of
from tests.worker.conftest import Shop
from trainer.protocol import Finished

OpenShop = Callable[..., Shop]
Until = Callable[..., None]


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(home=tmp_path / "home", database_url=database_url, heartbeat_seconds=0.2, lease_seconds=2.0)


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Store]:
    """Another database, with the same home."""
    url = f"sqlite:///{tmp_path / 'foreign.db'}"
    upgrade(url)
    with closing(open_store(url)) as opened:
        yield opened


def running(store: Store) -> Write:
    """The end of a trial that runs, which the store has not heard of."""
    ready(store)
    claim = claim_one(store, searches_of())
    return Write(claim.lease, outcome=finished(0.75))


def spool_of(store: Store, settings: Settings) -> Spool:
    return Spool(settings.home / "spool", store.read(queries.identity))


def deliver(store: Store, settings: Settings, **options: Any) -> None:
    StoreClient(store, "w", spool_of(store, settings)).deliver_spooled(**options)


def unmarked(write: Write, settings: Settings) -> Path:
    """The write as version 0.1 spooled it."""
    path = settings.home / "spool" / f"{write.lease.study}-{write.lease.number}-e{write.lease.attempt}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(WRITES.dump_python(write, mode="python")))
    return path


def state(store: Store, write: Write) -> TrialState:
    return store.read(queries.find_trial, write.lease.study, write.lease.number).state


def files(settings: Settings) -> list[str]:
    return sorted(str(path.relative_to(settings.home)) for path in settings.home.rglob("*.json"))


def test_a_worker_leaves_the_results_of_another_database_alone(store: Store, foreign: Store, settings: Settings) -> None:
    write = running(store)
    spool_of(store, settings).keep(write)
    deliver(foreign, settings, again=True)
    assert state(store, write) is TrialState.RUNNING and len(files(settings)) == 1
    deliver(store, settings)
    assert state(store, write) is TrialState.COMPLETE and files(settings) == []


def test_a_result_that_version_0_1_spooled_waits_for_its_database(store: Store, foreign: Store, settings: Settings) -> None:
    write = running(store)
    path = unmarked(write, settings)
    deliver(foreign, settings, again=True)
    assert path.exists(), "the result of another database was removed"
    deliver(store, settings)
    assert state(store, write) is TrialState.COMPLETE and not path.exists()


def test_a_stale_result_of_version_0_1_goes(store: Store, settings: Settings) -> None:
    write = running(store)
    path = unmarked(write, settings)
    operations.cancel_trial(store, write.lease.study, write.lease.number)
    deliver(store, settings)
    assert state(store, write) is TrialState.CANCELLED and not path.exists()


def test_a_damaged_file_of_version_0_1_stays(store: Store, settings: Settings) -> None:
    (settings.home / "spool").mkdir(parents=True)
    damaged = settings.home / "spool" / "a.json"
    damaged.write_text('{"lease"')
    deliver(store, settings, again=True)
    assert damaged.exists()


def test_the_result_of_a_deleted_study_is_set_aside_and_counted(
    store: Store, settings: Settings, caplog: pytest.LogCaptureFixture, shop: OpenShop, until: Until
) -> None:
    write = running(store)
    spool_of(store, settings).keep(write)
    operations.delete_study(store, write.lease.study)
    shop()
    until(lambda: [worker.set_aside for worker in store.read(queries.workers)] == [1])
    [name] = files(settings)
    assert "/set-aside/" in name and write.lease.study in name
    assert name in caplog.text and "the study is not in this database" in caplog.text


def test_the_result_of_a_study_that_cannot_be_read_is_kept_until_it_can(store: Store, settings: Settings) -> None:
    write = running(store)
    spool_of(store, settings).keep(write)
    with store.reading() as tx:
        spec = tx.scalar(text("SELECT spec FROM study"))
    rewrite(store, json.dumps({**json.loads(spec), "of_a_later_version": 1}))
    deliver(store, settings)
    assert "/set-aside/" in files(settings)[0]
    rewrite(store, spec)
    deliver(store, settings)
    assert state(store, write) is TrialState.RUNNING, "what was set aside is tried again at a worker's start only"
    deliver(store, settings, again=True)
    assert state(store, write) is TrialState.COMPLETE and files(settings) == []


def test_a_result_of_an_attempt_that_the_database_does_not_know_is_set_aside(store: Store, settings: Settings) -> None:
    """As after an older copy of the database was restored."""
    write = running(store)
    later = replace(write, lease=replace(write.lease, attempt=3))
    spool_of(store, settings).keep(later)
    deliver(store, settings)
    assert "/set-aside/" in files(settings)[0] and state(store, write) is TrialState.RUNNING


def test_an_end_whose_study_is_deleted_meanwhile_is_set_aside(store: Store, settings: Settings) -> None:
    write = running(store)
    operations.delete_study(store, write.lease.study)
    assert StoreClient(store, "w", spool_of(store, settings)).record([write]) == [write.lease]
    [name] = files(settings)
    kept = WRITES.validate_json((settings.home / name).read_bytes())
    assert "/set-aside/" in name and isinstance(kept.outcome, Finished)


def test_the_spools_folder_is_flushed_after_the_rename(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[str]()
    rename, fsync = Path.replace, os.fsync

    def renaming(path: Path, place: Path) -> Path:
        done.append("rename")
        return rename(path, place)

    def flushing(number: int) -> None:
        done.append("folder" if Path(f"/proc/self/fd/{number}").resolve().is_dir() else "file")
        fsync(number)

    monkeypatch.setattr(Path, "replace", renaming)
    monkeypatch.setattr(os, "fsync", flushing)
    spool_of(store, settings).keep(running(store))
    assert done == ["file", "rename", "folder"]


def folder_of(study: Study, settings: Settings, mark: str) -> Path:
    """Checkpoints of the study, marked so."""
    folder = settings.home / "checkpoints" / study.id
    (folder / "0" / "e1").mkdir(parents=True)
    (folder / "database").write_text(mark)
    (folder / "0" / "e1" / "epoch-000001.pt").write_bytes(b"x")
    return folder


def sweep(store: Store, settings: Settings) -> None:
    CheckpointFolder(settings.home / "checkpoints", store.read(queries.identity)).sweep(store)


def test_checkpoints_of_another_database_stay_whatever_marks_them(store: Store, foreign: Store, settings: Settings) -> None:
    """Both databases were named by the same text, `sqlite:///thawline.db`, in two working directories."""
    by_text = hashlib.sha256(b"sqlite:///thawline.db").hexdigest()[:16]
    old, new, damaged = (
        folder_of(ready(store, name=name), settings, mark)
        for name, mark in (("old", by_text), ("new", store.read(queries.identity)), ("damaged", ""))
    )
    sweep(foreign, settings)
    assert all((folder / "0" / "e1" / "epoch-000001.pt").exists() for folder in (old, new, damaged))


def test_checkpoints_that_version_0_1_marked_are_taken_over_by_the_database_that_knows_the_study(store: Store, settings: Settings) -> None:
    study = ready(store)
    claim = claim_one(store, searches_of())
    folder = folder_of(study, settings, "0123456789abcdef")
    kept = checkpoint(1).model_copy(update={"path": str(folder / "0" / "e1" / "epoch-000001.pt")})
    orphan = folder / "0" / "e0" / "epoch-000009.pt"
    orphan.parent.mkdir()
    orphan.write_bytes(b"x")
    operations.record(store, [Write(claim.lease, checkpoint=kept)])
    sweep(store, settings)
    assert Path(kept.path).exists() and not orphan.exists()
    assert (folder / "database").read_text() == store.read(queries.identity)
    operations.delete_study(store, claim.lease.study)
    sweep(store, settings)
    assert not folder.exists()


def test_every_database_has_an_identity_of_its_own_that_stays(empty_url: str, foreign: Store) -> None:
    upgrade(empty_url)
    with closing(open_store(empty_url)) as opened:
        own = opened.read(queries.identity)
        upgrade(empty_url)
        assert own == opened.read(queries.identity) != foreign.read(queries.identity)
        assert len(own) == 32 and int(own, 16) >= 0


def rewrite(store: Store, spec: str | None) -> None:
    with store.writing() as tx:
        tx.execute(update(study_table).values(spec=spec))


def test_a_relative_sqlite_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(database_url="sqlite:///thawline.db").database_url == f"sqlite:///{tmp_path}/thawline.db"
    assert Settings(database_url="sqlite+pysqlite:///a/b.db?x=1").database_url == f"sqlite+pysqlite:///{tmp_path}/a/b.db?x=1"
    for unchanged in (f"sqlite:///{tmp_path}/thawline.db", "sqlite:///:memory:", "postgresql://localhost/x"):
        assert Settings(database_url=unchanged).database_url == unchanged
