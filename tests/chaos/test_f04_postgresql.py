"""F4: the database is killed, stopped, crowded out, locked or made read-only while servers, workers and clients are at work."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from service import operations
from service.domain.records import Study, Trial
from service.domain.states import TrialState
from service.store.migrate import upgrade
from tests.chaos.checker import check
from tests.chaos.cluster import Cluster
from tests.chaos.faults import barred
from tests.chaos.lab import LONG, Lab
from tests.chaos.visitors import OUTAGE, READ, READYZ, WRITE, Visitors

CRASHES = 5 if LONG else 2
STOPPED_SECONDS = 60 if LONG else 5
TERMINATIONS = 300 if LONG else 20
LEASE_SECONDS = STOPPED_SECONDS + 120.0  # the trust window is longer than the outage, which lasts until two processes have started
AT_WORK, AFTERWARDS = 3, 4  # trials to be complete before the fault, and after it
SEEN = 3  # answers of a kind that show it
NAMES = count()


class Scene:
    """A server, two workers with two slots each, a study without end, and visitors."""

    def __init__(self, lab: Lab, study: Study, visitors: Visitors) -> None:
        self.lab, self.study, self.visitors = lab, study, visitors

    def running(self) -> list[Trial]:
        """The trials that workers have now."""
        return [trial for trial in self.lab.trials(self.study) if trial.state is TrialState.RUNNING]

    def see(self, status: int, *kinds: str, since: float) -> None:
        """Wait until visitors have been answered so on each of these, some times."""
        seen = self.visitors.count
        self.lab.until(lambda: all(seen(kind, status, since) >= SEEN for kind in kinds), f"{status} on {kinds}", seconds=120)
        for kind in kinds:
            self.lab.measured[f"{kind} {status}"] = seen(kind, status, since)

    def late_starters(self) -> None:
        """A worker and a server that start while the database is away."""
        self.lab.work()
        self.lab.start("serve")
        self.lab.until(lambda: all("does not answer" in one.said() for one in self.lab.processes[-2:]), "both wait for the database")
        self.lab.counts["started without a database"] += 2


def crashed(scene: Scene, cluster: Cluster) -> None:
    """No session is told; what was not committed is gone."""
    for _ in range(CRASHES):
        cluster.crash()
        scene.lab.counts["crashes"] += 1
        cluster.start()
        began = time.monotonic()
        scene.see(200, READ, READYZ, since=began)


def stopped(scene: Scene, cluster: Cluster) -> None:
    """An administrator's stop. Who trains goes on with it: the lease is trusted for longer."""
    scene.lab.until(lambda: bool(scene.running()), "a trial is under way")
    held = {trial.number for trial in scene.running()}
    assert held
    cluster.stop()
    scene.lab.counts["stops"] += 1
    began = time.monotonic()
    scene.late_starters()
    scene.see(OUTAGE, READ, WRITE, READYZ, since=began)
    time.sleep(max(0.0, began + STOPPED_SECONDS - time.monotonic()))
    cluster.start()
    scene.lab.until(lambda: not any(trial.number in held for trial in scene.running()), "what ran then has ended")
    kept = [trial for trial in scene.lab.trials(scene.study) if trial.number in held and trial.attempt == 1]
    assert kept, "I3: every trial that ran when the database was stopped was taken from its worker"
    scene.lab.counts["trials trained through the stop"] += len(kept)


def terminated(scene: Scene, cluster: Cluster) -> None:
    """Sessions end at random, under transactions and between them."""
    lab = scene.lab
    name = str(make_url(lab.database_url).database)
    while lab.counts["sessions terminated"] < TERMINATIONS:
        sessions = cluster.sessions(name)
        lab.counts["sessions terminated"] += cluster.terminate(lab.random.sample(sessions, k=min(3, len(sessions))))
        time.sleep(0.1)


