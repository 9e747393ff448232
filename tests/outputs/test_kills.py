"""kill -9 of servers in the middle of their deliveries: nothing is lost, and what arrives twice has the same id and body."""

import os
import signal
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from service.outputs.webhooks import DEFAULT_KINDS
from service.store import queries
from tests.outputs.receiver import receiving, wait_until, with_status
from tests.web.laboratory import Laboratory
from tests.web.server import running

KILLS = 2
LEASE_SECONDS = "1.5"


def test_events_survive_kills_of_two_servers(lab: Laboratory, database_url: str, tmp_path: Path) -> None:
    permits = [threading.Semaphore(0)]  # of this round; requests of a killed server wait for one that never comes

    def with_permit(handler: BaseHTTPRequestHandler) -> None:
        if permits[-1].acquire(timeout=120):
            with_status(204)(handler)

    with receiving(with_permit) as receiver:
        variables = {
            "THAW_WEBHOOKS": receiver.url, "THAW_WEBHOOK_SECRET": "correct-horse-battery-staple",
            "THAW_DATABASE_URL": database_url, "THAW_LEASE_SECONDS": LEASE_SECONDS,
        }  # fmt: skip
        with running(tmp_path, **variables):
            wait_until(lambda: bool(lab.store.read(queries.sinks)))
        for name in ("first", "second"):
            lab.study(name)
            for _ in range(15):
                lab.finish(lab.claim_from(name), 0.5)
        for _ in range(KILLS):
            receiver.closed = True
            with running(tmp_path, **variables) as one, running(tmp_path, **variables) as another:
                permits.append(threading.Semaphore(3))
                receiver.closed = False
                receiver.wait_for_requests(4)
                for server in (one, another):  # one of them waits for the fourth answer
                    os.kill(server.process.pid, signal.SIGKILL)
                    server.process.wait()
        permits.append(threading.Semaphore(1000))
        with running(tmp_path, **variables):
            wanted = _ids(lab)
            receiver.wait_for(len(wanted))
            time.sleep(float(LEASE_SECONDS))
    assert len(wanted) == 34
    counted = Counter(receiver.ids)
    assert set(counted) == wanted
    assert len(receiver.requests) - len(wanted) == KILLS  # what was in flight at each kill
    assert all(len({one.body for one in receiver.requests if one.id == twice}) == 1 for twice, times in counted.items() if times > 1)
    for study in lab.store.read(queries.studies):
        seqs = [int(one.rpartition("-")[2]) for one in counted if one.startswith(study.id)]
        assert seqs == sorted(seqs)


def _ids(lab: Laboratory) -> set[str]:
    """The ids of the events that a webhook gets by default."""
    studies = lab.store.read(queries.studies)
    events = [(study.id, event) for study in studies for event in lab.store.read(queries.events_after, study.id, 0)]
    return {f"{study}-{event.seq}" for study, event in events if event.kind in DEFAULT_KINDS["json"]}
