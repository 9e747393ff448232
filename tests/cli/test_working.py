"""The signals that end a worker."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.processes import environment_of, install_signal_handlers
from service.settings import Settings
from service.worker.supervisor import Supervisor


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
