"""Clients that outlive servers: listeners to a study's events, and callers who send each request until it is answered."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

PAUSE_SECONDS = 0.05
TRY_AGAIN = (429, 503)
REPEATED = 5  # how many of its first requests a caller sends again and again, when all have been answered


class Listener(threading.Thread):
    """Follows a study's events as a browser does: by Last-Event-ID, at whatever address the server has now, until the study has ended."""

    def __init__(self, address: Callable[[], str], study: str) -> None:
        super().__init__(daemon=True)
        self.heard = list[tuple[int, str]]()  # sequence and kind
        self.connections = 0
        self.gone = threading.Event()  # set by whoever wants it to give up
        self._address, self._study = address, study
        self.start()

    def run(self) -> None:
        while not self.gone.is_set() and not self._ended():
            time.sleep(PAUSE_SECONDS)

    def _ended(self) -> bool:
        last = {"Last-Event-ID": f"{self._study}-{self.heard[-1][0]}"} if self.heard else {}
        url = f"{self._address()}/api/v1/studies/{self._study}/events"
        timeout = httpx2.Timeout(5, read=45)
        try:
            with httpx2.stream("GET", url, headers=last, timeout=timeout, trust_env=False) as answer:
                self.connections += answer.status_code == httpx2.codes.OK
                return answer.status_code == httpx2.codes.NO_CONTENT or self._listen(answer.iter_lines())
        except httpx2.TransportError:
            return False

    def _listen(self, lines: Iterator[str]) -> bool:
        """Whether the study's end was told before the stream broke off."""
        for line in lines:
            if line.startswith("data: "):
                body = json.loads(line.removeprefix("data: "))
                if body["kind"] == "end":
                    return True
                self.heard.append((body["seq"], body["kind"]))
        return False


class Caller(threading.Thread):
    """Queues trials one after the other, each under a key of its own until it is answered; then repeats some of the requests."""

    def __init__(self, address: Callable[[], str], study: str, rates: list[float]) -> None:
        super().__init__(daemon=True)
        self.answers = dict[float, str]()  # by the learning rate that was asked for
        self.unanswered = self.repeated = 0
        self.faults = list[str]()
        self.gone = threading.Event()
        self._address, self._study, self._rates = address, study, rates
        self.start()

    def run(self) -> None:
        with httpx2.Client(timeout=30, trust_env=False) as client:
            for rate in self._rates:
                self.answers[rate] = self._until_answered(client, rate)
            while not self.gone.wait(PAUSE_SECONDS):
                for rate in self._rates[:REPEATED]:
                    self.repeated += 1
                    if (again := self._until_answered(client, rate)) != self.answers[rate] and not self.gone.is_set():
                        self.faults.append(f"{rate}: {self.answers[rate]} the first time, later {again}")

    def _until_answered(self, client: httpx2.Client, rate: float) -> str:
        """The body of the answer; empty when it gave up."""
        request: dict[str, Any] = {"json": {"params": {"lr": rate}}, "headers": {"Idempotency-Key": f"queue-{rate!r}"}}
        while not self.gone.is_set():
            try:
                answer = client.post(f"{self._address()}/api/v1/studies/{self._study}/trials", **request)
            except httpx2.TransportError:
                self.unanswered += 1
            else:
                if answer.status_code == httpx2.codes.CREATED:
                    return answer.text
                if answer.status_code not in TRY_AGAIN:
                    self.faults.append(f"{rate}: {answer.status_code} {answer.text}")
            time.sleep(PAUSE_SECONDS)
        return ""
