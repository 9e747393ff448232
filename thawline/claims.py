"""A claimed trial: training in the caller's own process, under a lease that a thread renews."""

import math
import os
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self, SupportsFloat, TypeVar

from pydantic import BaseModel

from search_spaces import Scalar
from service import client as rest
from service.domain.errors import LeaseLost, ThawlineError, TrialCancelled
from service.domain.text import clean
from service.rest_models import ClaimView, NothingView, ReportedView, TrialView
from service.timing import Backoff

OUTAGE_SECONDS = 600.0  # for which the end of a trial is sent again
RETRY_SECONDS = 0.25  # between the first two tries during an outage; later ones come at most a heartbeat interval apart
LONGEST_DETAIL = 1_000  # characters
REASONS: Mapping[str, str] = MappingProxyType(
    {"MemoryError": "out_of_memory", "OutOfMemoryError": "out_of_memory", "FloatingPointError": "diverged"}
)
"""Failure reasons by the name of an exception's type. Other exceptions have the reason script_error."""

Answer = TypeVar("Answer", bound=BaseModel)
Reason = Literal["script_error", "crashed", "out_of_memory", "diverged", "infeasible", "timeout"]


class NothingToClaim(ThawlineError):
    """The study has no trial to claim.

    `reason` is finished, paused, draining, confirmation, running or waiting. `final`: a later claim finds nothing either, unless a person
    changes the study.
    """

    def __init__(self, nothing: NothingView) -> None:
        super().__init__(nothing.detail)
        self.reason = nothing.reason
        self.final = nothing.final


class Pruned(Exception):
    """May be raised in the block of a trial after `report` returned True, to leave the training; the block ends without an error."""


