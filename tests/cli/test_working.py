"""The signals that end a worker."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from service.cli.working import heed_signals
from service.worker.supervisor import Worker


class Busy(Worker):
    """Takes a lock to leave, as an event does."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.left = threading.Event()

    def leave(self) -> None:
        if self.lock.acquire(timeout=2):
            self.left.set()


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_that_comes_while_a_lock_is_held_does_not_wait_for_itself() -> None:
    worker = Busy()
    heed_signals(worker)
    with worker.lock:
        os.kill(os.getpid(), signal.SIGTERM)
    assert worker.left.wait(5)
