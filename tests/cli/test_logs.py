"""A trial's log on the terminal."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service import operations
from service.cli.watching import show_log
from service.client import Client, Refused
from service.domain.records import Claim
from service.operations import Released, Write
from service.settings import Settings
from service.store import open_store
from service.store.migrate import upgrade
from tests.web.laboratory import Laboratory
from tests.web.server import running

Thaw = Callable[..., Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("logged")
    upgrade(f"sqlite:///{home / 'thawline.db'}")
    return home


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    """A server without workers, which the tests share; each takes a study name of its own."""
    with running(home, THAW_HEARTBEAT_SECONDS="60") as server:  # the laboratory's leases have no worker that renews them
        yield server.address


@pytest.fixture
def lab(home: Path) -> Iterator[Laboratory]:
    """The laboratory of that server's store."""
    store = open_store(f"sqlite:///{home / 'thawline.db'}")
    lab = Laboratory(store)
    yield lab
    lab.stop_all()
    store.close()


def write(lab: Laboratory, claim: Claim, text: str, **said: Any) -> None:
    assert operations.record(lab.store, [Write(claim.lease, log=text, **said)]) == []


def until_shown(capsys: pytest.CaptureFixture[str], text: str) -> str:
    """All output up to now, once the text is in it."""
    shown, end = "", time.monotonic() + 120
    while text not in shown:
        assert time.monotonic() < end, shown
        time.sleep(0.01)
        shown += capsys.readouterr().out
    return shown


def test_a_log_is_shown_attempt_by_attempt(thaw: Thaw, address: str, lab: Laboratory) -> None:
    lab.study("shown")
    write(lab, lab.claim_from("shown"), "first\n", outcome=Released())
    write(lab, lab.claim_from("shown"), "second\n")
    shown = thaw("--server", address, "study", "log", "shown", "0")
    assert (shown.code, shown.out) == (0, "second\n")
    assert thaw("--server", address, "study", "log", "shown", "0", "--attempt", "1", "--follow").out == "first\n"
    missing = thaw("--server", address, "study", "log", "shown", "700")
    assert (missing.code, missing.err) == (1, "The study has no trial 700.\n")
    unknown = thaw("--server", address, "study", "log", "shown", "0", "--attempt", "9")
    assert unknown.code == 1 and "no such attempt" in unknown.err


def test_a_log_is_followed_through_all_attempts_to_the_trials_end(
    address: str, lab: Laboratory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.watching.LOOK_SECONDS", 0.05)
    lab.study("followed")
    first = lab.claim_from("followed")
    follower = threading.Thread(
        target=show_log, args=(Settings(server=address), "followed", 0, None), kwargs={"follow": True, "as_json": False}
    )
    follower.start()
    lines = [f"line {number}\n" for number in range(500)]
    for line in lines[:250]:
        write(lab, first, line)
    reported = until_shown(capsys, lines[0])  # a follower that starts after the second attempt begins with that one
    write(lab, first, "handed back\n", outcome=Released())
    second = lab.claim_from("followed")
    for line in lines[250:]:
        write(lab, second, line)
    assert follower.is_alive()
    lab.finish(second, 0.5)
    follower.join(120)
    assert not follower.is_alive()
    reported += capsys.readouterr().out
    assert reported == "".join([*lines[:250], "handed back\n", "--- attempt 2, on worker-1\n", *lines[250:]])


def test_a_log_is_followed_while_the_database_does_not_answer(
    address: str, lab: Laboratory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.watching.LOOK_SECONDS", 0.05)
    lab.study("interrupted")
    claim = lab.claim_from("interrupted")
    write(lab, claim, "all of it\n")
    lab.finish(claim, 0.5)
    refusals = [Refused(503, "unavailable", "The database does not answer; try again.")] * 3
    real = Client.log

    def log(self: Client, *arguments: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return real(self, *arguments)

    monkeypatch.setattr(Client, "log", log)
    with pytest.raises(Refused):
        show_log(Settings(server=address), "interrupted", 0, None, follow=False, as_json=False)
    show_log(Settings(server=address), "interrupted", 0, None, follow=True, as_json=False)
    assert capsys.readouterr().out == "all of it\n" and not refusals
