"""A program that trains trials by claims over REST and takes no care of its leases: it repeats each call until it is answered."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Literal, TypeVar

from service.client import ClaimKey, Client, Refused, Unreachable
from service.rest_models import ClaimView, ReportedView, TrialView
from service.settings import Settings
from service.store import Store, open_store, queries
from tests.chaos.history import note

STEP_SECONDS, RETRY_SECONDS = 0.2, 0.05
STOPS = ("lease-lost", "trial-closed", "trial-cancelled")

T = TypeVar("T")


def name_of(pid: int) -> str:
    """The process among the workers."""
    return f"rest:claimant-{pid}"


def train(study: str, epochs: str) -> None:
    """Train trials until the study has ended."""
    settings = Settings.from_environment()
    with closing(open_store(settings.database_url)) as store, Client(settings.server) as client:
        while True:
            found = persistently(lambda: client.claim(study, name_of(os.getpid()).removeprefix("rest:")))
            if isinstance(found, ClaimView):
                Claimed(client, store, found).train(int(epochs))
            elif found.final:
                return
            else:
                time.sleep(RETRY_SECONDS)


class Claimed:
    """One claim, with an account of what the server has acknowledged and refused."""

    def __init__(self, client: Client, store: Store, claim: ClaimView) -> None:
        self._client, self._key, self._attempt = client, ClaimKey(claim.claim, claim.token), claim.attempt
        trial = store.read(queries.find_trial, claim.study, claim.number)
        self._facts = {"trial": trial.id, "number": claim.number, "attempt": claim.attempt, "claim": claim.claim, "token": claim.token}
        note("claimed", **self._facts)

    def train(self, epochs: int) -> None:
        """Report each epoch but the last, and finish with it. Ends when a call is refused."""
        for step in range(1, epochs + 1):
            time.sleep(STEP_SECONDS)
            metrics = {"accuracy": self._attempt / 1_000 + step / 100}
            if step == epochs:
                self._call("finish", {"metrics": metrics}, step, "finished", metrics)
            elif not self._call("report", {"step": step, "metrics": metrics}, step) or not self._renewed():
                return

    def _renewed(self) -> bool:
        return self._accepted(lambda: self._client.renew(self._key), {"steps": [], "outcome": None})

    def _call(
        self, verb: Literal["report", "finish"], body: dict[str, Any], step: int, outcome: str | None = None, metrics: Any = None
    ) -> bool:
        answer = ReportedView if verb == "report" else TrialView
        facts = {"steps": [step], "outcome": outcome, "metrics": metrics, "body": body}
        return self._accepted(lambda: self._client.about_claim(answer, verb, self._key, body), facts)

    def _accepted(self, call: Callable[[], Any], facts: dict[str, Any]) -> bool:
        try:
            persistently(call)
        except Refused as refusal:
            if refusal.kind not in STOPS:
                raise
            note("refused", **self._facts, **facts)
            return False
        note("acknowledged", **self._facts, **facts)
        return True


def persistently(call: Callable[[], T]) -> T:
    """The result of the call, which is repeated while no server answers or the database is away."""
    while True:
        try:
            return call()
        except Unreachable:
            pass
        except Refused as refusal:
            if not refusal.temporary:
                raise
        time.sleep(RETRY_SECONDS)
