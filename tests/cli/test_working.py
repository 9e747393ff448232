"""The signals that end a worker."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.processes import end_process, environment_of, install_signal_handlers
from service.settings import Settings
from service.worker.supervisor import Supervisor
from tests.processes import alive


class Busy(Supervisor):
    """Takes a lock to leave, as an event does."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.left = threading.Event()

    def leave(self) -> None:
        if self.lock.acquire(timeout=60):
            self.left.set()


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_that_comes_while_a_lock_is_held_does_not_wait_for_itself() -> None:
    worker = Busy()
    install_signal_handlers(worker)
    with worker.lock:
        os.kill(os.getpid(), signal.SIGTERM)
    assert worker.left.wait(60)


def test_a_local_worker_has_the_settings_of_its_server(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, lease_seconds=9, cache_bytes=0, lane_bytes=5)
    assert Settings.from_environment(environment_of(settings)) == settings


def test_a_signal_during_the_search_for_devices_ends_the_worker(tmp_path: Path) -> None:
    """The driver's tool hangs, as it does on a machine whose card has fallen off the bus."""
    tool, asked = tmp_path / "nvidia-smi", tmp_path / "asked"
    tool.write_text(f"#!/bin/sh\necho $$ > {asked}.new && mv {asked}.new {asked}\nexec sleep 600\n")
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "THAW_HOME": str(tmp_path / "home")}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    worker = subprocess.Popen([sys.executable, "-P", "-m", "service.cli", "worker"], env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not asked.exists():
            assert time.monotonic() < deadline and worker.poll() is None
            time.sleep(0.02)
        worker.terminate()
        assert worker.wait(20) == 0
        assert not alive(int(asked.read_text()))
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize(("heeds", "code"), [(True, -signal.SIGTERM), (False, -signal.SIGKILL)])
def test_a_process_that_does_not_heed_sigterm_is_killed(heeds: bool, code: int) -> None:
    ignore = "" if heeds else "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    program = f"import signal, time; {ignore}print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        end_process(process, 60 if heeds else 0.2)
        assert process.returncode == code
