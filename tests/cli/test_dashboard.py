"""`thaw dashboard`: the pages on a database that it never changes."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from service.store import open_store
from service.web.serve import TokenRequired
from tests.cli.conftest import Said
from tests.web.laboratory import Laboratory


def test_it_shows_a_database_while_another_process_writes_to_it(tmp_path: Path, migrated_sqlite: str) -> None:
    command = [sys.executable, "-P", "-m", "service.cli", "dashboard", "--database", migrated_sqlite, "--port", "0"]
    environment = {**os.environ, "THAW_HOME": str(tmp_path / "none")}
    with (
        closing(open_store(migrated_sqlite)) as store,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout
        said = process.stdout.readline()
        assert migrated_sqlite in said
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+", said)
        Laboratory(store).study("written-meanwhile")
        with urllib.request.urlopen(f"{address}/api/v1/studies") as answer:  # noqa: S310
            assert [study["name"] for study in json.load(answer)["studies"]] == ["written-meanwhile"]
        stop = urllib.request.Request(f"{address}/api/v1/studies/written-meanwhile/stop", b"", method="POST")  # noqa: S310
        try:
            urllib.request.urlopen(stop)  # noqa: S310
        except urllib.error.HTTPError as error:
            assert error.code == 403
            error.close()
        else:
            raise AssertionError("the study was stopped")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    assert not (tmp_path / "none").exists()


def test_it_says_what_is_wrong_with_a_database(thaw: Callable[..., Said], tmp_path: Path, migrated_sqlite: str) -> None:
    assert "There is no such file" in thaw("dashboard", "--database", f"sqlite:///{tmp_path}/none.db").err
    (tmp_path / "letter").write_text("Dear reader, " * 100)
    said = thaw("dashboard", "--database", f"sqlite:///{tmp_path}/letter")
    assert said.code == 1 and f"{tmp_path}/letter: This is not a Thawline database" in said.err
    with closing(open_store(migrated_sqlite)) as store, store.writing() as tx:
        tx.execute(text("UPDATE thaw_schema SET version_num = '0001'"))
    assert "run `thaw db upgrade`" in thaw("dashboard", "--database", migrated_sqlite).err
    with closing(open_store(migrated_sqlite)) as store, store.writing() as tx:
        tx.execute(text("UPDATE thaw_schema SET version_num = 'r9999'"))
    assert "install a newer version" in thaw("dashboard", "--database", migrated_sqlite).err


def test_a_password_is_not_shown(thaw: Callable[..., Said]) -> None:
    said = thaw("dashboard", "--port", "0", "--database", "postgresql://thaw:open-sesame@127.0.0.1:1/thaw")
    assert said.code == 1 and "does not answer" in said.err
    assert "open-sesame" not in said.err + said.out


def test_it_asks_for_a_token_where_others_can_reach_it(thaw: Callable[..., Said], migrated_sqlite: str) -> None:
    said = thaw("dashboard", "--host", "0.0.0.0", "--database", migrated_sqlite)  # noqa: S104
    assert said.code == 1 and said.err == f"{TokenRequired('0.0.0.0')}\n"  # noqa: S104
