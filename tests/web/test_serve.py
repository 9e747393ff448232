"""The server process: where it may listen, how it ends, what it says to what is not HTTP."""

import asyncio
import contextlib
import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service.settings import Settings
from service.web import serve as serving
from service.web.serve import AddressUnavailable, TokenRequired, _log_accept_errors_once, require_token, serve
from tests.web.laboratory import TOKEN
from tests.web.problem import assert_problem
from tests.web.server import Served


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "thaw.example", ""])  # noqa: S104  (none is bound)
def test_an_address_that_others_reach_needs_a_token(settings: Settings, host: str) -> None:
    with pytest.raises(TokenRequired, match="THAW_TOKEN"):
        serve(settings, host, 0)
    require_token(host, TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_loopback_address_needs_none(host: str) -> None:
    require_token(host, None)


def test_a_port_in_use_is_named(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AddressUnavailable, match=str(taken.getsockname()[1])):
        serve(settings, "127.0.0.1", taken.getsockname()[1])


def test_a_server_starts_on_an_empty_folder_and_ends_when_it_is_told(tmp_path: Path) -> None:
    stop, ready = threading.Event(), threading.Event()
    address: list[str] = []

    def note(found: str) -> None:
        address.append(found)
        ready.set()

    thread = threading.Thread(target=serve, args=(Settings(home=tmp_path / "new"),), kwargs={"port": 0, "stop": stop, "ready": note})
    thread.start()
    assert ready.wait(120)
    assert httpx2.get(f"{address[0]}/api/v1/studies").json() == {"studies": [], "trends": {}, "next": None}
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_one_connection_too_many_is_told_to_come_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "most_connections", lambda: 2)
    stop, found = threading.Event(), queue.Queue[str]()
    thread = threading.Thread(target=serve, args=(settings,), kwargs={"port": 0, "stop": stop, "ready": found.put}, daemon=True)
    thread.start()
    address = found.get(timeout=120)
    with httpx2.Client(base_url=address) as first, httpx2.Client(base_url=address) as second:
        assert first.get("/livez").status_code == second.get("/livez").status_code == 200
        refused = httpx2.get(f"{address}/livez")
        assert_problem(refused, 503, "busy")
        assert int(refused.headers["retry-after"]) > 0 and refused.headers["connection"] == "close"
        assert first.get("/livez").status_code == 200
    assert httpx2.get(f"{address}/livez").status_code == 200
    stop.set()
    thread.join(60)


def said(served: Served, text: bytes) -> Iterator[bytes]:
    host, port = served.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(text)
        while part := connection.recv(65_536):
            yield part


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http_gets_a_problem_too(live: Served, text: bytes) -> None:
    head, _, body = b"".join(said(live, text + b"\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"content-type: application/problem+json" in head
    assert json.loads(body)["type"] == "urn:thawline:problem:malformed-request"


def test_a_smuggled_second_body_length_is_refused(live: Served) -> None:
    text = b"POST /api/v1/studies HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
    assert b"".join(said(live, text)).startswith(b"HTTP/1.1 400 ")


LIMITED = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from service.settings import Settings
from service.web.serve import serve
serve(Settings.from_environment(), port=0)
"""


def test_more_idle_connections_than_open_files_leave_a_server_that_answers(tmp_path: Path) -> None:
    """The soft limit of 64 is raised to the hard one of 512, and the connections stay below that."""
    errors = tmp_path / "stderr"
    with errors.open("w") as log:
        environment = {**os.environ, "THAW_HOME": str(tmp_path / "home")}
        process = subprocess.Popen([sys.executable, "-c", LIMITED, "64", "512"], env=environment, stderr=log)
    idle = list[socket.socket]()
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"http://127.0.0.1:(\d+)", errors.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, errors.read_text()
            time.sleep(0.05)
        port = int(found[1])
        idle += [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(300)]
        with socket.create_connection(("127.0.0.1", port), timeout=60) as one_more:
            one_more.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b" 503 " in one_more.recv(200)
        for one in idle:
            one.close()
        deadline = time.monotonic() + 120
        while True:  # until the server has noticed that they are gone
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(f"http://127.0.0.1:{port}/livez").status_code == 200:
                    break
            assert time.monotonic() < deadline
        assert errors.stat().st_size < 10_000
    finally:
        for one in idle:
            one.close()
        process.terminate()
        assert process.wait(60) is not None


def test_connections_that_cannot_be_accepted_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    _log_accept_errors_once(loop)
    for _ in range(300):
        loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": OSError(24, "Too many open files")})
    loop.call_exception_handler({"message": "another fault"})
    loop.close()
    assert caplog.text.count("Too many open files") == 1 and "another fault" in caplog.text
