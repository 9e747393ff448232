"""What processes say of themselves: a line a record, no secrets, nothing that a terminal would obey."""

import io
import json
import logging
import sys
from typing import Any

import pytest

from service.cli import console
from service.settings import Settings

SETTINGS = Settings(database_url="postgresql://thaw:p%40ss-word@db/thaw", token="correct-horse-battery-staple")
HOSTILE = "trial \x1b[31m\x1b]0;owned\x07 failed\nERROR forged line\r\u202e\x85 by correct-horse-battery-staple, p%40ss-word and p@ss-word"


def record(message: str, *, broken: bool = False) -> logging.LogRecord:
    failure = None
    if broken:
        try:
            raise ValueError("p@ss-word\nsecond line")
        except ValueError:
            failure = sys.exc_info()
    return logging.LogRecord("thawline.worker", logging.WARNING, __file__, 1, "%s", (message,), failure)


@pytest.mark.parametrize("sentences", [False, True])
@pytest.mark.parametrize("broken", [False, True])
def test_a_record_is_one_line_without_secrets_or_controls(sentences: bool, broken: bool) -> None:
    line = console.JsonFormatter("worker", console.secrets_of(SETTINGS), sentences).format(record(HOSTILE, broken=broken))
    assert line.isprintable() and len(line.splitlines()) == 1
    for secret in console.secrets_of(SETTINGS):
        assert secret not in line
    assert console.MASK in line and "forged line" in line


def test_a_line_is_a_json_object_that_says_who_and_when() -> None:
    reported = json.loads(console.JsonFormatter("worker", ()).format(record("slot 0 is idle", broken=True)))
    assert reported["message"] == "slot 0 is idle" and reported["process"] == "worker" and reported["level"] == "warning"
    assert "ValueError" in reported["error"] and reported["at"].endswith("+00:00")


def test_a_process_keeps_its_journal_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    written = io.StringIO()
    console.configure_logging(SETTINGS, "server", written)
    logging.getLogger("thawline.web").error("a token: %s", SETTINGS.token)
    assert json.loads(written.getvalue())["message"] == f"a token: {console.MASK}"


def test_no_command_takes_a_secret_where_ps_shows_it() -> None:
    import typer

    from service.cli.commands import app

    def options(command: Any) -> set[str]:
        own = {option for parameter in command.params for option in parameter.opts}
        return own.union(*(options(below) for below in getattr(command, "commands", {}).values()))

    found = options(typer.main.get_command(app))
    assert len(found) > 8
    assert not [name for name in found if any(word in name for word in ("token", "key", "password", "secret"))], found
