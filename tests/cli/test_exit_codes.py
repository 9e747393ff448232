"""Exit codes of the command."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cli import test_trial


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "service.cli", *map(str, arguments)]


def redirected(to: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, with standard output redirected by a shell."""
    return subprocess.run(["sh", "-c", f'"$@" {to}', "sh", *command(*arguments)], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "arguments", [("--help",), ("study", "schema"), ("db", "upgrade"), ("data", "inspect", "--quick", "--json", "--data")]
)
def test_an_output_that_cannot_be_written_ends_with_one_sentence_and_1(arguments: tuple[str, ...], demo_data: Path, tmp_path: Path) -> None:
    last = [f"path={demo_data / 'digits'}"] if "--data" in arguments else []
    done = redirected("> /dev/full", "--home", tmp_path, *arguments, *last)
    assert (done.returncode, done.stderr) == (1, "The output cannot be written: No space left on device.\n")


def test_a_reader_that_has_exited_ends_the_command_without_a_message() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command("study", "schema"), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_closed_output_gets_nothing(tmp_path: Path) -> None:
    done = redirected(">&-", "--home", tmp_path, "db", "upgrade")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        yield listening


ARGUMENTS: dict[int, tuple[str, ...]] = {
    0: ("study", "schema"),
    1: ("db", "check"),  # there is no database
    2: ("data", "inspect", "--data", "path=/nowhere"),
    3: ("--server", "http://127.0.0.1:9", "study", "list"),
}


@pytest.mark.parametrize("code", ARGUMENTS)
def test_a_command_ends_with_the_code_of_its_outcome(code: int, tmp_path: Path) -> None:
    done = subprocess.run(command("--home", tmp_path, *ARGUMENTS[code]), capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert bool(done.stderr) is (code > 0) and "Traceback" not in done.stderr


def test_an_unknown_option_is_invalid_input() -> None:
    assert subprocess.run(command("study", "list", "--no-such"), capture_output=True, timeout=120).returncode == 2


def test_ctrl_c_ends_a_command_with_130(silent_server: socket.socket) -> None:
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a suite that runs in the background may ignore the signal
    arguments = command("--server", f"http://127.0.0.1:{silent_server.getsockname()[1]}", "study", "list")
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, preexec_fn=heeding) as process:
        accepted, _ = silent_server.accept()  # the command waits for the answer
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        accepted.close()
    assert process.returncode == 130 and "Traceback" not in err


def test_each_code_of_the_documentation_is_tested() -> None:
    table = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {*ARGUMENTS, *test_trial.CODES, 130}