class Trial:
    """A claimed trial, from `Study.claim`. A thread renews its lease until the trial has ended or the lease is lost.

    As a context manager it ends the trial: with the last report, as failed with the text of an exception (which goes on), or back in the
    queue after Ctrl-C or `sys.exit`. The methods raise `LeaseLost` once the trial no longer belongs to this claim, because the server was
    not reached for too long, and `TrialCancelled` (a `LeaseLost`) if a person cancelled it: stop the training then.
    """

    def __init__(self, client: rest.Client, claim: ClaimView, claimed_at: float) -> None:
        """Use `Study.claim`."""
        self._rest, self._claim = client, claim
        self._key = rest.ClaimKey(claim.claim, claim.token)
        self._step = 0
        self._ended = False
        self._stopped = False
        self._lost: LeaseLost | None = None
        self._done = threading.Event()
        self._renewed_at = claimed_at  # monotonic seconds; the server renewed the lease after that
        # Two heartbeats less than the server waits, as worker processes do: another claimant may get the trial after the lease.
        self._trust_seconds = claim.lease_seconds - 2 * claim.heartbeat_seconds
        threading.Thread(target=self._renew, name=f"thawline-trial-{claim.number}", daemon=True).start()

    @property
    def number(self) -> int:
        """The trial's number in its study."""
        return self._claim.number

    @property
    def params(self) -> Mapping[str, Scalar]:
        """The parameters to train with, by name."""
        return dict(self._claim.params)

    @property
    def fixed(self) -> Mapping[str, Scalar]:
        """The study's fixed hyperparameters, by name."""
        return dict(self._claim.fixed)

    @property
    def seed(self) -> int:
        """The seed for everything random in the training."""
        return self._claim.seed

    @property
    def attempt(self) -> int:
        """The number of this attempt at the trial, from 1 on. Each starts from the beginning."""
        return self._claim.attempt

    @property
    def phase(self) -> Literal["search", "confirmation"]:
        """Whether the trial belongs to the search or to the confirmation."""
        return self._claim.phase

    @property
    def last_step(self) -> int | None:
        """The last step that may be reported; None if the study gives none."""
        return self._claim.last_step

    @property
    def stopped(self) -> bool:
        """Whether the pruner has ended the trial."""
        return self._stopped

    @property
    def lost(self) -> bool:
        """Whether the trial no longer belongs to this claim."""
        return self._loss() is not None

    def report(self, *, step: int | None = None, **metrics: SupportsFloat) -> bool:
        """Store the metrics of a step. Returns whether to stop: the pruner has ended the trial.

        Args:
            step: number of the step, such as the epoch, above the last one; by default the step after it.
            metrics: values by name; NaN and infinities are stored as not finite.

        Raises:
            LeaseLost: the trial no longer belongs to this claim.
            Refused: the study has no such metric, or the step or a value is not in its range; `faults` name them.
        """
        if self._stopped:
            return True
        step = self._step + 1 if step is None else step
        sent_at = time.monotonic()
        answer = self._call(ReportedView, "report", {"step": step, "metrics": _json(metrics)})
        self._renewed_at, self._step, self._stopped = sent_at, answer.step, answer.stop
        if answer.stop:
            self._close()
        return answer.stop

    def finish(self, **metrics: SupportsFloat) -> None:
        """Complete the trial with the metrics of its last report, or with these, as a last step. Without effect on an ended one."""
        if not self._ended:
            self._call(TrialView, "finish", {"metrics": _json(metrics)} if metrics else {}, ends=True)
            self._close()

    def fail(self, detail: str, reason: Reason = "script_error") -> None:
        """End the trial without a result. With the reason `crashed` it returns to the queue, up to `limits.attempts` times.

        Args:
            detail: why, as a sentence.
            reason: script_error, crashed, out_of_memory, diverged, infeasible or timeout; the sampler avoids parameters that ran out of
                memory, diverged or are infeasible.
        """
        if not self._ended:
            self._call(TrialView, "fail", {"reason": reason, "detail": _line(detail)}, ends=True)
            self._close()

    def release(self, detail: str = "") -> None:
        """Return the trial to the queue, for example because the machine is needed; the attempt does not count."""
        if not self._ended:
            self._call(TrialView, "release", {"detail": _line(detail)}, ends=True)
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> bool:
        try:
            if error is None:
                self.finish()
            elif isinstance(error, Pruned) and self._stopped:
                return True
            elif not isinstance(error, LeaseLost):
                self._end_with(error)
        finally:
            self._close()
        return False

    def _end_with(self, error: BaseException) -> None:
        """End the trial for an exception, which the caller gets in any case."""
        name, text = type(error).__name__, str(error)
        try:
            if isinstance(error, Exception):
                self.fail(f"{name}: {text}" if text else name, REASONS.get(name, "script_error"))  # type: ignore[arg-type]
            else:
                self.release(f"the training was interrupted by {name}")
        except ThawlineError as refusal:
            error.add_note(f"The end of trial {self.number} could not be recorded: {refusal}")

    def _close(self) -> None:
        self._ended = True
        self._done.set()

    def _call(self, answer: type[Answer], verb: rest.ClaimVerb, body: Mapping[str, Any], *, ends: bool = False) -> Answer:
        """Call the server; during an outage again, as long as the lease is trusted, or `ends` for OUTAGE_SECONDS. Raises LeaseLost."""
        start, tries = time.monotonic(), Backoff(RETRY_SECONDS, self._claim.heartbeat_seconds).tries()
        while True:
            next(tries)
            if (loss := self._loss(trusting=ends)) is not None:
                raise loss
            try:
                return self._rest.about_claim(answer, verb, self._key, body)
            except rest.Refused as refusal:
                if (loss := self._loss_in(refusal)) is not None:
                    raise loss from None
                if not refusal.temporary or (ends and time.monotonic() - start > OUTAGE_SECONDS):
                    raise
            except rest.Unreachable:
                if ends and time.monotonic() - start > OUTAGE_SECONDS:
                    raise

    def _loss(self, *, trusting: bool = False) -> LeaseLost | None:
        """Why the trial no longer belongs to this claim. `trusting`: without a look at the time of the last renewal."""
        silent = time.monotonic() - self._renewed_at
        if self._lost is None and not self._ended and not trusting and silent > self._trust_seconds:
            why = f"the server could not be reached for {silent:.0f} s, so another claimant may get it"
            self._lost = LeaseLost(self.number, self.attempt, f"Trial {self.number} can no longer be trained: {why}.")
        return self._lost

    def _loss_in(self, refusal: rest.Refused) -> LeaseLost | None:
        """The loss that the server states, if it does."""
        kinds = {"lease-lost": LeaseLost, "claim-not-found": LeaseLost, "trial-cancelled": TrialCancelled}
        if (kind := kinds.get(refusal.kind)) is not None:
            self._lost = kind(self.number, self.attempt, refusal.detail)
        return self._lost

    def _renew(self) -> None:
        """Renew the lease until the trial has ended or the lease is lost."""
        while not self._done.wait(self._claim.heartbeat_seconds) and self._lost is None:
            sent_at = time.monotonic()
            try:
                self._rest.renew(self._key, self._trust_seconds / 2)
                self._renewed_at = max(self._renewed_at, sent_at)
            except rest.Refused as refusal:
                if self._loss_in(refusal) is not None or not refusal.temporary:
                    return
            except ThawlineError:  # the next heartbeat is the next try
                continue
            except RuntimeError:  # the client was closed
                return

    def __repr__(self) -> str:
        return f"<Trial {self.number}, attempt {self.attempt}, {self.phase}: {dict(self.params)}>"


def claimed(client: rest.Client, study: str, worker: str | None, *, wait: bool, pause_seconds: float) -> Trial:
    """Claim a trial of the study, with `wait` once there is one. Raises NothingToClaim."""
    name = rest.claimant(os.getpid()) if worker is None else worker
    while True:
        claimed_at = time.monotonic()
        found = client.claim(study, name)
        if isinstance(found, ClaimView):
            return Trial(client, found, claimed_at)
        if found.final or not wait:
            raise NothingToClaim(found)
        time.sleep(pause_seconds)


def _json(metrics: Mapping[str, SupportsFloat]) -> dict[str, float | None]:
    """The values as floats, numbers of NumPy and torch too; None for those that are not finite."""
    return {name: number if math.isfinite(number := float(value)) else None for name, value in metrics.items()}


def _line(text: str) -> str:
    """The text in one line."""
    return " ".join(clean(text).split())[:LONGEST_DETAIL]
