"""People who use the server while its database suffers: they ask whether it lives, look at a study, and queue trials."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx2

PAUSE_SECONDS = 0.05
LIVEZ, READYZ, READ, WRITE = "livez", "readyz", "read", "write"
OUTAGE = 503


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer to a visitor."""

    what: str
    status: int
    asked_at: float  # monotonic seconds
    seconds: float
    problem: str | None  # what is wrong with the shape of an error


class Visitors:
    """Three threads on one server, from the block's beginning to its end. Each trial is queued under one key until it is acknowledged."""

    def __init__(self, server: str, study: str) -> None:
        self.answers = list[Seen]()
        self.acknowledged = list[float]()  # the learning rates of trials that were queued
        self._study = f"{server}/api/v1/studies/{study}"
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=visit, daemon=True) for visit in (self._look_at_health, self._read, self._write)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def count(self, what: str, status: int, since: float = 0.0) -> int:
        """How many were answered so, of those that asked after that time."""
        return sum(one.what == what and one.status == status and one.asked_at >= since for one in list(self.answers))

    def check(self) -> None:
        """It always lived; whatever else it answered was what was asked for, or an outage with its problem and when to come back."""
        assert {one.status for one in self.answers if one.what == LIVEZ} == {200}
        faults = Counter((one.what, one.status, one.problem) for one in self.answers if one.problem)
        assert not faults, faults

    def _look_at_health(self) -> None:
        def look(client: httpx2.Client) -> None:
            self._note(LIVEZ, lambda: client.get(f"{self._server}/livez"))
            self._note(READYZ, lambda: client.get(f"{self._server}/readyz"))

        self._repeat(look)

    def _read(self) -> None:
        def read(client: httpx2.Client) -> None:
            self._note(READ, lambda: client.get(self._study))

        self._repeat(read)

    def _write(self) -> None:
        def write(client: httpx2.Client) -> None:
            lr = 0.1 + len(self.acknowledged) * 1e-6
            body, key = {"params": {"lr": lr}}, {"idempotency-key": f"visitor-{lr!r}"}
            if self._note(WRITE, lambda: client.post(f"{self._study}/trials", json=body, headers=key)) == httpx2.codes.CREATED:
                self.acknowledged.append(lr)

        self._repeat(write)

    def _repeat(self, visit: Callable[[httpx2.Client], None]) -> None:
        with httpx2.Client(timeout=60, trust_env=False) as client:
            while not self._stop.wait(PAUSE_SECONDS):
                visit(client)

    def _note(self, what: str, ask: Callable[[], httpx2.Response]) -> int:
        started = time.monotonic()
        answer = ask()
        seen = Seen(what, answer.status_code, started, time.monotonic() - started, _fault_of(answer))
        self.answers.append(seen)
        return seen.status


def _fault_of(answer: httpx2.Response) -> str | None:
    if answer.is_success:
        return None
    if answer.status_code != OUTAGE:
        return answer.text
    if not answer.headers["content-type"].startswith("application/problem+json"):
        return "not a problem"
    return None if answer.headers.get("retry-after", "").isdigit() else "no Retry-After"
