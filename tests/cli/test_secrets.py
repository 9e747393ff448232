"""What other users of the machine, a trainer, or a foreign file must not get: the home, memory, passwords, threads, links."""

import io
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from sqlalchemy import make_url

from service.cli import console, training
from service.cli.files import write_whole
from service.settings import Settings
from service.store import open_store, without_password
from service.worker.devices import Slot, cores

PASSWORDS = {
    "postgresql://thaw:p%40ss-word@db/thaw": "p@ss-word",
    "postgresql://thaw:a/b/c@db/thaw": "a/b/c",
    "postgresql://thaw:x[y]z@db/thaw": "x[y]z",
    "postgresql://thaw:q?r#s@db/thaw": "q?r#s",
    "postgresql://db/thaw?user=u&password=s3cret-word": "s3cret-word",
    "postgresql://db/thaw?password=two%20words%2B&user=u": "two words+",
    "postgresql://u:first-one@db/thaw?sslpassword=second-one": "second-one",
}


@pytest.mark.parametrize("url", PASSWORDS)
def test_a_password_is_accepted_as_sqlalchemy_accepts_it_and_masked_wherever_it_stands(url: str) -> None:
    password, parsed = PASSWORDS[url], make_url(url)
    assert password in (parsed.password, parsed.query.get("password"), parsed.query.get("sslpassword"))
    open_store(url).close()
    assert password not in without_password(url) and "thaw" in without_password(url)
    settings = Settings(database_url=url)
    lines = console.JsonFormatter("server", console.secrets_of(settings))
    record = logging.LogRecord("thawline", logging.ERROR, __file__, 1, "cannot reach %s with %s", (url, password), None)
    written = lines.format(record)
    assert password not in written and console.MASK in written
    assert quote(password) not in written and password.replace(" ", "%20") not in written


def test_the_password_of_an_mlflow_server_is_masked() -> None:
    settings = Settings(mlflow_uri="https://ann:s3cret%2Dword@mlflow.example.org/base")
    written = console.JsonFormatter("server", console.secrets_of(settings)).format(
        logging.LogRecord("thawline", logging.ERROR, __file__, 1, "%s, s3cret-word", (settings.mlflow_uri,), None)
    )
    assert "s3cret" not in written and "mlflow.example.org" in written
    assert console.secrets_of(Settings(mlflow_uri="http://mlflow:5000")) == ()


def test_a_process_starts_its_journal_with_any_password() -> None:
    settings = Settings(database_url="postgresql://thaw:x[y]z@db/thaw")
    console.configure_logging(settings, "server", io.StringIO())
    assert console.secrets_of(settings) == ("x[y]z",)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_its_owner_s_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "new" / "home")
    assert settings.protect_home() is None and mode_of(settings.home) == 0o700


def test_an_open_home_is_closed_and_that_is_said_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    settings.home.chmod(0o755)
    said = settings.protect_home()
    assert said and "755" in said and "chmod 2770" in said and mode_of(settings.home) == 0o700
    assert settings.protect_home() is None


@pytest.mark.parametrize(("before", "after"), [(0o2770, 0o2770), (0o2775, 0o2770), (0o2755, 0o2700), (0o770, 0o700)])
def test_a_home_is_shared_with_its_group_on_purpose_alone(tmp_path: Path, before: int, after: int) -> None:
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    settings.home.chmod(before)
    settings.protect_home()
    assert mode_of(settings.home) == after and settings.home_is_shared == (after == 0o2770)


PROBE = """\
import os, sys
from service.cli.processes import restrict_access
from service.settings import Settings
restrict_access(Settings.from_environment())
open(os.path.join(os.environ["THAW_HOME"], "file"), "w").close()
import ctypes
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == "linux" else 0)
"""


def test_files_of_a_process_are_its_user_s_and_its_memory_cannot_be_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {**os.environ, "THAW_HOME": str(home)}
    asked = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "0"  # PR_GET_DUMPABLE
    assert mode_of(home / "file") == 0o600


def test_a_trainer_s_environment_has_no_password() -> None:
    inherited = {"THAW_TOKEN": "t", "THAW_DATABASE_URL": "u", "PGPASSWORD": "p", "PATH": "/bin"}
    assert Slot(0, None, 1).environment(inherited) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("recorded", ["1000000000", "9" * 5_000, "0", "²", "-1", ""])
def test_a_foreign_file_asks_for_no_more_threads_than_there_are_cores(recorded: str) -> None:
    assert training._slot_like(SimpleNamespace(environment={"threads": recorded})).threads == cores()  # type: ignore[arg-type]
    assert training._slot_like(SimpleNamespace(environment={"threads": "1"})).threads == 1  # type: ignore[arg-type]


def test_a_link_beside_an_output_is_not_followed(tmp_path: Path) -> None:
    """Its name was to be guessed from that of the file and of the process."""
    victim, output = tmp_path / "victim", tmp_path / "best.yaml"
    victim.write_text("mine")
    (tmp_path / f".best.yaml.{os.getpid()}.tmp").symlink_to(victim)
    write_whole(output, "theirs")
    assert output.read_text() == "theirs" and not output.is_symlink() and victim.read_text() == "mine"
    assert {file.name for file in tmp_path.iterdir()} == {"victim", "best.yaml", f".best.yaml.{os.getpid()}.tmp"}
