"""Trials that a script trains itself: `with study.claim() as trial:`, on a real server without workers."""

import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thawline
from service import client as rest
from service.client import Refused, Unreachable
from service.rest_models import TrialView
from tests.serving import served
from tests.web.laboratory import study_document
from thawline import Client, LeaseLost, NothingToClaim, Study, Trial, TrialCancelled, claims

THAW = Path(sys.executable).parent / "thaw"
LEASE_SECONDS, HEARTBEAT_SECONDS = 6.0, 0.5
TRUST_SECONDS = LEASE_SECONDS - 2 * HEARTBEAT_SECONDS
MEDIAN = {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 0}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server without workers, with short leases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("THAW_DATABASE_URL", raising=False)
        patch.setenv("THAW_LEASE_SECONDS", str(LEASE_SECONDS))
        patch.setenv("THAW_HEARTBEAT_SECONDS", str(HEARTBEAT_SECONDS))
        with served(THAW, tmp_path_factory.mktemp("claims") / "home", workers=0) as address, Client(address) as opened:
            yield opened


@pytest.fixture
def study(client: Client, request: pytest.FixtureRequest) -> Study:
    return create(client, request.node.name[-100:].strip("[]"))


def create(client: Client, name: str, **changes: Any) -> Study:
    return client.create(study_document(name, **changes))


def now(study: Study, trial: Trial) -> TrialView:
    return study.trials()[trial.number]


def test_a_block_that_ends_completes_its_trial(study: Study) -> None:
    with study.claim("notebook") as trial:
        assert (trial.number, trial.attempt, trial.phase, trial.last_step) == (0, 1, "search", 3)
        assert trial.params.keys() == {"lr", "optimizer"} and trial.fixed["epochs"] == 3
        assert trial.report(accuracy=np.float32(0.5), loss=1) is False
        assert trial.report(step=3, accuracy=0.75, loss=math.nan) is False
        assert now(study, trial).seed == trial.seed
    done = now(study, trial)
    assert (done.state, done.value, done.step, done.worker) == ("complete", 0.75, 3, "rest:notebook")
    assert done.metrics == {"accuracy": 0.75, "loss": None}
    assert repr(trial).startswith("<Trial 0, attempt 1, search: {'lr': ")


def test_a_loop_trains_all_trials(client: Client) -> None:
    study = create(client, "loop", budget={"trials": 3})
    for trial in study.claims():
        with trial:
            trial.finish(accuracy=0.1 * trial.number)
            trial.finish()  # without effect
    assert [one.value for one in study.trials()] == pytest.approx([0.0, 0.1, 0.2])
    assert study.refresh().state == "complete"
    with pytest.raises(NothingToClaim, match="The study is complete") as nothing:
        study.claim()
    assert (nothing.value.reason, nothing.value.final) == ("finished", True)


def test_a_claim_waits_for_a_trial_or_says_that_there_is_none_now(client: Client) -> None:
    study = create(client, "waits", budget={"trials": 2, "parallel": 1})
    first = study.claim()
    with pytest.raises(NothingToClaim) as nothing:
        study.claim(wait=False)
    assert (nothing.value.reason, nothing.value.final) == ("running", False)
    first.release("the machine is needed")
    again = study.claim()
    assert (again.number, again.attempt) == (0, 2)
    again.finish(accuracy=0.5)


@pytest.mark.parametrize(
    ("error", "state", "reason", "detail"),
    [
        (ValueError("a layer\nis missing"), "failed", "script_error", "ValueError: a layer is missing"),
        (MemoryError(), "failed", "out_of_memory", "MemoryError"),
        (FloatingPointError("loss is nan"), "failed", "diverged", "FloatingPointError: loss is nan"),
        (thawline.Pruned(), "failed", "script_error", "Pruned"),
        (KeyboardInterrupt(), "queued", None, None),
        (SystemExit(1), "queued", None, None),
    ],
)
def test_an_exception_ends_the_trial_and_goes_on(study: Study, error: BaseException, state: str, reason: str | None, detail: str) -> None:
    with pytest.raises(type(error)) as raised, study.claim() as trial:
        trial.report(accuracy=0.5)
        raise error
    assert raised.value is error
    ended = now(study, trial)
    assert (ended.state, ended.reason, ended.detail) == (state, reason, detail)


def test_a_trial_that_crashed_is_tried_again(study: Study) -> None:
    with study.claim() as trial:
        trial.fail("the driver was lost", "crashed")
    with study.claim() as again:
        assert (again.number, again.attempt) == (trial.number, 2)


