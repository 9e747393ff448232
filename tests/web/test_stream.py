"""A study's events as a stream: none is missed, none comes twice, and it ends when it should."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from service import operations
from service.domain.states import EventKind
from service.settings import Settings
from service.store import Store, queries
from service.web.app import create_app
from tests.operations.driving import claim_trials
from tests.web.laboratory import HERE, Laboratory
from tests.web.problem import assert_problem
from tests.web.server import Served

EVENTS = "/api/v1/studies/digits/events"


@dataclass(frozen=True)
class Frame:
    id: str
    event: str
    data: dict[str, Any]


def frames(lines: Iterator[str]) -> Iterator[Frame]:
    """The events of a stream, read as the standard says."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and "data" in fields:
            yield Frame(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


def all_frames(client: TestClient, address: str = EVENTS, **headers: str) -> list[Frame]:
    answer = client.get(address, headers=headers)
    assert answer.status_code == 200, answer.text
    return list(frames(iter(answer.text.split("\n"))))


def ended_study(lab: Laboratory) -> str:
    """A study with one complete trial that was stopped; its id."""
    study = lab.study()
    lab.finish(lab.claim(), 0.9)
    operations.stop_study(lab.store, study.id)
    return study.id


def test_an_ended_study_is_told_from_its_first_event_to_its_last_and_an_end(client: TestClient, lab: Laboratory, store: Store) -> None:
    study = ended_study(lab)
    reported = all_frames(client)
    written = store.read(queries.events_after, study, 0)
    assert [(frame.id, frame.event) for frame in reported[:-1]] == [(f"{study}-{event.seq}", event.kind) for event in written]
    for frame, event in zip(reported, written, strict=False):
        assert frame.data == {"seq": event.seq, "kind": event.kind, "at": event.at, **event.body}
    assert (reported[-1].event, reported[-1].id) == ("end", reported[-2].id)
    assert {EventKind.STUDY_CREATED, EventKind.TRIAL_COMPLETED, EventKind.STUDY_STOPPED} <= {frame.event for frame in reported[:-1]}


def test_every_kind_of_event_tells_its_own_place_in_the_stream(client: TestClient, lab: Laboratory, store: Store) -> None:
    lab.study()
    claim = lab.claim()
    for text in ("one\n", "two\n"):
        assert operations.record(store, [operations.Write(claim.lease, log=text)]) == []
    lab.stop_all()
    reported = all_frames(client)
    assert EventKind.TRIAL_LOGGED in {frame.event for frame in reported}
    assert [frame.data["seq"] for frame in reported[:-1]] == list(range(1, len(reported)))


def test_the_answer_tells_proxies_and_browsers_how_to_treat_it(client: TestClient, lab: Laboratory) -> None:
    ended_study(lab)
    answer = client.get(EVENTS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text.startswith("retry: 2000\n\n")


def test_a_stream_resumes_after_the_event_that_was_received(client: TestClient, lab: Laboratory) -> None:
    study = ended_study(lab)
    everything = all_frames(client)
    assert all_frames(client, **{"last-event-id": f"{study}-3"}) == everything[3:]
    assert all_frames(client, **{"last-event-id": "3"}) == everything[3:]
    assert all_frames(client, f"{EVENTS}?after=3") == everything[3:]
    assert all_frames(client, f"{EVENTS}?after=1", **{"last-event-id": f"{study}-3"}) == everything[3:]


def test_who_has_seen_the_end_is_told_to_stay_away(client: TestClient, lab: Laboratory) -> None:
    ended_study(lab)
    last = all_frames(client)[-1]
    assert client.get(EVENTS, headers={"last-event-id": last.id}).status_code == 204
    assert client.get(EVENTS, params={"after": last.data["seq"]}).status_code == 204


@pytest.mark.parametrize(
    "identity",
    [
        "garbage",
        "",
        "-1",
        "{study}--1",
        "{study}-",
        "{study}-x",
        "{study}-99999",
        "{study}-" + "9" * 5000,
        "0123456789abcdef-3",
        "{study}-\u00b2",
        "{study}-1.5",
    ],
)
def test_an_id_that_is_not_this_studys_starts_from_the_beginning(client: TestClient, lab: Laboratory, identity: str) -> None:
    study = ended_study(lab)
    headers = {"last-event-id": identity.format(study=study).encode("latin-1")}
    assert all_frames(client, **headers) == all_frames(client)  # type: ignore[arg-type]


@pytest.mark.parametrize("after", ["garbage", "", "-1", "99999", "9" * 5000, "1.5", "\u00b2"])
def test_a_wrong_place_to_begin_is_a_fault(client: TestClient, lab: Laboratory, after: str) -> None:
    ended_study(lab)
    problem = assert_problem(client.get(EVENTS, params={"after": after}), 422, "validation")
    assert problem["errors"][0]["pointer"] == "#/query/after"


def test_a_process_holds_only_so_many_streams(store: Store, settings: Settings, lab: Laboratory) -> None:
    ended_study(lab)
    app = create_app(store, settings)
    app.state.streams.limit = 0
    answer = TestClient(app, base_url=HERE).get(EVENTS)
    assert_problem(answer, 503, "too-many-streams")
    assert int(answer.headers["retry-after"]) > 0
    app.state.streams.limit = 1
    for _ in range(3):
        assert TestClient(app, base_url=HERE).get(EVENTS).status_code == 200
    assert app.state.streams.open == 0


def events_of(server: Served, study: str) -> str:
    return f"{server.address}/api/v1/studies/{study}/events"


def follow(address: str, last: Frame | None, count: int) -> list[Frame]:
    """So many events of one connection, which then breaks off; the last one is an `end` when nothing more will come."""
    headers = {} if last is None else {"last-event-id": last.id}
    found: list[Frame] = []
    with httpx2.stream("GET", address, headers=headers, timeout=120) as answer:
        if answer.status_code == 204:
            return [Frame("", "end", {})]
        for frame in frames(answer.iter_lines()):
            found.append(frame)
            if frame.event == "end" or len(found) == count:
                break
    return found


def test_sigterm_ends_a_server_with_open_streams_within_ten_seconds(served: Served, lab: Laboratory) -> None:
    lab.study()
    opened = threading.Barrier(4)
    ended = threading.Barrier(4)

    def hold() -> None:
        with httpx2.stream("GET", served.address + EVENTS, timeout=120) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "retry: 2000"
            opened.wait(120)
            for _ in lines:
                pass
        ended.wait(120)

    for _ in range(3):
        threading.Thread(target=hold, daemon=True).start()
    opened.wait(120)
    assert served.end(seconds=10) == 0
    ended.wait(120)


def test_clients_that_come_and_go_while_writers_write_receive_every_event_once(live: Served, live_lab: Laboratory) -> None:
    study = live_lab.study("crowd", budget={"trials": 60})
    address = events_of(live, "crowd")

    def write() -> None:
        for _ in range(4):
            claim = claim_trials(live_lab.store, operations.Searches(), threading.current_thread().name)[0]
            live_lab.report(claim, 1, accuracy=0.1)
            live_lab.finish(claim, 0.5)

    def read(received: list[Frame], stride: int) -> None:
        while not received or received[-1].event != "end":
            received += follow(address, received[-1] if received else None, stride)

    writers = [threading.Thread(target=write) for _ in range(3)]
    received: list[list[Frame]] = [[] for _ in range(4)]
    readers = [threading.Thread(target=read, args=(one, stride)) for one, stride in zip(received, (1, 4, 17, 1000), strict=True)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join(60)
    operations.stop_study(live_lab.store, study.id)
    for thread in readers:
        thread.join(60)
        assert not thread.is_alive()
    last = live_lab.store.read(queries.find_study, study.id).seq
    assert last > 3 * 4 * 3
    for one in received:
        assert [frame.data["seq"] for frame in one[:-1]] == list(range(1, last + 1))


def test_a_deleted_study_ends_its_streams(live: Served, live_lab: Laboratory) -> None:
    study = live_lab.study("gone")
    address = events_of(live, "gone")
    with httpx2.stream("GET", address, timeout=120) as answer:
        reported = frames(answer.iter_lines())
        assert next(reported).event == EventKind.STUDY_CREATED
        operations.delete_study(live_lab.store, study.id)
        assert [frame.event for frame in reported][-1] == "end"
    assert_problem(httpx2.get(address), 404, "study-not-found")


def test_a_client_that_reads_nothing_holds_nobody_up(live: Served, live_lab: Laboratory) -> None:
    live_lab.study("idle")
    with httpx2.stream("GET", events_of(live, "idle"), timeout=120):
        for _ in range(20):
            assert httpx2.get(f"{live.address}/livez", timeout=60).status_code == 200
    deadline = time.monotonic() + 120
    while "thawline_event_streams 0.0" not in httpx2.get(f"{live.address}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_three_hundred_ends_of_one_transaction_are_told_one_by_one(client: TestClient, lab: Laboratory) -> None:
    lab.finish_all(lab.shared_pass("digits", 300), 0.9)
    reported = all_frames(client)
    last = lab.store.read(queries.find_study, "digits").seq
    assert [frame.data["seq"] for frame in reported[:-1]] == list(range(1, last + 1))
    assert sorted(frame.data["number"] for frame in reported if frame.event == EventKind.TRIAL_COMPLETED) == list(range(300))
    assert reported[-2].event == EventKind.STUDY_COMPLETED and reported[-1].event == "end"
