"""F8: the clocks of server and workers are an hour wrong, run at another rate, stand in 1970, or are set while they work."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest

from service.domain.records import Study
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.lab import LONG, Lab, Process

HOUR = 3_600.0
LEASE_SECONDS, HEARTBEAT_SECONDS = 8.0, 0.5
LEASES, EPOCHS = (8, 800) if LONG else (1.5, 160)  # the trials last longer than so many leases
CLOCKS: Mapping[str, tuple[float, float]] = {  # seconds ahead, seconds a second
    "an hour ahead": (HOUR, 1.0),
    "an hour behind": (-HOUR, 1.0),
    "in 1970": (-time.time(), 1.0),
    "twice as fast": (0.0, 2.0),
    "half as fast": (0.0, 0.5),
}
TOKEN = "a-token-that-no-clock-changes"


class Clock:
    """A wrong clock for some processes, that can be set."""

    def __init__(self, lab: Lab, name: str, offset: float, rate: float) -> None:
        self._file = lab.home / f"clock {name}.json"
        self.set(offset, rate)
        self.environment = {"THAW_CHAOS_CLOCK": str(self._file), "THAW_CHAOS_FAULTS": "tests.chaos.faults.clock"}

    def set(self, offset: float, rate: float = 1.0) -> None:
        """Let it jump."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"offset": offset, "rate": rate}))
        new.replace(self._file)


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(lease_seconds=LEASE_SECONDS, heartbeat_seconds=HEARTBEAT_SECONDS)


def test_wrong_clocks_expire_no_lease_and_keep_no_dead_one(lab: Lab) -> None:
    """I13: workers under five wrong clocks, and one that is set to and fro, train for several leases beside each other; then one dies."""
    study = lab.study(trials=len(CLOCKS) + 1, epochs=EPOCHS)
    jumping = Clock(lab, "jumping", 0, 1)
    server = lab.serve(**Clock(lab, "of the server", HOUR, 1).environment)
    workers = {name: work(lab, Clock(lab, name, *wrong)) for name, wrong in CLOCKS.items()} | {"jumping": work(lab, jumping)}
    lab.until(lambda: len(running(lab, study)) == len(workers), "all train")
    begun, attempts = time.monotonic(), attempts_of(lab, study)
    while time.monotonic() - begun < LEASES * LEASE_SECONDS:
        jumping.set(lab.random.choice((-time.time(), -HOUR, 0, HOUR)))
        lab.counts["jumps"] += 1
        time.sleep(0.3)
    assert attempts_of(lab, study) == attempts, "I13: a live lease expired"
    victim = workers[lab.random.choice(list(CLOCKS))]
    number = running(lab, study)[victim.pid]
    victim.kill()
    killed = time.monotonic()
    lab.counts["workers killed"] += 1
    lab.until(lambda: str(victim.pid) not in str(lab.trials(study)[number].worker), "the dead worker's trial is free")
    lab.measured["dead lease found after, s"] = round(time.monotonic() - killed, 2)
    lab.measured["bound, s"] = LEASE_SECONDS + HEARTBEAT_SECONDS
    lab.until(lambda: lab.now(study).state.terminal, "the study ends")
    assert attempts_of(lab, study) == attempts | {number: attempts[number] + 1}, "I13: a live lease expired"
    assert lab.measured["dead lease found after, s"] < 2 * LEASE_SECONDS, "I13: a dead lease was kept"
    assert all(one.runs for one in (server, *(worker for worker in workers.values() if worker is not victim)))
    lab.counts["wrong clocks"] = len(CLOCKS) + 2
    nobody_asked_the_database(lab)
    check(lab, study)
    lab.tell("F8: leases")


def work(lab: Lab, clock: Clock) -> Process:
    return lab.work("--step", "0.1", **clock.environment)


def attempts_of(lab: Lab, study: Study) -> dict[int, int]:
    """By the number of the trial."""
    return {trial.number: trial.attempt for trial in lab.trials(study)}


def running(lab: Lab, study: Study) -> dict[int, int]:
    """The numbers of the trials that are trained, by the pid of the worker."""
    return {int(str(trial.worker).split("-")[-2]): trial.number for trial in lab.trials(study) if trial.state == "running"}


def nobody_asked_the_database(lab: Lab) -> None:
    """Its clock decides nothing, for it is not asked."""
    lab.counts["processes whose statements were looked at"] = len(lab.reported("statements looked at"))
    assert not lab.reported("asked for the time")


def test_a_clock_that_is_set_ends_no_study_no_session_and_no_key(lab: Lab) -> None:
    """I13, I27: the wall clock of server and worker jumps by an hour, and to 1970 and back, while a study of half an hour runs."""
    clock = Clock(lab, "of all", 0, 1)
    server, worker = lab.serve(THAW_TOKEN=TOKEN, **clock.environment), lab.work("--step", "0.05", **clock.environment)
    study = lab.study(trials=8, budget={"trials": 8, "hours": 0.5})
    browser, script = (httpx2.Client(base_url=server.address, timeout=60, trust_env=False) for _ in range(2))
    with browser, script:
        assert browser.post("/login", json={"token": TOKEN}).status_code == httpx2.codes.NO_CONTENT
        script.headers |= {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "once"}
        queued = [script.post(f"/api/v1/studies/{study.id}/trials", json={"params": {"lr": 0.5}})]
        jumps = iter((HOUR, 0, -HOUR, -time.time(), -HOUR, HOUR))
        while not lab.now(study).state.terminal:
            if (offset := next(jumps, None)) is not None:
                clock.set(offset)
                lab.counts["jumps"] += 1
            queued.append(script.post(f"/api/v1/studies/{study.id}/trials", json={"params": {"lr": 0.5}}))
            for path in (f"studies/{study.id}", f"studies/{study.id}/trials", f"studies/{study.id}/changes?after=0", "workers"):
                answer = browser.get(f"/api/v1/{path}")
                assert answer.status_code == httpx2.codes.OK, "the session has ended"
                assert all(seconds >= 0 for seconds in durations(answer.json())), answer.text
            time.sleep(0.2)
    assert {(answer.status_code, answer.text) for answer in queued} == {(httpx2.codes.CREATED, queued[0].text)}, "I27"
    trials = lab.trials(study)
    assert [trial.state for trial in trials] == ["complete"] * 8, "a jump of the clock ended trials"
    assert (server.runs, worker.runs) == (True, True)
    assert next(jumps, None) is None, "the study was over before all was tried"
    nobody_asked_the_database(lab)
    check(lab, study)
    lab.tell("F8: jumps")


def durations(document: Any) -> Iterator[float]:
    """All seconds that it tells."""
    if isinstance(document, dict):
        for name, value in document.items():
            if "seconds" in name and isinstance(value, int | float):
                yield value
            yield from durations(value)
    elif isinstance(document, list):
        for item in document:
            yield from durations(item)
