"""F6: the disk goes below its floor, then runs full, and is freed, while trials finish."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service import operations
from service.domain.states import TrialState
from service.store import queries
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.disks import RealDisk, ToldDisk, mount, unmount
from tests.chaos.lab import LONG, Lab

CYCLES = 8 if LONG else 1
LEASE_SECONDS = 60.0  # nobody's lease runs out here
ENDLESS = 10_000  # trials
STEP_SECONDS = "0.05"
STUDY = {
    "data": {"path": "/data", "location": "workers"}, "model": {"name": "squeezenet1_1"}, "budget": {"trials": 1},
    "search_space": {"lr": {"type": "categorical", "choices": [place / 1_000 for place in range(1, 1_001)]}},
    "objective": {"metric": "accuracy", "direction": "maximize"},
}  # fmt: skip
TRIALS = [{"lr": place / 200} for place in range(1, 101)]  # as the study, more than fits into what is free in the database file


def test_a_full_disk_loses_nothing_and_heals_by_itself(make_lab: MakeLab) -> None:
    """I1, I4, I5: the database may not grow, files are cut short; what ended meanwhile is in when there is room again."""
    lab = make_lab(lease_seconds=LEASE_SECONDS, heartbeat_seconds=0.5)
    Scene(lab, ToldDisk(lab.home, lab.store)).play()


@pytest.mark.skipif(not LONG, reason="a real file system is filled in the long form; the short one tells processes of a full disk")
def test_a_real_disk_that_is_filled_loses_nothing(tmp_path: Path, migrated_sqlite: str) -> None:
    """I1, I4, I5 on a file system in memory with the database, the spool and the checkpoints on it."""
    mounted = tmp_path / "mounted"
    if (why := mount(mounted, megabytes=16)) is not None:
        pytest.skip(f"needs leave to mount a file system ({why}); the disk that processes are told of stands in for it")
    try:
        shutil.copy(migrated_sqlite.removeprefix("sqlite:///"), mounted / "thawline.db")
        lab = Lab(tmp_path / "lab", f"sqlite:///{mounted / 'thawline.db'}", lease_seconds=LEASE_SECONDS, heartbeat_seconds=0.5)
        with closing(lab):
            Scene(lab, RealDisk(mounted), mounted / "home").play()
    finally:
        unmount(mounted)


class Scene:
    """A server and two workers on the disk, and a study without end."""

    def __init__(self, lab: Lab, disk: ToldDisk | RealDisk, home: Path | None = None) -> None:
        self.lab, self.disk, self.home = lab, disk, home or lab.home
        self.study = lab.study(trials=ENDLESS, epochs=8)
        self.server = lab.serve(**disk.variables)
        self.known = self.waited = 0  # what was noted, and what waited in memory, before the disk was filled
        self.workers = [lab.work("--step", STEP_SECONDS, **disk.variables) for _ in range(2)]

    def play(self) -> None:
        """Low, full and free again, some times; then the account is checked."""
        for _ in range(CYCLES):
            self.work_on(2)
            self.disk.leave_little()
            self.go_below_the_floor()
            refused = self.fill()
            self.stand_full()
            self.disk.free()
            self.work_on(3)
            self.find_again(refused)
        answer = self.post(f"/{self.study.id}/trials", params={"lr": 0.25})
        assert answer.status_code == 201, answer.text
        self.leave()

    def work_on(self, more: int) -> None:
        """Wait until so many more trials are complete."""
        before = self.complete()
        self.until(lambda: self.complete() >= before + more, f"{more} more trials are complete")

    def go_below_the_floor(self) -> None:
        """Results land; checkpoints are skipped; what would make the database grow at a user's word is refused."""
        begun_before = {trial.number for trial in self.lab.trials(self.study) if trial.state is TrialState.RUNNING}
        self.until(lambda: not begun_before & self.running(), "trials that began before the disk was low are over")
        since = self.lab.now(self.study).seq
        self.work_on(2)
        events = self.lab.store.read(queries.events_after, self.study.id, since, 100_000)
        assert "trial_saved" not in {event.kind for event in events}, "a checkpoint was written below the floor"
        if self.lab.store.embedded:
            self.see_507()
        self.see_reads()
        self.lab.counts["below the floor"] += 1

    def fill(self) -> set[int]:
        """Full to the last byte while each worker has a trial: it cannot end. The numbers of those trials."""
        while True:
            self.until(lambda: len(self.running()) == len(self.workers), "each worker has a trial")
            self.known, self.waited = len(self.lab.reported("no room")), self.in_memory() + self.waited
            self.disk.fill()
            self.until(lambda: len(self.stuck()) == len(self.workers), "each worker finds no room")
            ends = {number for number in self.stuck().values() if number is not None}
            if len(ends) == len(self.workers):
                break
            self.disk.free()  # the one or other had no trial just then
        self.lab.counts["full"] += 1
        self.lab.counts["ends without room"] += len(ends)
        return ends

    def stuck(self) -> dict[int, int | None]:
        """By worker, the number of the trial whose end finds no room now; None when it is a claim."""
        refused = self.lab.reported("no room")[self.known :]
        return {line["pid"]: line["number"] for line in refused if line["outcome"] in ("finished", "claim")}

    def stand_full(self) -> None:
        """What cannot be stored waits in memory, or in the spool where that found room; writes are answered by 507, reads by 200."""
        self.until(lambda: self.in_memory() + len(self.spooled()) >= len(self.workers), "the results wait")
        self.lab.measured["spooled"] = self.lab.measured.get("spooled", 0) + len(self.spooled())
        self.see_507()
        self.see_reads()

    def in_memory(self) -> int:
        """How many results could not be spooled since the disk was filled."""
        return sum(worker.said().count("kept in memory only") for worker in self.workers) - self.waited

    def spooled(self) -> list[Path]:
        return list((self.home / "spool").rglob("*.json"))

    def find_again(self, refused: set[int]) -> None:
        """What ended on the full disk is in, from the attempt that it was."""
        self.until(lambda: not refused & self.running(), "what ended on the full disk is in")
        for trial in (trial for trial in self.lab.trials(self.study) if trial.number in refused):
            assert (trial.state, trial.attempt) == (TrialState.COMPLETE, 1), f"trial {trial.number} ended on the full disk: {trial}"

    def leave(self) -> None:
        """Nobody was started anew, nobody leaves anything behind, and the account is right."""
        operations.stop_study(self.lab.store, self.study.id)
        assert all(process.runs for process in (self.server, *self.workers)), self.lab.last_words()
        assert [worker.end() for worker in self.workers] == [0, 0], self.lab.last_words()
        check(self.lab, self.study, interval=8)
        assert not [*self.home.rglob("*.tmp"), *self.spooled()]
        if (file := self.lab.store.file) is not None:
            with closing(sqlite3.connect(file)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        self.lab.counts["checkpoints skipped"] = sum(self.log_of(trial.id).count("is skipped") for trial in self.lab.trials(self.study))
        self.lab.tell("F6")

    def see_507(self) -> None:
        """A study and a trial are refused, with a problem that says why and when to try again."""
        for answer in (self.post(), self.post(f"/{self.study.id}/trials", trials=TRIALS)):
            assert answer.status_code == 507 and answer.headers["content-type"] == "application/problem+json", answer.text
            assert answer.json()["type"].endswith(":disk-full") and int(answer.headers["retry-after"]) > 0
            self.lab.counts["answers 507"] += 1

    def see_reads(self) -> None:
        """Who asks is answered."""
        for path in ("", f"/{self.study.id}", f"/{self.study.id}/trials"):
            assert self.ask("GET", f"/api/v1/studies{path}").status_code == 200
        assert "thawline_disk_free_bytes " in self.ask("GET", "/metrics").text

    def post(self, path: str = "", **body: Any) -> httpx2.Response:
        """Ask for a study, or for what the path names."""
        document = body or {"name": f"more-{self.lab.random.randrange(2**40)}", **STUDY}
        return self.ask("POST", f"/api/v1/studies{path}", json=document)

    def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        return httpx2.request(method, self.server.address + path, timeout=60, trust_env=False, **more)

    def complete(self) -> int:
        return sum(trial.state is TrialState.COMPLETE for trial in self.lab.trials(self.study))

    def running(self) -> set[int]:
        return {trial.number for trial in self.lab.trials(self.study) if trial.state is TrialState.RUNNING}

    def log_of(self, trial: int) -> str:
        return "".join(chunk.text for chunk in self.lab.store.read(queries.log_chunks, trial, of_attempt=1))

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait, and see that meanwhile no torn checkpoint can be seen, and nothing comes unexpected to a worker."""

        def looking() -> bool:
            self.see_whole_files()
            assert not any("unexpected" in worker.said() for worker in self.workers), self.lab.last_words()
            return holds()

        self.lab.until(looking, what, seconds=120)

    def see_whole_files(self) -> None:
        """I5."""
        for path in (Path(folder) / name for folder, _, names in os.walk(self.home / "checkpoints") for name in names):
            if path.suffix != ".json":
                continue
            try:
                content = path.read_text()
            except FileNotFoundError:
                continue
            try:
                json.loads(content)
            except ValueError:
                raise AssertionError(f"I5: {path} is torn: {content!r}") from None
