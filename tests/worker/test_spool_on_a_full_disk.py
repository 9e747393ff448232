"""What can be neither stored nor spooled waits in the worker's memory."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.domain.records import Lease, Study
from service.domain.states import TrialState
from service.operations import Released, Write
from service.settings import Settings
from service.store import Store, queries
from service.worker.home import Spool
from tests.worker.fragile import Fragile

LEASE = Lease(study="5" * 16, trial=1, number=0, attempt=2, worker="w")
WRITE = Write(LEASE, outcome=Released())


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The disk takes nothing until this is called."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    return monkeypatch.undo


def test_a_full_disk_is_told_once_and_leaves_nothing_half_written(
    tmp_path: Path, full: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path / "spool", "d" * 32)
    assert not spool.keep(WRITE) and not spool.keep(WRITE)
    assert list((tmp_path / "spool" / ("d" * 32)).iterdir()) == [] and caplog.text.count("kept in memory") == 1
    full()
    assert spool.keep(WRITE) and [write.lease for write in spool.kept()] == [LEASE]


def test_a_folder_that_cannot_be_made_is_no_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "spool", "d" * 32)
    assert not spool.keep(WRITE) and list(spool.kept()) == []
    spool.forget(LEASE)


def test_a_result_that_meets_an_outage_and_a_full_disk_lands_afterwards(
    make_study: Callable[..., Study],
    shop: Callable[..., Any],
    fragile: Fragile,
    store: Store,
    settings: Settings,
    until: Callable[[Callable[[], bool]], None],
    full: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = make_study("train", fixed={"epochs": 6})
    shop("--slow-epoch", "0.1", on=fragile)
    until(lambda: store.read(queries.find_trial, study.id, 0).step >= 1)
    fragile.down = True
    until(lambda: "kept in memory" in caplog.text)
    fragile.down = False
    until(lambda: store.read(queries.find_trial, study.id, 0).state.terminal)
    trial = store.read(queries.find_trial, study.id, 0)
    assert (trial.state, trial.attempt, trial.step) == (TrialState.COMPLETE, 1, 6)
    assert not [path for path in (settings.home / "spool").rglob("*") if path.is_file()]
