"""Exit codes of the command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


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
