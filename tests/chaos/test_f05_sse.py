"""F5: followers of a study come, vanish and come back, to a server that is killed and to another, while eight trials at a time write."""

import json
import time
from itertools import islice

import httpx2
import pytest

from service import operations
from tests.chaos.checker import check
from tests.chaos.conftest import MakeLab
from tests.chaos.faults import haste
from tests.chaos.lab import LONG, Lab, Process
from tests.chaos.sse_client import PING, RETRY, Follower, Stream

FOLLOWERS = 20
TRIALS = 200 if LONG else 24
WORKERS, SLOTS = 2, 4  # eight trials write at a time
LONGEST_SILENCE_SECONDS = 3 * haste.KEEP_ALIVE_SECONDS  # on a loaded machine; measured ones are told


def path(study: str) -> str:
    return f"/api/v1/studies/{study}/events"


def test_followers_receive_every_event_once_and_in_order(make_lab: MakeLab) -> None:
    """I24, I25: whatever breaks off on either side, each follower receives 1 to N, none twice, then the end, and is told to stay away."""
    lab = make_lab(lease_seconds=20.0)
    study = lab.study(trials=TRIALS)
    first, second = lab.serve(), lab.serve()
    followers = [Follower([first.address, second.address], path(study.id), seed=lab.seed + number) for number in range(FOLLOWERS)]
    for follower in followers:
        follower.start()
    for _ in range(WORKERS):
        lab.work(THAW_CHAOS_SLOTS=str(SLOTS))
    for share in (4, 2):  # at a quarter of all and at half
        lab.until(lambda share=share: sum(trial.state.terminal for trial in lab.trials(study)) >= TRIALS // share, "trials end", 300)  # type: ignore[misc]
        first.kill()
        lab.counts["servers killed"] += 1
        first = again(lab, first)
    lab.until(lambda: lab.now(study).state.terminal, "the study ends", seconds=900 if LONG else 180)
    last = lab.now(study).seq
    for follower in followers:
        follower.join(120)
        assert follower.failure is None, repr(follower.failure)
        assert not follower.is_alive(), f"I25: a follower waits for an end, at {follower.received[-1:]} of {last}"
        assert follower.received == list(range(1, last + 1)), f"I25: {wrong(follower.received, last)}"
        lab.counts += follower.broken_off
    lab.counts["events delivered"] = sum(len(follower.received) for follower in followers)
    begin_again(lab, second.address, study.id, last)
    check(lab, study)
    lab.tell("F5")


def again(lab: Lab, server: Process) -> Process:
    """The server at its old address."""
    port = server.address.rpartition(":")[2]
    return lab.serve(THAW_CHAOS_PORT=port)


def wrong(received: list[int], last: int) -> str:
    missed = sorted(set(range(1, last + 1)) - set(received))
    return f"missed {missed}, received {len(received)} of which {len(set(received))} are different"


def begin_again(lab: Lab, server: str, study: str, last: int) -> None:
    """An id that is no place in this study tells the whole from its beginning: nothing is left out in silence."""
    for identity in ("garbage", "-1", f"{study}--1", f"{study}-{last + 1}", f"{study}-{10**15}", f"{'0' * 16}-3", f"{study}-1e3", ""):
        with Stream(server, path(study), identity) as stream:
            assert stream.response().status_code == 200
            reported = [message for message in stream.messages() if message.event]
        assert [message.seq for message in reported] == [*range(1, last + 1), last] and reported[-1].event == "end", identity
        lab.counts["ids of no event"] += 1


def test_a_study_that_is_deleted_ends_its_streams(lab: Lab) -> None:
    """I25: who follows it is told that nothing will follow; who comes back is told that there is no such study."""
    study = lab.study(trials=5)
    server = lab.serve()
    with Stream(server.address, path(study.id)) as stream:
        assert stream.response().status_code == 200
        messages = stream.messages()
        seen = [next(messages).text, next(messages).event]
        operations.delete_study(lab.store, study.id)
        seen += [message.event for message in messages if message.event]
    assert seen == [RETRY, "study_created", "end"]
    answer = httpx2.get(server.address + path(study.id), headers={"last-event-id": f"{study.id}-1"})
    assert (answer.status_code, json.loads(answer.text)["type"]) == (404, "urn:thawline:problem:study-not-found")
    other = lab.study(trials=5)
    with Stream(server.address, path(other.id), f"{study.id}-1") as stream:
        assert stream.response().status_code == 200
        assert [message.event for message in islice(stream.messages(), 2)] == ["", "study_created"]


@pytest.mark.parametrize("hanging", [False, True], ids=["idle", "database_hangs"])
def test_a_stream_is_never_silent_for_long(lab: Lab, hanging: bool) -> None:
    """I25: when nothing happens, and when the database does not answer, comments tell proxies and clients that the server is there."""
    flag = lab.home / "hang"
    study = lab.study(trials=5)
    server = lab.serve(THAW_CHAOS_FAULTS=haste.__name__, **{haste.FLAG: str(flag)})
    silences = list[float]()
    with Stream(server.address, path(study.id)) as stream:
        stream.response()
        messages = stream.messages()
        assert [next(messages).text, next(messages).event] == [RETRY, "study_created"]
        if hanging:
            flag.touch()
        for _ in range(3):
            began = time.monotonic()
            assert next(messages).text == PING
            silences.append(time.monotonic() - began)
    flag.unlink(missing_ok=True)
    assert max(silences) < LONGEST_SILENCE_SECONDS
    lab.counts["pings"] += len(silences)
    lab.measured["longest silence"] = round(max(silences), 3)
    lab.tell("F5 pings")
