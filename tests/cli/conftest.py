"""A real server with a real worker on a free loopback port, and the command run in this process."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.cli import main


@dataclass(frozen=True)
class Said:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def thaw(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Runs `thaw` with these arguments."""
    for name in [name for name in os.environ if name.startswith("THAW_")]:
        monkeypatch.delenv(name)

    def run(*arguments: object) -> Said:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Said(int(end.value.code or 0), said.out, said.err)

    return run


@dataclass(frozen=True)
class Served:
    """A running `thaw serve`."""

    address: str
    home: Path
    process: subprocess.Popen[str]


def serve(home: Path, *options: str) -> Served:
    command = [sys.executable, "-P", "-m", "service.cli", "--home", str(home), "serve", "--port", "0", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THAW_")}
    home.mkdir(parents=True, exist_ok=True)
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return Served(found.group(), home, process)
    raise AssertionError((home / "log").read_text())


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Server and worker for all tests of this folder."""
    running = serve(tmp_path_factory.mktemp("served") / "home", "--workers", "1")
    with running.process:
        yield running
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(120) == 0


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers of a test's own."""
    started: list[Served] = []

    def one(*options: str) -> Served:
        started.append(serve(tmp_path / "home", *options))
        return started[-1]

    yield one
    for each in started:
        with each.process:
            each.process.kill()


@pytest.fixture
def study_file(demo_data: Path) -> Callable[..., Path]:
    """A study file beside the data, with relative paths in it."""

    def write(name: str, **changes: Any) -> Path:
        document = {
            "name": name, "data": {"path": "digits", "validation": 0.3},
            "model": {"name": "small_cnn", "weights": "small_cnn.safetensors"},
            "search_space": {"lr": {"type": "float", "low": "LOW", "high": 0.1, "log": True}},
            "fixed": {"epochs": 2, "image_size": 16, "batch_size": 64}, "sampler": {"name": "random"},
            "objective": {"metric": "accuracy", "direction": "maximize"}, "budget": {"trials": 2}, **changes,
        }  # fmt: skip
        file = demo_data / f"{name}.yaml"
        file.write_text(yaml.safe_dump(document).replace("LOW", "1e-3"))
        return file

    return write
