"""Shells complete commands, options and names. The library that the command uses writes the scripts."""

import subprocess
import sys
from typing import Any

import httpx2
import pytest

SHELLS = {
    "bash": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
    "zsh": lambda words: {"_TYPER_COMPLETE_ARGS": " ".join(words)},
    "fish": lambda words: {"_TYPER_COMPLETE_ARGS": " ".join(words), "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


def thaw(**environment: str) -> str:
    start = [sys.executable, "-P", "-c", "import sys; sys.argv[0] = 'thaw'; from service.cli import main; main()"]
    done = subprocess.run(start, capture_output=True, text=True, timeout=120, env={"PATH": "/usr/bin:/bin", **environment})
    assert done.stderr == ""
    return done.stdout


def completed(shell: str, *words: str, **environment: str) -> str:
    return thaw(_THAW_COMPLETE=f"complete_{shell}", **SHELLS[shell](words), **environment)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_gets_its_script(shell: str) -> None:
    assert "_THAW_COMPLETE" in thaw(_THAW_COMPLETE=f"source_{shell}")


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_options_and_names_of_studies_are_completed(shell: str, served: Any) -> None:
    assert "watch" in completed(shell, "thaw", "study", "wat")
    assert "--follow" in completed(shell, "thaw", "study", "log", "--fo")
    document = {
        "name": "to-complete", "data": {"path": "/nowhere", "location": "workers"}, "model": {"name": "squeezenet1_1"},
        "search_space": {"lr": {"type": "float", "low": 0.001, "high": 0.1}}, "budget": {"trials": 1},
        "objective": {"metric": "accuracy", "direction": "maximize"},
    }  # fmt: skip
    created = httpx2.post(f"{served.address}/api/v1/studies", json=document)
    assert created.status_code in (201, 409), created.text
    assert "to-complete" in completed(shell, "thaw", "study", "show", "to-c", THAW_SERVER=served.address)
    assert "to-complete" in completed(shell, "thaw", "--server", served.address, "study", "show", "to-c")
    assert "to-complete" not in completed(shell, "thaw", "study", "show", "no-such", THAW_SERVER=served.address)


def test_without_a_server_no_name_is_completed() -> None:
    assert completed("bash", "thaw", "study", "show", "", THAW_SERVER="http://127.0.0.1:9").strip() == ""
