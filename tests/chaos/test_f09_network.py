"""F9: the network between workers and PostgreSQL, and between clients and servers, is slow, broken or silent; SQLite is locked instead."""

import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url

from service import client as rest
from service import operations
from service.client import Client, Unreachable
from service.domain.records import Study
from service.domain.states import TrialState
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.lab import LONG, Lab, Process
from tests.chaos.proxy import Proxy, through
from tests.processes import alive

LEASE_SECONDS, HEARTBEAT_SECONDS = 6.0, 1.0  # between trust window and lease lie two heartbeats
OUTAGE_SECONDS = 60 if LONG else 3
TRIALS = 60 if LONG else 16
TROUBLES_SECONDS = 600 if LONG else 180
DELAY_SECONDS = 2.0 if LONG else 0.5
TROUBLES = ("pieces delayed", "answers to commits lost", "connections closed", "connections reset", "connections left half open")
CALL_SECONDS, STREAM_SECONDS = 2.0, 3.0  # in place of the client's 30 and 45
FAULTS = {"THAW_CHAOS_FAULTS": "tests.chaos.faults.shorter_waits", "THAW_CHAOS_TOY_FAULTS": "tests.chaos.faults.toy_steps"}


class Cable:
    """What lies between workers and their database: a proxy to PostgreSQL; to SQLite nothing but its lock."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.proxy = None if lab.store.embedded else Proxy.to(lab.database_url)

    def work(self, *toy_options: str) -> Process:
        """A worker at the other end of it."""
        url = {} if self.proxy is None else {"THAW_DATABASE_URL": through(self.proxy, self._lab.database_url)}
        return self._lab.work(*toy_options, **FAULTS, **url)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Nothing is answered meanwhile and nothing refused; connections of this time are dead afterwards too."""
        if self.proxy is None:
            with self._locked("IMMEDIATE"):
                yield
            return
        self.proxy.dark = True
        yield
        self._lab.counts["dead connections"] += self.proxy.hang()
        self.proxy.dark = False

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """No connection can be made meanwhile, and those there were have ended."""
        if self.proxy is None:
            with self._locked("EXCLUSIVE"):
                yield
            return
        self.proxy.refusing = True
        self._lab.counts["connections ended"] += self.proxy.end(reset=True)
        yield
        self.proxy.refusing = False

    @contextmanager
    def _locked(self, kind: str) -> Iterator[None]:
        """As another process would hold the lock that never ends its transaction."""
        with closing(sqlite3.connect(str(make_url(self._lab.database_url).database), timeout=60, isolation_level=None)) as other:
            other.execute(f"BEGIN {kind}")
            self._lab.counts["locks held"] += 1
            yield
            other.execute("ROLLBACK")

    def close(self) -> None:
        if self.proxy is not None:
            self.proxy.close()


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(lease_seconds=LEASE_SECONDS, heartbeat_seconds=HEARTBEAT_SECONDS)


@pytest.fixture
def cable(lab: Lab) -> Iterator[Cable]:
    with closing(Cable(lab)) as laid:
        yield laid


def test_a_trainer_is_killed_before_anyone_else_may_claim_its_trial(lab: Lab, cable: Cable) -> None:
    """I9, I3: the store falls silent. The trainer computes nothing once its lease may have run out; afterwards the worker works again."""
    study = lab.study(trials=1, epochs=10_000)
    cut_off = cable.work("--step", "0.05")
    lab.until(lambda: len(steps(lab, 1)) > 3, "the trial is under way")
    with cable.silent():
        silent_at = time.monotonic()
        rescuer = lab.work("--step", "0.05", **FAULTS)
        trainer = steps(lab, 1)[0]["pid"]
        lab.until(lambda: not alive(trainer), "the trainer was killed", LEASE_SECONDS * 3)
        if not lab.store.embedded:
            lab.until(lambda: bool(steps(lab, 2)), "another worker goes on with the trial")
    lab.until(lambda: bool(steps(lab, 2)), "the trial goes on")
    trained_on = steps(lab, 1)[-1]["at"] - silent_at
    assert trained_on < LEASE_SECONDS, f"I9: it trained for {trained_on:.1f} s without a lease that could be renewed"
    no_two_at_once(lab)
    assert rescuer.end() == 0
    lab.until(lambda: any(line["pid"] in cut_off.family() for line in lab.reported("step")), "the worker that was cut off works again")
    end(lab, study)
    assert cut_off.runs
    no_two_at_once(lab)
    lab.measured["trained on without an answer, s"] = round(trained_on, 2)
    check(lab, study)
    lab.tell("F9: silence")


def test_workers_outlive_an_outage(lab: Lab, cable: Cable) -> None:
    """I3, I1: those at work, and one that makes its first connection meanwhile. None exits; nothing is lost or doubled."""
    study = lab.study(trials=6, epochs=20)
    workers = [cable.work("--step", "0.1") for _ in range(2)]
    lab.until(lambda: bool(steps(lab, 1)), "a trial is under way")
    with cable.refusing():
        workers.append(cable.work("--step", "0.1"))
        time.sleep(OUTAGE_SECONDS)  # the outage itself; nothing is waited for
    lab.until(lambda: lab.now(study).state.terminal, "the study ends", 120)
    assert [one.exit_code for one in workers] == [None] * 3
    no_two_at_once(lab)
    check(lab, study)
    lab.tell("F9: outage")


