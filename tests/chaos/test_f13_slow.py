"""F13: clients that read and send a byte a second cost little, hold up nobody, and are let go."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from statistics import median

import httpx2

from service.domain.records import Study
from service.domain.states import EventKind
from service.store.unit_of_work import locked
from service.web.events import MAX_STREAMS
from tests.chaos.conftest import MakeLab
from tests.chaos.faults import haste
from tests.chaos.lab import LONG, Lab, Process
from tests.chaos.slow_clients import Crowd, head_sender, stream_reader, uploader
from tests.chaos.sse_client import Stream

EACH = 100 if LONG else 50  # of each kind of slow client
EVENTS, EVENT_BYTES = 1_600, 4_000  # more than the kernel takes for a client that does not read
FOLLOWERS, READERS = 6, 48  # that use the server before
GROWTH_BYTES = 50_000_000
P99_SECONDS = 5.0  # a second on an idle machine; the measured one is told
CLOSED_SECONDS = 3.0 * EACH  # likewise: their patience is five seconds here, but first each is told a lot
END_SECONDS = 10.0


def path(study: Study) -> str:
    return f"/api/v1/studies/{study.id}/events"


def talkative(lab: Lab) -> Study:
    """A study with a lot to tell."""
    study = lab.study(trials=5)
    with lab.store.writing() as tx, locked(tx, study.id) as uow:
        for number in range(EVENTS):
            uow.emit(EventKind.STUDY_PAUSED, filling=str(number % 10) * EVENT_BYTES)
    return study


def test_slow_clients_cost_little_and_hold_up_nobody(lab: Lab) -> None:
    """I26, T16: with 50 slow readers of streams, 50 slow uploaders and 50 slow heads, others are answered, memory stays, all are cut."""
    study = talkative(lab)
    server = lab.serve(THAW_CHAOS_FAULTS=haste.__name__)
    warm(server, study)
    before = resident(server.pid)
    streams = [stream_reader(server.address, path(study)) for _ in range(EACH)]
    others = [make(server.address, "/api/v1/studies") for make in (uploader, head_sender) for _ in range(EACH)]
    with Crowd([*streams, *others]) as crowd, quick_clients(server, study) as seconds, greatest(server.pid) as memory:
        for kind in ("upload", "head", "stream"):
            lab.until(lambda kind=kind: not crowd.left(kind), f"each slow {kind} is cut", CLOSED_SECONDS)  # type: ignore[misc]
    for client in crowd.clients:
        lab.counts[f"{client.kind}s cut"] += 1
        lab.measured[f"{client.kind} cut at last"] = round(
            max(client.closed_after or 0, lab.measured.get(f"{client.kind} cut at last", 0)), 1
        )
        assert client.kind != "upload" or b" 408 " in client.answer.partition(b"\r\n")[0], client.answer
    lab.measured |= {
        "others' requests": len(seconds), "others' p50": round(median(seconds), 4), "others' p99": round(percentile(seconds, 99), 4),
        "growth in MB": round((max(memory) - before) / 1e6, 1),
    }  # fmt: skip
    assert max(memory) - before < GROWTH_BYTES, f"I26: {lab.measured}"
    assert percentile(seconds, 99) < P99_SECONDS, f"I26: {lab.measured}"
    lab.until(lambda: "thawline_event_streams 0.0" in httpx2.get(f"{server.address}/metrics").text, "no stream is left")
    follow_to_the_last(server, study)
    lab.tell("F13")


def warm(server: Process, study: Study) -> None:
    """As many clients as are served at one time, so that threads, connections to the database and their caches are there before."""
    address = f"{server.address}{path(study)}?after={EVENTS + 2}"
    with ThreadPoolExecutor(FOLLOWERS + READERS) as pool:
        followed = [pool.submit(follow_to_the_last, server, study) for _ in range(FOLLOWERS)]
        read = [pool.submit(httpx2.get, address, timeout=60) for _ in range(READERS)]
        assert {one.result().status_code for one in read} == {422}
        for one in followed:
            one.result()


def follow_to_the_last(server: Process, study: Study) -> None:
    """A client as it should be receives everything."""
    with Stream(server.address, path(study)) as stream:
        assert stream.response().status_code == 200
        reported = islice((message.seq for message in stream.messages() if message.id), EVENTS + 1)
        assert list(reported) == list(range(1, EVENTS + 2))


def resident(pid: int) -> int:
    """Bytes of memory that the process has."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the process has gone")


def percentile(seconds: list[float], share: int) -> float:
    return sorted(seconds)[min(len(seconds) - 1, len(seconds) * share // 100)]


@contextmanager
def quick_clients(server: Process, study: Study) -> Iterator[list[float]]:
    """Two clients that read and write as usual; the seconds of each of their requests."""
    seconds, stop = list[float](), threading.Event()

    def ask() -> None:
        with httpx2.Client(base_url=server.address, timeout=60, trust_env=False) as client:
            while not stop.wait(0.02):
                for method, place in (("GET", f"/api/v1/studies/{study.id}"), ("POST", f"/api/v1/studies/{study.id}/pause")):
                    began = time.monotonic()
                    assert client.request(method, place).status_code == 200
                    seconds.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


@contextmanager
def greatest(pid: int) -> Iterator[list[int]]:
    """The process's memory, looked at ten times a second."""
    seen, stop = [resident(pid)], threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            seen.append(resident(pid))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(10)


def test_a_server_with_all_its_streams_open_ends_when_it_is_told(make_lab: MakeLab) -> None:
    """I26, I29, I32: as many streams as there may be, one more is refused; ten of them do not read; SIGTERM ends all within ten seconds."""
    lab = make_lab(lease_seconds=20.0)
    study, quiet = talkative(lab), lab.study(trials=5)
    server = lab.serve()
    with ExitStack() as opened:
        for number in range(MAX_STREAMS):
            one = opened.enter_context(Stream(server.address, path(quiet if number >= 10 else study), receive_bytes=4096))
            assert one.response().status_code == 200
            lab.counts["streams open"] += 1
        refused = httpx2.get(server.address + path(quiet))
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:thawline:problem:too-many-streams")
        assert int(refused.headers["retry-after"]) > 0
        began = time.monotonic()
        assert server.end(END_SECONDS) == 0, f"I29: it still runs after {END_SECONDS} s"
        lab.measured["seconds to the end"] = round(time.monotonic() - began, 2)
    lab.tell("F13 end")
