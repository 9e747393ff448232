"""Runs the two servers of the comparison, each in its own process on a copy of the same trials."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_server

import psutil

from bench.dashboard.database import NAME

STARTS_WITHIN = 60.0  # seconds
END_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, and the address of its study page."""

    page: str
    process: psutil.Process

    @property
    def megabytes(self) -> float:
        """Private memory of the process, in MB."""
        return float(self.process.memory_full_info().uss) / 1e6


@contextmanager
def ours(folder: Path) -> Iterator[Server]:
    """Run `thaw serve` without workers on FOLDER/thawline.db."""
    environment = {
        **os.environ, "THAW_HOME": str(folder / "home"), "THAW_DATABASE_URL": f"sqlite:///{folder / 'thawline.db'}",
        "THAW_HEARTBEAT_SECONDS": "60", "THAW_LEASE_SECONDS": "3600",  # because no worker renews the leases of its trials
    }  # fmt: skip
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--workers", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout
            found = re.search(r"http://\S+", started.stdout.readline())
            assert found, "thaw serve ended at once"
            yield Server(f"{found.group()}/studies/{NAME}", psutil.Process(started.pid))
        finally:
            _end(started)


@contextmanager
def theirs(folder: Path) -> Iterator[Server]:
    """Run optuna-dashboard on FOLDER/optuna.db."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), f"sqlite:///{folder / 'optuna.db'}", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        try:
            _answers(f"http://127.0.0.1:{port}/api/meta")
            yield Server(f"http://127.0.0.1:{port}/dashboard/studies/1", psutil.Process(started.pid))
        finally:
            _end(started)


def free_port() -> int:
    """A free port of the loopback address."""
    with create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(address: str) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()  # noqa: S310
            return
        except urllib.error.URLError:
            assert time.monotonic() < deadline, f"nobody answers at {address}"
            time.sleep(0.1)


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
