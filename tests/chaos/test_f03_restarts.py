"""F3: servers are killed, ended, started twice, and restarted so often that none sees a lease run out."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest

from service.domain.records import Study
from service.domain.states import TrialState
from service.store.migrate import check as is_current
from tests.chaos.callers import Caller, Listener
from tests.chaos.checker import check, events_of
from tests.chaos.conftest import MakeLab
from tests.chaos.lab import LONG, Lab, Process

LISTENERS, CALLERS, REQUESTS = 4, 3, 10
RESTARTS = 40 if LONG else 6
END_SECONDS = 10  # of a server that is told to end
AT_ONCE = 16 if LONG else 6
QUICK = {"THAW_WRITES_PER_SECOND": "10000"}
SLOW = ("--step", "0.1")
FOR_EVER = 100_000  # epochs


@pytest.fixture
def clients() -> Iterator[list[Listener | Caller]]:
    """Those that a test starts; they give up at its end, however it ends."""
    started = list[Listener | Caller]()
    yield started
    for one in started:
        one.gone.set()


def test_clients_miss_nothing_and_double_nothing_over_restarts(lab: Lab, clients: list[Listener | Caller]) -> None:
    """I2, I24, I25, I27, I29: with streams open and requests under way, killed and ended by turns."""
    study = lab.study(trials=CALLERS * REQUESTS + RESTARTS, epochs=2, budget={"trials": CALLERS * REQUESTS + RESTARTS, "parallel": 1})
    servers = [lab.serve(**QUICK)]
    listeners = [Listener(lambda: servers[-1].address, study.id) for _ in range(LISTENERS)]
    callers = [Caller(lambda: servers[-1].address, study.id, rates_of(caller)) for caller in range(CALLERS)]
    clients += [*listeners, *callers]
    ends = list[float]()

    def connections() -> int:
        return sum(one.connections for one in listeners)

    def answers() -> int:
        return sum(one.repeated + len(one.answers) for one in callers)

    for restart in range(RESTARTS):
        again, more = connections() + LISTENERS, answers() + 1
        servers.append(restarted(lab, servers[-1], restart % 2 == 0, ends))
        lab.until(partial(reaches, connections, again), "all listen again")
        lab.until(partial(reaches, answers, more), "requests are answered again")
    lab.until(lambda: all(len(one.answers) == REQUESTS for one in callers), "each request is answered")
    lab.work("--step", "0")
    lab.until(lambda: lab.ended(study), "the study ends", 120)
    for caller in callers:
        caller.gone.set()
    for one in clients:
        one.join(60)
    nobody_missed_anything(lab, study, listeners)
    nothing_was_queued_twice(lab, study, callers)
    lab.counts |= {"streams": sum(one.connections for one in listeners), "requests without answer": sum(one.unanswered for one in callers)}
    lab.counts["requests repeated"] = sum(one.repeated for one in callers)
    lab.measured["events"] = lab.now(study).seq
    lab.measured["seconds to end, at most"] = round(max(ends), 2)
    assert min(ends) <= END_SECONDS and max(ends) <= 2 * END_SECONDS, ends
    check(lab, study)
    lab.tell("F3")


def reaches(count: Callable[[], int], least: int) -> bool:
    return count() >= least


def rates_of(caller: int) -> list[float]:
    """The learning rates that a caller asks for; nobody else does."""
    return [0.1 * (caller + 1) + index * 1e-4 for index in range(REQUESTS)]


def restarted(lab: Lab, server: Process, kill: bool, ends: list[float]) -> Process:
    """The next server, after this one was killed or has ended as told."""
    if kill:
        server.kill()
        lab.counts["servers killed"] += 1
    else:
        reported = time.monotonic()
        assert server.end(60) == 0, server.said()
        ends.append(time.monotonic() - reported)
        lab.counts["servers ended"] += 1
    return lab.serve(**QUICK)


def nobody_missed_anything(lab: Lab, study: Study, listeners: list[Listener]) -> None:
    """I25."""
    reported = [(event.seq, event.kind) for event in events_of(lab.store, study)]
    for one in listeners:
        assert not one.is_alive(), "I25: the study's end was not heard"
        assert one.heard == reported, f"I25: heard {len(one.heard)}, reported {len(reported)}"


def nothing_was_queued_twice(lab: Lab, study: Study, callers: list[Caller]) -> None:
    """I27: each request had one effect, however often it was sent, and the same answer each time."""
    assert [fault for one in callers for fault in one.faults] == []
    assert lab.queued_rates(study) == sorted(rate for one in callers for rate in one.answers), "I27: a trial for each request"


def test_servers_that_start_at_once_on_an_empty_database_make_one_schema(empty_url: str, tmp_path: Path) -> None:
    """I30: each of them serves, and what one was told the others know."""
    lab = Lab(tmp_path / "lab", empty_url)
    try:
        servers = [lab.start("serve", THAW_CHAOS_PORT="0") for _ in range(AT_ONCE)]
        lab.until(lambda: all(lab.answers(one) or not one.runs for one in servers), "all have started")
        assert [one.exit_code for one in servers] == [None] * AT_ONCE, f"I30: {lab.last_words()}"
        assert is_current(empty_url)
        study = lab.study(trials=1)
        for one in servers:
            assert httpx2.get(f"{one.address}/readyz", trust_env=False, timeout=30).status_code == httpx2.codes.OK
            assert httpx2.get(f"{one.address}/api/v1/studies/{study.id}", trust_env=False, timeout=30).json()["name"] == study.name
        lab.counts["servers at once"] = AT_ONCE
        lab.tell("F3, at once")
    finally:
        lab.close()


def test_a_lost_trial_is_found_by_servers_none_of_which_lives_for_a_lease(make_lab: MakeLab) -> None:
    """I12: the reaper is restarted after half a lease each time."""
    lab = make_lab(lease_seconds=3.6, heartbeat_seconds=0.6)
    study = lab.study(trials=1, epochs=FOR_EVER)
    worker = lab.work(*SLOW)
    lab.until(lambda: any(trial.step > 0 for trial in lab.trials(study)), "the trial is under way")
    worker.kill()
    killed = time.monotonic()
    while lab.trials(study)[0].state is TrialState.RUNNING:
        assert time.monotonic() < killed + 90, "I12: nobody found it"
        server = lab.serve()
        time.sleep(lab.settings.lease_seconds / 2)
        server.kill()
        lab.counts["servers killed"] += 1
    lab.measured["seconds until found"] = round(time.monotonic() - killed, 1)
    assert lab.counts["servers killed"] > 1
    lab.tell("F3, short lives")


def test_a_server_that_was_away_for_longer_than_a_lease_takes_no_trial_from_a_living_worker(make_lab: MakeLab) -> None:
    """I12: no mass expiry after a restart."""
    lab = make_lab(lease_seconds=6.0, heartbeat_seconds=0.5)
    study = lab.study(trials=4, epochs=FOR_EVER)
    lab.serve().kill()
    workers = [lab.work(*SLOW, THAW_CHAOS_SLOTS="2") for _ in range(2)]
    lab.until(lambda: sum(trial.step > 0 for trial in lab.trials(study)) == 4, "four trials are under way")
    time.sleep(lab.settings.lease_seconds)  # the server is away
    for _ in range(3):
        server, beats = lab.serve(), lab.heartbeats()
        lab.until(partial(all_renewed, lab, beats), "leases are renewed")
        server.kill()
        lab.counts["servers killed"] += 1
    assert [(trial.state, trial.attempt) for trial in lab.trials(study)] == [(TrialState.RUNNING, 1)] * 4, (
        "I12: a living worker lost its trial"
    )
    assert all(one.runs for one in workers)
    lab.tell("F3, no mass expiry")


def all_renewed(lab: Lab, before: dict[int, int]) -> bool:
    """Whether each of these leases has had more than three heartbeats since, or is gone."""
    beats = lab.heartbeats()
    return all(beats.get(trial, FOR_EVER) > count + 3 for trial, count in before.items())