def test_a_bad_line_to_postgresql_loses_and_doubles_nothing(migrated_postgresql: str, tmp_path: Path) -> None:
    """I1, I3, I7: pieces are delayed, connections closed, reset and left half open, the answers to commits lost."""
    lab = Lab(tmp_path / "lab", migrated_postgresql, lease_seconds=LEASE_SECONDS, heartbeat_seconds=HEARTBEAT_SECONDS)
    with closing(lab), closing(Cable(lab)) as cable:
        assert cable.proxy
        study = lab.study(trials=10_000)
        workers = [cable.work("--step", "0.05") for _ in range(3)]
        lab.until(lambda: bool(steps(lab, 1)), "a trial is under way")
        kinds = cycle(lab.random.sample(TROUBLES, len(TROUBLES)))

        def complete() -> int:
            return sum(trial.state is TrialState.COMPLETE for trial in lab.trials(study))

        give_up_at = time.monotonic() + TROUBLES_SECONDS
        while complete() < TRIALS or set(lab.counts) < set(TROUBLES):  # each kind comes while trials are trained
            assert time.monotonic() < give_up_at, (complete(), lab.counts)
            trouble(lab, cable.proxy, next(kinds))
        assert [one.exit_code for one in workers] == [None] * 3
        operations.stop_study(lab.store, study.id)
        lab.until(lambda: lab.ended(study), "the study ends", 120)
        check(lab, study)
        lab.tell("F9: bad line")


def trouble(lab: Lab, proxy: Proxy, kind: str) -> None:
    """Some of it, and a moment without."""
    match kind:
        case "pieces delayed":
            proxy.delay = lab.random.uniform(0.1, DELAY_SECONDS)
            time.sleep(2 * proxy.delay)
            proxy.delay, done = 0, 1
        case "answers to commits lost":
            proxy.lose_answer_to, lost = b"COMMIT", proxy.lost
            with suppress(AssertionError):  # nobody commits any more
                lab.until(lambda: proxy.lost > lost, "an answer is lost", 5)
            done = proxy.lost - lost
        case "connections left half open":
            done = proxy.hang()
        case _:
            done = proxy.end(reset=kind == "connections reset")
    lab.counts += Counter({kind: done})  # nothing is noted if there was nothing to disturb
    time.sleep(lab.random.uniform(0, 1))


def test_a_client_on_a_bad_line_waits_only_so_long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """I25, I27: a silent server is given up, a lost answer is asked for again, events come once each and in order."""
    monkeypatch.setattr(rest, "SECONDS", CALL_SECONDS)
    monkeypatch.setattr(rest, "SILENCE_SECONDS", STREAM_SECONDS)
    study = lab.study(trials=6)
    with closing(Proxy(0)) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as caller, Client(caller.server) as watcher:
        proxy.target = urlsplit(lab.serve(THAW_HOSTS=f"127.0.0.1:{proxy.port}").address).port or 0
        heard = list[int]()
        follower = Thread(target=lambda: heard.extend(one.seq for one in watcher.events(study.id) if one), daemon=True)
        follower.start()
        proxy.delay = CALL_SECONDS / 8
        assert caller.study(study.name).id == study.id, "slow is not silent"
        proxy.delay, proxy.cut_answers = 0, 1
        lab.until(lambda: caller.study(study.id).id == study.id and proxy.cut == 1, "an answer is cut off")
        proxy.lose_answer_to = b"POST "
        assert [trial.number for trial in caller.queue_trials(study.id, [{"lr": 0.5}])] == [0]
        assert (proxy.lost, lab.now(study).created) == (1, 1), "I27: a request whose answer was lost had another effect"
        proxy.dark, begun = True, time.monotonic()
        assert fails(caller, study), "a silent server has answered"
        lab.measured["a silent server was given up after, s"] = round(time.monotonic() - begun, 2)
        proxy.dark = False
        lab.work("--step", "0.05")
        while not lab.now(study).state.terminal:
            lab.counts["connections reset"] += proxy.end(reset=True)
            time.sleep(0.5)
            lab.counts["connections left half open"] += proxy.hang()
            time.sleep(0.5)
        follower.join(60)
    assert heard == list(range(1, lab.now(study).seq + 1)), "I25"
    lab.counts["answers cut off"], lab.counts["answers lost"] = proxy.cut, proxy.lost
    lab.tell("F9: client")


def fails(caller: Client, study: Study) -> bool:
    """Whether a call does not get its answer."""
    try:
        caller.study(study.id)
    except Unreachable:
        return True
    return False


def steps(lab: Lab, attempt: int) -> list[dict[str, Any]]:
    """Those that trainers computed in this attempt at any trial, by time, told or not."""
    return [line for line in lab.reported("step") if line["attempt"] == attempt]


def no_two_at_once(lab: Lab) -> None:
    """I9: no trainer computed a step of a trial after a later attempt's first one."""
    by_trial = defaultdict[int, list[int]](list)
    for line in lab.reported("step"):
        by_trial[line["number"]].append(line["attempt"])
    for number, attempts in by_trial.items():
        assert attempts == sorted(attempts), f"I9: two trainers worked on trial {number} at once"


def end(lab: Lab, study: Study) -> None:
    """Cancel its only trial, and wait for the study's end."""
    operations.cancel_trial(lab.store, study.id, 0)
    lab.until(lambda: lab.now(study).state.terminal, "the study ends")
