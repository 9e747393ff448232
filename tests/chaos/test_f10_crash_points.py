"""F10: whoever writes dies at each single step of it, by `kill -9`; or the disk fails at each flush."""

import hashlib
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url

from service import operations
from service.cli.console import Failure
from service.cli.files import write_whole
from service.domain.records import Lease, MetricReport, Study
from service.domain.states import TrialState
from service.operations import Write
from service.store import Store, open_store, queries
from service.worker.home import Spool
from tests.chaos.crashing import FAILED, attempt, attempt_traced, can_trace
from tests.chaos.lab import LONG, planted
from tests.operations.driving import claim_one, ready, searches_of
from trainer import files
from trainer.protocol import Checkpoint, Finished

MOST_STEPS = 100
OLD, NEW = b"old " * 10_000, b"new " * 10_000
CHUNK = 10_000
CALLS = {"pwrite64": 1 if LONG else 5, "fdatasync": 1, "ftruncate": 1}  # of SQLite; each so-manieth of them
FLUSHES = {"fdatasync": 1}
LEASE = Lease(study="5" * 16, trial=1, number=0, attempt=2, worker="w")
FINISHED = Finished(
    step=3, metrics={"accuracy": 0.75, "loss": 0.1}, report={"per_class_recall": {"a": 1.0}, "confusion_matrix": [[1, 0], [0, 1]]},
    train_seconds=1.0, peak_memory=1,
)  # fmt: skip
REPORTS = (MetricReport(1, {"accuracy": 0.25}), MetricReport(2, {"accuracy": 0.5}))


def save_checkpoint(folder: Path) -> str:
    """As the trainer does; its SHA-256."""
    return files.write(folder / "file", lambda file: [file.write(NEW[place : place + CHUNK]) for place in range(0, len(NEW), CHUNK)])


def export(folder: Path) -> None:
    """As `thaw best -o` does."""
    try:
        write_whole(folder / "file", NEW.decode())
    except Failure as failure:
        raise OSError from failure


def spool(folder: Path) -> bool:
    """As a worker does whose store is away; whether it is on the disk."""
    if not Spool(folder / "spool", "d" * 32).keep(last_word(LEASE)):
        raise OSError
    return True


def last_word(lease: Lease) -> Write:
    return Write(lease, REPORTS, Checkpoint(step=3, path="/c/s3", sha256="0" * 64, size=1), outcome=FINISHED)


@pytest.mark.parametrize("how", ["kill", "EIO"])
@pytest.mark.parametrize("work", [save_checkpoint, export], ids=["checkpoint", "export"])
def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path, work: Callable[[Path], object], how: str) -> None:
    """I5, I22: never a torn one; acknowledged means that it is the new one, and a digest that is told is right."""
    file, outcomes = tmp_path / "file", Counter[str]()
    for step in steps():
        file.write_bytes(OLD)
        acknowledgement(tmp_path).unlink(missing_ok=True)
        code = attempt(work, tmp_path, step, how, planted())
        content = file.read_bytes()
        assert content in (OLD, NEW), f"I5: after {how} at step {step} the file is torn: {len(content)} bytes"
        if acknowledgement(tmp_path).exists():
            assert content == NEW, f"I1: acknowledged, and not there after {how} at step {step}"
            assert acknowledgement(tmp_path).read_text() in ("None", hashlib.sha256(NEW).hexdigest())
        outcomes["new" if content == NEW else "old"] += 1
        if code == 0:
            break
        assert code == (FAILED if how == "EIO" else -signal.SIGKILL)
    files.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "acknowledged"}, "what a crash leaves is swept"
    reported(f"{how} at steps of {work.__name__}", step - 1, outcomes)


@pytest.mark.parametrize("how", ["kill", "EIO"])
def test_a_spooled_result_is_whole_or_absent(tmp_path: Path, how: str) -> None:
    """I1, I5."""
    outcomes = Counter[str]()
    for step in steps():
        acknowledgement(tmp_path).unlink(missing_ok=True)
        Spool(tmp_path / "spool", "d" * 32).forget(LEASE)
        code = attempt(spool, tmp_path, step, how, planted())
        kept = [replace(write, reports=tuple(write.reports)) for write in Spool(tmp_path / "spool", "d" * 32).kept()]
        assert kept in ([], [last_word(LEASE)]), f"I5: a torn result after {how} at step {step}"
        assert kept or not acknowledgement(tmp_path).exists(), f"I1: acknowledged, and not there after {how} at step {step}"
        outcomes["new" if kept else "old"] += 1
        if code == 0:
            break
    assert not list((tmp_path / "spool").rglob("set-aside"))
    reported(f"{how} at steps of the spool", step - 1, outcomes)