def crowded(scene: Scene, cluster: Cluster) -> None:
    """Someone else has every connection that the server gives."""
    ours = str(make_url(scene.lab.database_url).database)
    began = time.monotonic()
    with ExitStack() as taken:
        while scene.visitors.count(READ, OUTAGE, began) < SEEN or cluster.sessions(ours):
            cluster.terminate(cluster.sessions(ours))
            with suppress(psycopg.OperationalError):
                while True:
                    taken.enter_context(closing(psycopg.connect(cluster.url("postgres", "thaw"))))
                    scene.lab.counts["connections taken"] += 1
        scene.see(OUTAGE, READ, WRITE, READYZ, since=began)


def read_only(scene: Scene, cluster: Cluster) -> None:
    """As a replica is, or a server whose disk is nearly full."""
    cluster.set("default_transaction_read_only", "on")
    began = time.monotonic()
    scene.see(OUTAGE, WRITE, READYZ, since=began)
    scene.see(200, READ, since=began)
    cluster.set("default_transaction_read_only", "off")
    scene.lab.counts["made read-only"] += 1


def locked_file(scene: Scene, file: Path) -> None:
    """Another process has the file for longer than anyone waits."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        scene.lab.counts["locked"] += 1
        began = time.monotonic()
        scene.see(OUTAGE, READ, WRITE, READYZ, since=began)
        scene.late_starters()
        other.execute("ROLLBACK")


def read_only_file(scene: Scene, file: Path) -> None:
    """The file can be read, not written."""
    flag = file.with_name("read-only")
    flag.touch()
    began = time.monotonic()
    scene.see(OUTAGE, WRITE, READYZ, since=began)
    scene.see(200, READ, since=began)
    flag.unlink()
    scene.lab.counts["made read-only"] += 1


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with closing(Cluster()) as started:
        yield started


@pytest.mark.parametrize("fault", [crashed, stopped, terminated, crowded, read_only])
def test_postgresql_fails_and_nothing_is_lost(cluster: Cluster, tmp_path: Path, fault: Callable[[Scene, Cluster], None]) -> None:
    """I1, I2, I3, I24: no worker and no server ends; answers say 503 and when to come back; all of it heals by itself."""
    lived_through(cluster.database(f"thaw_{next(NAMES)}"), tmp_path, lambda scene: fault(scene, cluster), fault.__name__)


@pytest.mark.parametrize("fault", [locked_file, read_only_file])
def test_a_sqlite_file_is_barred_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Scene, Path], None]
) -> None:
    """I1, I2, I3, I24: the same for SQLite's outages."""
    file = tmp_path / "thawline.db"
    monkeypatch.setenv("THAW_CHAOS_FAULTS", barred.__name__)
    monkeypatch.setenv(barred.FLAG, str(tmp_path / "read-only"))
    lived_through(f"sqlite:///{file}", tmp_path, lambda scene: fault(scene, file), fault.__name__)


def lived_through(url: str, folder: Path, fault: Callable[[Scene], None], name: str) -> None:
    """The fault comes while all are at work, and goes."""
    upgrade(url)
    with closing(Lab(folder / "lab", url, lease_seconds=LEASE_SECONDS)) as lab:
        study = lab.study(trials=10_000)
        server = lab.serve()
        for _ in range(2):
            lab.work(THAW_CHAOS_SLOTS="2")

        def complete() -> int:
            return sum(trial.state is TrialState.COMPLETE for trial in lab.trials(study))

        lab.until(lambda: complete() >= AT_WORK, "trials are trained")
        with Visitors(server.address, study.name) as visitors:
            fault(Scene(lab, study, visitors))
            healed_at = time.monotonic()
            lab.until(
                lambda: visitors.count(READYZ, 200, healed_at) > 0 < visitors.count(WRITE, 201, healed_at), "the server is ready again"
            )
            lab.measured["seconds until ready"] = round(time.monotonic() - healed_at, 3)
            before = complete()
            lab.until(lambda: complete() >= before + AFTERWARDS, "trials are trained again", seconds=120)
        assert all(one.runs for one in lab.processes), lab.last_words()
        operations.stop_study(lab.store, study.id)
        visitors.check()
        assert lab.queued_rates(study) == visitors.acknowledged, (
            "I1, I27: of trials that were queued through the outage, each is there once"
        )
        check(lab, study)
        lab.tell(f"F4 {name}")
