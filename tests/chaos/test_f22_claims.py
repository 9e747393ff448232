"""F22: claimants over REST are killed and frozen beyond their leases, servers restarted, answers lost, and wrong tokens tried."""

import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from service import operations
from service.domain.records import Study, Trial
from service.domain.states import TrialState
from tests.chaos.checker import check
from tests.chaos.claimants import name_of
from tests.chaos.conftest import MakeLab
from tests.chaos.faults import lossy
from tests.chaos.lab import LONG, Lab, Process

CLAIMANTS, EPOCHS = 4, 4
ROUNDS, LOST = (10, 3) if LONG else (1, 1)  # in each round so many claimants are killed, and so many frozen
TRIALS = 100_000  # more than are trained until the study is stopped
SERVER = {"THAW_WRITES_PER_SECOND": "10000", "THAW_CHAOS_FAULTS": lossy.__name__}
LIE = {"accuracy": 0.999}
CALLS: Mapping[str, Any] = {
    "report": {"step": EPOCHS, "metrics": LIE}, "finish": {"metrics": LIE}, "heartbeat": None, "fail": {}, "release": {},
}  # fmt: skip
STALE = {"lease-lost", "trial-closed", "trial-cancelled"}


class Scenario:
    """Claimants, and the server that they share."""

    def __init__(self, lab: Lab, http: httpx2.Client) -> None:
        self.lab, self.study = lab, lab.study(trials=TRIALS, epochs=EPOCHS)
        self.http = http
        self.server = lab.serve(**SERVER)
        self.claimants = [self._started() for _ in range(CLAIMANTS)]

    def _started(self) -> Process:
        return self.lab.start("claim", self.study.id, str(EPOCHS), THAW_SERVER=self.server.address)

    def in_the_middle(self) -> tuple[Process, Trial]:
        """A claimant with a trial on which it has reported, not yet at its end, and the trial; the claimant is stopped by SIGSTOP."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            time.sleep(0.02)
            busy = {
                trial.worker: trial
                for trial in self.lab.trials(self.study)
                if trial.state is TrialState.RUNNING and 0 < trial.step < EPOCHS - 1
            }
            for one in self.claimants:
                if (trial := busy.get(name_of(one.pid))) is not None:
                    one.signal(signal.SIGSTOP)
                    time.sleep(0.1)  # what it has sent arrives
                    now = self.lab.trials(self.study)[trial.number]
                    if now.state is TrialState.RUNNING and now.attempt == trial.attempt:
                        self.claimants.remove(one)
                        return one, now
                    one.signal(signal.SIGCONT)
        raise AssertionError("no claimant is in the middle of a trial")

    def lose(self, kill: bool) -> tuple[Process, Trial]:
        """Kill or freeze a claimant in the middle of a trial, and start another one."""
        one, trial = self.in_the_middle()
        if kill:
            one.kill()
        self.claimants.append(self._started())
        self.lab.counts["claimants killed" if kill else "claimants frozen"] += 1
        return one, trial

    def restart(self, kill: bool) -> None:
        """Kill the server or end it, and start the next one at its address. Calls are acknowledged again."""
        port = self.server.address.rpartition(":")[2]
        if kill:
            self.server.kill()
        else:
            assert self.server.end(60) == 0, self.server.said()
        self.server = self.lab.serve(**SERVER, THAW_CHAOS_PORT=port)
        before = len(self.lab.reported("acknowledged"))
        self.lab.until(lambda: len(self.lab.reported("acknowledged")) > before, "calls are acknowledged again")
        self.lab.counts["servers killed" if kill else "servers ended"] += 1

    def moved_on(self, trial: Trial) -> bool:
        """Whether another attempt has the trial."""
        return self.lab.trials(self.study)[trial.number].attempt > trial.attempt

    def refused(self, trial: Trial) -> bool:
        """Whether a call of this attempt was refused."""
        return any((line["number"], line["attempt"]) == (trial.number, trial.attempt) for line in self.lab.reported("refused"))

    def answer(self, claim: str, token: str, verb: str, body: Any) -> tuple[int, str]:
        """Status of the answer, and the kind of its problem; a server that loses requests is asked again."""
        while True:
            try:
                address = f"{self.server.address}/api/v1/claims/{claim}/{verb}"
                answer = self.http.post(address, json=body or {}, headers={"claim-token": token})
            except httpx2.TransportError:
                continue
            if answer.status_code != httpx2.codes.SERVICE_UNAVAILABLE:
                return answer.status_code, answer.json().get("type", "").rpartition(":")[2]

    def try_late(self, number: int, attempt: int) -> None:
        """I39, T22: what an attempt sends after another one has its trial is refused, and so is its token for the next attempt."""
        claims = {(line["number"], line["attempt"]): line for line in self.lab.reported("claimed")}
        line = claims[number, attempt]
        for verb, body in CALLS.items():
            answer = self.answer(line["claim"], line["token"], verb, body)
            assert answer[0] == 409 and answer[1] in STALE, f"I39: {verb} of attempt {attempt} after its lease: {answer}"
            self.lab.counts["late writes refused"] += 1
        if (after := claims.get((number, attempt + 1))) is not None:  # otherwise the worker process has it
            self._try_token(after["claim"], line["token"], "reused tokens refused")

    def try_foreign(self) -> None:
        """T22: the token of another claim, of trials that run and of those that have ended."""
        for line, other in pairwise(self.lab.reported("claimed")[-3:]):
            self._try_token(line["claim"], other["token"], "foreign tokens refused")

    def _try_token(self, claim: str, token: str, count: str) -> None:
        for verb, body in CALLS.items():
            answer = self.answer(claim, token, verb, body)
            assert answer == (403, "claim-token-refused"), f"T22: {verb} with the token of another claim: {answer}"
            self.lab.counts[count] += 1

    def repeat_ends(self) -> None:
        """I39: the same end again is a success, another one is refused."""
        for line in [line for line in self.lab.reported("acknowledged") if line["outcome"] == "finished" and "claim" in line][-3:]:
            answer = self.answer(line["claim"], line["token"], "finish", line["body"])
            assert answer[0] == 200, f"I39: an end that was acknowledged is refused when it is repeated: {answer}"
            assert self.answer(line["claim"], line["token"], "finish", {"metrics": LIE}) == (409, "trial-closed"), "I39"
            self.lab.counts["ends repeated"] += 1


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=60, trust_env=False) as client:
        yield client


def test_claims_over_rest_keep_what_leases_promise(make_lab: MakeLab, http: httpx2.Client) -> None:
    """I39, I1, I7, I8, I15, I24, T22."""
    lab = make_lab(lease_seconds=2.5)
    scenario = Scenario(lab, http)
    study = scenario.study
    for round in range(ROUNDS):
        frozen = [scenario.lose(kill=False) for _ in range(LOST)]
        lost = [trial for _, trial in frozen] + [scenario.lose(kill=True)[1] for _ in range(LOST)]
        for trial in lost:
            lab.until(partial(scenario.moved_on, trial), "another attempt has the trial")
            scenario.try_late(trial.number, trial.attempt)
        for one, trial in frozen:
            one.signal(signal.SIGCONT)
            scenario.claimants.append(one)
            lab.until(partial(scenario.refused, trial), "what a frozen one sends is refused")
        if round == 0:
            lab.work("--step", "0.2")  # from now on, some trials are trained by a worker process
        scenario.try_foreign()
        scenario.restart(kill=True)
        scenario.restart(kill=False)
    operations.stop_study(lab.store, study.id)
    lab.until(lambda: not any(one.runs for one in scenario.claimants), "the claimants end by themselves")
    assert {one.exit_code for one in scenario.claimants} == {0}, lab.last_words()
    before = lab.now(study).seq
    for trial in lost:
        scenario.try_late(trial.number, trial.attempt)
    scenario.try_foreign()
    scenario.repeat_ends()
    assert lab.now(study).seq == before, "I39: a refused or repeated call has an event"
    nobody_shares_an_attempt(lab, study)
    for kind in ("request lost", "answer lost"):
        lab.counts[f"{kind} of an end"] = sum(line["path"].endswith("/finish") for line in lab.reported(kind))
    lab.measured["calls refused"] = len(lab.reported("refused"))
    check(lab, study, interval=EPOCHS)
    lab.tell("F22")


def nobody_shares_an_attempt(lab: Lab, study: Study) -> None:
    """I7, I39: each attempt was given to one claimant."""
    claimed = Counter((line["number"], line["attempt"]) for line in lab.reported("claimed"))
    assert max(claimed.values()) == 1, f"I39: an attempt went to two: {claimed.most_common(3)}"
    others = [trial for trial in lab.trials(study) if trial.worker and not trial.worker.startswith("rest:")]
    lab.counts["claims"] = claimed.total()
    lab.measured["trials of the worker process"] = len(others)