def finish(folder: Path) -> None:
    """As a worker has the end of its trial recorded. Which one and where is in the folder."""
    url, study, trial, attempt_number, number = (folder / "finish").read_text().splitlines()
    lease = Lease(study=study, trial=int(trial), number=int(number), attempt=int(attempt_number), worker="w")
    with closing(open_store(url)) as store:
        assert operations.record(store, [last_word(lease)]) == []


def test_an_end_is_recorded_whole_or_not_at_all(store: Store, database_url: str, tmp_path: Path) -> None:
    """I1, I11, I24: the one who records dies at each statement, at the commit, and before it can acknowledge."""
    study, outcomes, lease = ready(store, budget={"trials": 20}), Counter[str](), None
    for step in steps():
        lease = lease or claimed(store, study, database_url, tmp_path)
        acknowledgement(tmp_path).unlink(missing_ok=True)
        code = attempt(finish, tmp_path, step, mutant=planted())
        done = judge(store, lease)
        assert done or not acknowledgement(tmp_path).exists(), f"I1: acknowledged, and not there after a kill at step {step}"
        outcomes["new" if done else "old"] += 1
        if code == 0:
            break
        if done:
            assert operations.record(store, [last_word(lease)]) == [], "the one whose answer was lost is told that it is late"
            lease = None
    reported("kill at steps of the record", step - 1, outcomes)


@pytest.mark.skipif(not can_trace(), reason="needs strace, and leave to trace; the scenario above is its form without")
@pytest.mark.parametrize("how", ["signal=SIGKILL", "error=EIO"])
def test_sqlite_dies_or_its_disk_fails_at_each_system_call(embedded_store: Store, migrated_sqlite: str, tmp_path: Path, how: str) -> None:
    """I1, I11: the same, inside SQLite's own commit."""
    study, outcomes, crashes, lease = ready(embedded_store, budget={"trials": 60}), Counter[str](), 0, None
    for call, stride in CALLS.items() if how.startswith("signal") else FLUSHES.items():
        for number in steps(stride):
            lease = lease or claimed(embedded_store, study, migrated_sqlite, tmp_path)
            acknowledgement(tmp_path).unlink(missing_ok=True)
            _, injected = attempt_traced(finish, tmp_path, f"{call}:{how}:when={number}", planted())
            done = judge(embedded_store, lease)
            assert done or not acknowledgement(tmp_path).exists(), f"I1: acknowledged, and not there after {call} {number}"
            outcomes["new" if done else "old"] += 1
            lease = None if done else lease
            if not injected:
                assert done
                break
            crashes += 1
    reported(f"{how} at system calls of the record", crashes, outcomes)


def claimed(store: Store, study: Study, url: str, folder: Path) -> Lease:
    """A trial that runs, noted for the child."""
    claim = claim_one(store, searches_of())
    lease = claim.lease
    (folder / "finish").write_text("\n".join((url, study.id, str(lease.trial), str(lease.attempt), str(lease.number))))
    return lease


def judge(store: Store, lease: Lease) -> bool:
    """Whether the end is there. If it is, all that belongs to it is, and if not, nothing."""
    trial = store.read(queries.find_trial, lease.study, lease.number)
    metrics = {(one.step, one.name): one.value for one in store.read(queries.metrics, lease.trial)}
    events = [one.kind for one in store.read(queries.events_after, lease.study, 0, 1_000) if one.body.get("number") == lease.number]
    study = store.read(queries.find_study, lease.study)
    assert study.seq == len(store.read(queries.events_after, lease.study, 0, 1_000)), "I24: a number of an event is missing"
    if store.embedded:
        with closing(sqlite3.connect(str(make_url(str(store.engine.url)).database))) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    if trial.state is TrialState.RUNNING:
        assert (metrics, trial.checkpoints, events) == ({}, (), ["trial_started"]), "half of it was recorded"
        return False
    assert (trial.state, trial.value, len(trial.checkpoints)) == (TrialState.COMPLETE, 0.75, 1)
    assert metrics.items() >= {(1, "accuracy"): 0.25, (2, "accuracy"): 0.5}.items()
    assert events == ["trial_started", "trial_reported", "trial_saved", "trial_completed"]
    return True


def steps(stride: int = 1) -> Iterator[int]:
    """1, 2, 3 …, until the work comes through; or fewer, from a random one on."""
    yield from range(random.randint(1, stride), MOST_STEPS, stride)
    pytest.fail("it never came through")


def acknowledgement(folder: Path) -> Path:
    return folder / "acknowledged"


def reported(what: str, crashes: int, outcomes: Counter[str]) -> None:
    """A scenario that injected nothing proves nothing."""
    assert crashes > 0 and outcomes["new"], f"{what}: {crashes} crashes, {dict(outcomes)}"
    print(f"F10: {crashes} times {what}: {dict(outcomes)}")
