"""The REST client against a small real HTTP server that breaks off, refuses and babbles."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service import client as module
from service.client import Client, Refused, UnexpectedAnswer, Unreachable
from service.domain.records import Event

Respond = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def address() -> Iterator[Callable[[Respond], str]]:
    """Serves what a function says, and gives the address."""
    servers: list[ThreadingHTTPServer] = []

    def serve(respond: Respond) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                respond(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def say(handler: BaseHTTPRequestHandler, status: int, kind: str, body: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.end_headers()
    handler.wfile.write(body.encode())


def frames(*numbers: int, end: bool = False) -> str:
    reported = [f'id: s-{seq}\nevent: trial_reported\ndata: {{"seq": {seq}, "number": 7, "at": 5.0}}\n\n' for seq in numbers]
    return "retry: 2000\n\n: still here\n\n" + "".join(reported) + ('id: s-9\nevent: end\ndata: {"seq": 9}\n\n' if end else "")


def test_a_stream_that_breaks_off_is_taken_up_where_it_broke(address: Callable[[Respond], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT", (0.01, 0.01))
    asked: list[str] = []
    answers = [(200, frames(1, 2)), (503, "busy"), (200, frames(3)), (200, frames(4, 5, end=True))]

    def respond(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path.partition("?")[2])
        status, body = answers[len(asked) - 1]
        say(handler, status, "text/event-stream" if status == 200 else "text/plain", body)

    with Client(address(respond)) as client:
        heard = [event for event in client.events("digits") if event is not None]
    assert [event.seq for event in heard] == [1, 2, 3, 4, 5]
    assert heard[0] == Event(1, "trial_reported", {"seq": 1, "number": 7, "at": 5.0}, 5.0)
    assert asked == ["after=0", "after=2", "after=2", "after=3"]


def test_a_study_that_has_ended_has_no_more_events(address: Callable[[Respond], str]) -> None:
    with Client(address(lambda handler: say(handler, 204, "text/event-stream", ""))) as client:
        assert list(client.events("digits", after=9)) == []


def test_a_stream_that_is_refused_is_not_asked_for_again(address: Callable[[Respond], str]) -> None:
    problem = {"type": "urn:thawline:problem:study-not-found", "detail": "There is no such study.", "status": 404}
    server = address(lambda handler: say(handler, 404, "application/problem+json", json.dumps(problem)))
    with Client(server) as client, pytest.raises(Refused, match="no such study") as refused:
        list(client.events("digits"))
    assert (refused.value.status, refused.value.kind) == (404, "study-not-found")


def test_a_problem_comes_with_its_faults(address: Callable[[Respond], str]) -> None:
    fault = {"pointer": "#/name", "code": "missing", "detail": "this field is required; add it"}
    problem = {"type": "urn:thawline:problem:validation", "detail": "The input has 1 fault; see errors.", "errors": [fault]}
    server = address(lambda handler: say(handler, 422, "application/problem+json", json.dumps(problem)))
    with Client(server) as client, pytest.raises(Refused) as refused:
        client.create_study({})
    assert [(found.pointer, found.code, found.message) for found in refused.value.faults] == [tuple(fault.values())]


def test_a_stranger_on_the_port_is_told_by_its_status(address: Callable[[Respond], str]) -> None:
    server = address(lambda handler: say(handler, 502, "text/html", "<h1>Bad gateway</h1>"))
    with Client(server) as client, pytest.raises(Refused, match="502"):
        list(client.studies())


WORKER = {
    "id": "box:1", "host": "box", "pid": 1, "slots": 1, "devices": ["cpu"], "memory": [None], "state": "alive",
    "started_at": "2026-01-01T00:00:00Z", "seen_at": "2026-01-01T00:00:00Z", "silent_seconds": 0.5,
    "running": [{"study": "digits", "number": 7}], "unavailable": [], "set_aside": 0,
}  # fmt: skip


def test_fields_of_a_newer_server_are_ignored_at_every_level(address: Callable[[Respond], str]) -> None:
    newer = {**WORKER, "rank": 3, "running": [{"study": "digits", "number": 7, "rank": 3}]}
    with Client(address(lambda handler: say(handler, 200, "application/json", json.dumps({"workers": [newer], "rank": 3})))) as client:
        (worker,) = client.workers()
    assert (worker.id, worker.running[0].number) == ("box:1", 7)


@pytest.mark.parametrize("changes", [{"state": "asleep"}, {"state": None}, {"slots": "many"}])
def test_an_answer_that_this_version_cannot_read_is_an_error_that_names_the_field(
    address: Callable[[Respond], str], changes: dict[str, object]
) -> None:
    older = {name: value for name, value in {**WORKER, **changes}.items() if value is not None}
    server = address(lambda handler: say(handler, 200, "application/json", json.dumps({"workers": [older]})))
    with Client(server) as client, pytest.raises(UnexpectedAnswer, match=rf"api/v1/workers .*workers\.0\.{next(iter(changes))}: "):
        client.workers()


def test_an_address_where_nobody_listens_is_unreachable() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9"):
        client.study("digits")


def test_names_with_slashes_and_dots_stay_one_part_of_the_path(address: Callable[[Respond], str]) -> None:
    asked: list[str] = []

    def respond(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        say(handler, 404, "text/plain", "")

    with Client(address(respond)) as client, pytest.raises(Refused):
        client.study("a/b c?d")
    assert asked == ["/api/v1/studies/a%2Fb%20c%3Fd"]
