"""F14: many at one study, and a client that freezes while it holds the study's lock."""

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import text

from service import operations
from service.domain.errors import StoreUnavailable
from service.domain.records import Event, Study
from service.domain.states import TrialState
from service.store import open_store
from service.store.engine import POSTGRESQL_LIMITS
from service.store.unit_of_work import locked
from tests.chaos.checker import check, events_of
from tests.chaos.contenders import ReportedSoFar, ask_until_spent, contend
from tests.chaos.lab import LONG, Lab
from tests.forking import forkserver
from tests.operations.driving import ready
from tests.racing import race

PROCESSES, CLAIMERS, ASKERS, CANCELLERS = 8, 4, 2, 1  # of each in each process: 32 claimers, 16 askers, 8 cancellers
TRIALS = 800 if LONG else 120
PARALLEL = 24
ASKING, ASKED = 16, 400 if LONG else 60
SECONDS = 500
SLACK_SECONDS = 10  # a busy machine's, beyond what the database allows
STARTS, STOPS = ("trial_started",), ("trial_completed", "trial_failed", "trial_cancelled", "trial_requeued", "trial_pruned")


def test_everyone_at_one_study(lab: Lab) -> None:
    """I7, I15, I16, I18: no trial goes to two, none is both cancelled and finished, and no deadlock reaches a client."""
    study = ready(lab.store, budget={"trials": TRIALS, "parallel": PARALLEL})
    before = deadlocks(lab)
    reported = ReportedSoFar()
    for one in race(contend, lab.database_url, study.id, CLAIMERS, ASKERS, CANCELLERS, processes=PROCESSES, seconds=SECONDS):
        reported.add(one)
    assert reported.errors == [], f"an error reached {len(reported.errors)} clients: {Counter(reported.errors).most_common(3)}"
    assert deadlocks(lab) == before, "I18: locks were taken in opposite orders"
    assert max(Counter(reported.claimed).values()) == 1, "I7: an attempt went to two"
    exactly_one_won(lab, study, reported)
    lab.counts |= {"claims": len(reported.claimed), "trials queued": len(reported.queued), "cancels that won": len(reported.cancelled)}
    lab.counts["trials at once, at most"] = most_at_once(events_of(lab.store, lab.now(study)))
    lab.measured |= {"cancels too late": len(reported.too_late), "ends refused": len(reported.refused), "told to try again": reported.busy}
    assert lab.counts["trials at once, at most"] <= PARALLEL, "I15"
    check(lab, study)
    lab.tell("F14")


def exactly_one_won(lab: Lab, study: Study, reported: ReportedSoFar) -> None:
    """I18: a trial's end is what exactly one of them was told, and the others were told that they lost."""
    ended = {trial.number: trial.state for trial in lab.trials(study)}
    assert set(ended.values()) <= {TrialState.COMPLETE, TrialState.CANCELLED}
    for winners, state in ((reported.finished, TrialState.COMPLETE), (reported.cancelled, TrialState.CANCELLED)):
        assert sorted(winners) == sorted(number for number, end in ended.items() if end is state), f"I18: {state}"
    assert all(ended[number] is TrialState.CANCELLED for number in reported.refused), "I18: an end was refused that nothing stood against"


def most_at_once(events: Sequence[Event]) -> int:
    running, most = set[int](), 0
    for event in events:
        if event.kind in STARTS:
            running.add(event.body["number"])
        elif event.kind in STOPS:
            running.discard(event.body["number"])
        most = max(most, len(running))
    return most


def deadlocks(lab: Lab) -> int:
    """How many the database has broken up so far. SQLite has one lock, and none."""
    if lab.store.embedded:
        return 0
    with lab.store.reading() as tx:
        return int(tx.scalar(text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")) or 0)


def test_sixteen_that_ask_get_the_budget_and_no_more(lab: Lab) -> None:
    """I15, I16: processes that think side by side and insert one after the other."""
    study = ready(lab.store, budget={"trials": ASKED})
    given = race(ask_until_spent, lab.database_url, study.id, processes=ASKING, seconds=SECONDS)
    assert lab.now(study).created == ASKED, "I15"
    assert sorted(number for numbers in given for number in numbers) == list(range(ASKED)), "I16"
    lab.counts |= {"processes that asked": ASKING, "processes that were given some": sum(map(bool, given))}
    check(lab, study)
    lab.tell("F14, askers")


def freeze_in_a_transaction(url: str, study: str) -> None:
    """Hold the study's lock, and stop."""
    with open_store(url).writing() as tx, locked(tx, study):
        os.kill(os.getpid(), signal.SIGSTOP)


def test_a_client_that_freezes_in_a_transaction_does_not_hold_the_others_for_ever(lab: Lab) -> None:
    """PostgreSQL ends its session within ten seconds. SQLite's lock is the process's: the others are told to try again until it ends."""
    study = ready(lab.store)
    frozen = forkserver().Process(target=freeze_in_a_transaction, args=(lab.database_url, study.id))
    frozen.start()
    assert frozen.pid is not None
    lab.until(lambda: is_stopped(frozen.pid or 0), "the client holds the lock, and stands still")
    began, refused = time.monotonic(), 0
    try:
        while time.monotonic() < began + 60:
            if lab.store.embedded and refused:
                frozen.kill()
            try:
                operations.pause_study(lab.store, study.id)
                break
            except StoreUnavailable:
                refused += 1
    finally:
        frozen.kill()
        frozen.join(10)
    lab.measured["seconds until the lock was free"] = waited = round(time.monotonic() - began, 1)
    lab.counts |= {"clients frozen": 1, "told to try again": refused}
    allowed = POSTGRESQL_LIMITS["idle_in_transaction_session_timeout"] / 1000
    assert lab.now(study).state == "paused" and (lab.store.embedded or waited <= allowed + SLACK_SECONDS)
    lab.tell("F14, a frozen client")


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