def test_a_pruned_trial_is_left(client: Client) -> None:
    study = create(client, "prunes", pruner=MEDIAN)
    with study.claim() as good:
        good.report(accuracy=0.9)
    with study.claim() as bad:
        assert bad.report(accuracy=0.1) is True
        assert bad.stopped and bad.report(accuracy=0.2) is True
        raise thawline.Pruned
    assert (now(study, bad).state, now(study, bad).step) == ("pruned", 1)


def test_a_thread_renews_the_lease(study: Study) -> None:
    with study.claim() as trial:
        time.sleep(1.5 * LEASE_SECONDS)
        assert not trial.lost
        trial.report(accuracy=0.5)
    assert (now(study, trial).state, now(study, trial).attempt) == ("complete", 1)


def test_a_cancelled_trial_is_noticed(study: Study) -> None:
    with pytest.raises(TrialCancelled, match="Trial 0 was cancelled"), study.claim() as trial:
        study.stop()
        until(lambda: trial.lost)
        trial.report(accuracy=0.5)
    assert now(study, trial).state == "cancelled"


def test_a_lost_lease_has_a_name_and_its_trial_stays_the_other_ones(study: Study) -> None:
    with pytest.raises(LeaseLost, match="no longer belongs to this claim"), study.claim() as trial:
        key = rest.ClaimKey(trial._claim.claim, trial._claim.token)
        study._rest.about_claim(TrialView, "release", key, {})  # as a reaper takes it
        other = study.claim("another")
        assert other.number == trial.number
    assert not other.report(accuracy=0.5)
    other.finish()
    assert (now(study, trial).worker, now(study, trial).value) == ("rest:another", 0.5)


def until(holds: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_short_outage_is_waited_for(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    call, answers = rest.Client.about_claim, iter([Unreachable("gone"), Refused(503, "store-unavailable", "the database is away")] * 2)

    def late(self: rest.Client, *arguments: Any) -> Any:
        if (error := next(answers, None)) is not None:
            raise error
        return call(self, *arguments)

    monkeypatch.setattr(rest.Client, "about_claim", late)
    with study.claim() as trial:
        assert trial.report(accuracy=0.5) is False
    assert now(study, trial).state == "complete"
    assert next(answers, None) is None


def test_without_an_answer_for_the_trust_window_the_training_ends(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """I9: before the lease can expire."""

    def gone(*_: Any) -> Any:
        raise Unreachable("gone")

    trial = study.claim()
    monkeypatch.setattr(rest.Client, "about_claim", gone)
    monkeypatch.setattr(rest.Client, "renew", gone)
    start = time.monotonic()
    with pytest.raises(LeaseLost, match="the server could not be reached for"):
        trial.report(accuracy=0.5)
    assert trial.lost
    assert time.monotonic() - start < LEASE_SECONDS, "another claimant may have it after that"


def test_the_end_of_a_trial_is_sent_again_for_longer(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """I1: the server decides whether the lease held, since nothing is trained any more."""
    call, renew, start = rest.Client.about_claim, rest.Client.renew, time.monotonic()

    def late(self: rest.Client, *arguments: Any) -> Any:
        if time.monotonic() < start + TRUST_SECONDS + 1:
            raise Unreachable("gone")
        return call(self, *arguments)

    with study.claim() as trial:
        trial.report(accuracy=0.5)
        monkeypatch.setattr(rest.Client, "about_claim", late)
        assert renew is rest.Client.renew
    assert now(study, trial).state == "complete" and time.monotonic() > start + TRUST_SECONDS


def test_an_end_that_cannot_be_recorded_does_not_hide_the_exception(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> Any:
        raise Unreachable("gone")

    monkeypatch.setattr(claims, "OUTAGE_SECONDS", 0.0)
    with pytest.raises(ValueError, match="mine") as raised, study.claim():
        monkeypatch.setattr(rest.Client, "about_claim", gone)
        raise ValueError("mine")
    assert raised.value.__notes__ == ["The end of trial 0 could not be recorded: gone"]


def test_a_report_that_does_not_fit_is_refused_with_its_place(study: Study) -> None:
    with study.claim() as trial:
        with pytest.raises(Refused) as refused:
            trial.report(accurcy=0.5)
        assert [fault.pointer for fault in refused.value.faults] == ["#/metrics/accurcy"]
        trial.report(step=2, accuracy=0.5)
        with pytest.raises(Refused, match="steps must increase"):
            trial.report(step=1, accuracy=0.5)


def test_this_process_has_a_name_that_the_server_accepts() -> None:
    assert rest.claimant(os.getpid()).endswith(str(os.getpid()))
