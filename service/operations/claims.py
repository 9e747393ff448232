"""Claims over REST: trials that programs outside of Thawline train, under a lease with a token.

Each call goes through the operations of worker processes, so that it is fenced, counted and recorded like theirs.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, NoReturn

from service.domain.claims import (
    CLAIMANT,
    ClaimFailure,
    ClaimReport,
    ClaimResult,
    ClaimReturn,
    check_metrics,
    last_step,
    may_confirm,
    report_of,
)
from service.domain.errors import LeaseLost, TrialCancelled, TrialClosed, WorkerNotFound
from service.domain.records import MetricReport, RestClaim, Study, Worker
from service.domain.states import StudyState, TrialState, WorkerState
from service.operations import idempotency as keys
from service.operations.claiming import Claimant, Searches, claim_alone
from service.operations.idempotency import Idempotency
from service.operations.recording import (
    Pruned,
    Released,
    TrialOutcome,
    Write,
    decide_many,
    heartbeat,
    heartbeat_over_rest,
    record_over_rest,
)
from service.operations.workers import register_worker, retire_worker
from service.search.study import Decision, decision_steps
from service.store import Store, queries
from service.store.rows import HeldTrial
from service.store.unit_of_work import StudyUnitOfWork, locked
from trainer.protocol import Failed, Finished, Scores

SEEN_SECONDS = 5.0  # since the last heartbeat of a claimant, after which a claim counts as another

Reason = Literal["finished", "paused", "draining", "confirmation", "running", "waiting"]


@dataclass(eq=False)
class NothingToClaim(Exception):
    """The study has no trial for the claimant now."""

    reason: Reason
    detail: str  # a sentence
    final: bool  # another claim will find nothing either, unless a person changes the study


@dataclass(frozen=True, slots=True, kw_only=True)
class RestClaimant(Claimant):
    """A claimant over REST. Its transactions include the idempotency key, and give the attempt the digest of the token."""

    token_sha256: str
    idempotency: Idempotency
    confirms: bool  # it may train trials of the confirmation
    host: str
    begun: list[HeldTrial] = field(default_factory=list)  # the trial that was started, once there is one
    needs_check: ClassVar[bool] = False  # it reads data of its own

    @contextmanager
    def locked(self, store: Store, study: str) -> Iterator[StudyUnitOfWork]:
        """Lock the study, and answer the request if a trial starts. Raises Replay, IdempotencyConflict."""
        with store.writing() as tx:
            keys.take(tx, self.idempotency)
            with locked(tx, study) as uow:
                uow.attempts.token_sha256 = self.token_sha256
                yield uow
            if not uow.attempts.begun:
                keys.release(tx, self.idempotency)
            for trial in uow.attempts.begun:
                keys.keep(tx, self.idempotency, trial)
        self.begun.extend(uow.attempts.begun)

    def suited(self, queued: Iterable[HeldTrial]) -> list[HeldTrial]:
        """Trials of the search from their beginning: it has no files of other attempts. Those of the confirmation if it may."""
        return [replace(trial, checkpoints=()) for trial in queued if trial.round is None or self.confirms]


def claimant_of(study: Study, name: str, host: str, token_sha256: str, idempotency: Idempotency) -> RestClaimant:
    """The claimant of that name, from that host."""
    confirms = may_confirm(study.spec)
    return RestClaimant(worker=f"{CLAIMANT}{name}", host=host, token_sha256=token_sha256, idempotency=idempotency, confirms=confirms)


def claim(store: Store, searches: Searches, study: str, claimant: RestClaimant) -> HeldTrial:
    """Start a trial of the study, from which the answer is made.

    Raises NothingToClaim, StudyNotFound, StudyUnreadable, Replay, IdempotencyConflict, StoreUnavailable.
    """
    if not _admit(store, claimant):
        raise NothingToClaim("draining", "This claimant is draining: it gets no more trials. Claim under another name.", final=True)
    claim_alone(store, searches, study, claimant)
    if claimant.begun:
        return claimant.begun[0]
    nothing = _nothing(store, study, claimant)
    if nothing.final:
        _dismiss(store, claimant)
    raise nothing


def _dismiss(store: Store, claimant: RestClaimant) -> None:
    """Mark the claimant as gone unless it has another trial. It is alive again when it claims again."""
    if claimant.worker not in store.read(queries.trials_by_worker):
        retire_worker(store, claimant.worker)


def _admit(store: Store, claimant: RestClaimant) -> bool:
    """Register the claimant among the workers, or renew its last heartbeat. False if it is draining; without a trial it is gone then."""
    worker = claimant.worker
    try:
        known = store.read(queries.find_worker, worker)
    except WorkerNotFound:
        known = None
    now = time.time()
    if known is not None and known.state == WorkerState.DRAINING:
        _dismiss(store, claimant)
        return False
    if known is None or known.state == WorkerState.GONE:
        new = Worker(
            id=worker, host=claimant.host, pid=0, slots=1, devices=("rest",), device_names=("claims over REST",), memory=(None,),
            state=WorkerState.ALIVE, started_at=now, seen_at=now,
        )  # fmt: skip
        register_worker(store, new)
    elif abs(now - known.seen_at) > SEEN_SECONDS:
        heartbeat(store, worker, [])
    return True


def _nothing(store: Store, study_id: str, claimant: RestClaimant) -> NothingToClaim:
    """Why the study has no trial for the claimant, from its present state."""
    study, found = store.read(queries.find_study, study_id), store.read(queries.candidate, study_id)
    if study.state is StudyState.PAUSED:
        return NothingToClaim("paused", "The study is paused; resume it.", final=False)
    if study.state.terminal or found is None:
        return NothingToClaim("finished", f"The study is {study.state}{f': {study.reason}' if study.reason else ''}.", final=True)
    if study.confirmation is not None and not claimant.confirms:
        why = "The search is over. The confirmation needs a score of each test example, so only worker processes (`thaw worker`) train it."
        return NothingToClaim("confirmation", why, final=True)
    if found.running:
        return NothingToClaim("running", "All trials that may run now are running; ask again, since a lost one returns.", final=False)
    return NothingToClaim("waiting", "No trial can start at present; ask again.", final=False)


def beat(store: Store, claim: RestClaim, idempotency: Idempotency) -> None:
    """Renew the lease. Raises LeaseLost, TrialCancelled, Replay, IdempotencyConflict, StoreUnavailable."""
    try:
        heartbeat_over_rest(store, claim.lease, idempotency)
    except LeaseLost:
        _refuse(store, claim)


def report(store: Store, searches: Searches, claim: RestClaim, report: ClaimReport, idempotency: Idempotency) -> HeldTrial:
    """Record the metrics of a step. At a decision step the pruner may end the trial; the answer is made from the trial afterwards.

    Raises InvalidInput, StepNotNew, LeaseLost, TrialCancelled, TrialClosed, Replay, IdempotencyConflict, StoreUnavailable.
    """
    spec, lease = claim.study.spec, claim.lease
    most = last_step(spec, claim.trial.params, lease.number, claim.trial.round)
    check_metrics(spec, report.metrics, report.step, most)
    metrics = _numbers(report.metrics)
    write = Write(lease, [MetricReport(report.step, metrics)], over_rest=True)
    if _ended_as_pruned(claim):  # the answer was lost, or a report was under way
        write = replace(write, reports=(), outcome=Pruned(claim.trial.detail or ""))
    elif _is_decided(claim, report, most):
        curve = _curve(store, claim) | {report.step: metrics[spec.objective.metric]}
        (decision,) = decide_many(store, searches, [(lease, curve)])
        if isinstance(decision, LeaseLost):
            _refuse(store, claim)
        write = replace(write, memory=decision.memory, outcome=_pruned(decision))
    return _record(store, claim, write, idempotency)


def _ended_as_pruned(claim: RestClaim) -> bool:
    return claim.trial.state is TrialState.PRUNED and claim.trial.attempt == claim.lease.attempt


def _is_decided(claim: RestClaim, report: ClaimReport, most: int | None) -> bool:
    """Whether the pruner decides about the trial at this report."""
    new = claim.held and claim.trial.round is None and report.step > claim.trial.step
    spec = claim.study.spec
    return new and spec.objective.metric in report.metrics and report.step in decision_steps(spec, most or report.step + 1)


def _pruned(decision: Decision) -> Pruned | None:
    return None if decision.go_on else Pruned(decision.why or "the pruner ended it", decision.evidence)


def _curve(store: Store, claim: RestClaim) -> dict[int, float]:
    """The objective by step, as this attempt reported it."""
    objective = claim.study.spec.objective.metric
    return {one.step: one.value for one in store.read(queries.metrics, claim.trial.id) if one.name == objective}


def finish(store: Store, claim: RestClaim, result: ClaimResult, idempotency: Idempotency) -> HeldTrial:
    """Complete the trial with the metrics of its last report, or of the result.

    Raises InvalidInput, StepNotNew, LeaseLost, TrialCancelled, TrialClosed, Replay, IdempotencyConflict, StoreUnavailable.
    """
    spec, trial = claim.study.spec, claim.trial
    most = last_step(spec, trial.params, trial.number, trial.round)
    step = trial.step if result.step is None else result.step
    if result.metrics and result.step is None and claim.held:
        step = trial.step + 1 if most is None else min(trial.step + 1, most)
    check_metrics(spec, result.metrics, step, most)
    metrics = _numbers(result.metrics)
    last = {**trial.metrics, **metrics}
    outcome = Finished(
        step=step,
        metrics=metrics,
        report=report_of(spec, result.report),
        train_seconds=max(0.0, time.time() - claim.started_at) if result.train_seconds is None else result.train_seconds,
        peak_memory=result.peak_memory or 0,
        test=None if trial.round is None else Scores(metrics={name: value for name, value in last.items() if math.isfinite(value)}),
    )
    reports = [MetricReport(step, metrics)] if metrics else []
    return _record(store, claim, Write(claim.lease, reports, outcome=outcome, over_rest=True), idempotency)


def fail(store: Store, claim: RestClaim, failure: ClaimFailure, idempotency: Idempotency) -> HeldTrial:
    """End the trial without a result. Raises LeaseLost, TrialCancelled, TrialClosed, Replay, IdempotencyConflict, StoreUnavailable."""
    outcome = Failed(reason=failure.reason, detail=failure.detail or "the claimant gave no reason", step=claim.trial.step)
    return _record(store, claim, Write(claim.lease, outcome=outcome, over_rest=True), idempotency)


def release(store: Store, claim: RestClaim, back: ClaimReturn, idempotency: Idempotency) -> HeldTrial:
    """Return the trial to the queue. Raises LeaseLost, TrialCancelled, TrialClosed, Replay, IdempotencyConflict, StoreUnavailable."""
    return _record(store, claim, Write(claim.lease, outcome=Released(back.detail or None), over_rest=True), idempotency)


def _record(store: Store, claim: RestClaim, write: Write, idempotency: Idempotency) -> HeldTrial:
    try:
        return record_over_rest(store, write, idempotency)
    except LeaseLost:
        _refuse(store, claim, write.outcome)


def _refuse(store: Store, claim: RestClaim, outcome: TrialOutcome | None = None) -> NoReturn:
    """Raise the reason for which the claim has no lease. Raises ClaimNotFound if its study was deleted meanwhile."""
    lease = claim.lease
    trial = store.read(queries.find_claim, lease.study, lease.number, lease.attempt).trial
    name = f"Trial {trial.number}"
    if trial.state is TrialState.CANCELLED:
        raise TrialCancelled(lease.number, lease.attempt, f"{name} was cancelled; stop its training and claim another one.")
    if trial.attempt > lease.attempt or not trial.state.terminal:
        now = f"attempt {trial.attempt} of it is {trial.state}" if trial.attempt > lease.attempt else f"it is {trial.state}"
        why = f"{name} no longer belongs to this claim, whose lease was returned or expired without a heartbeat: {now}"
        raise LeaseLost(lease.number, lease.attempt, f"{why}. Stop its training and claim another one.")
    ended = f"{name} has ended: {trial.state}{f', {trial.detail}' if trial.detail else ''}."
    raise TrialClosed(f"{ended} " + ("Nothing can be reported." if outcome is None else "This outcome differs from it and was not stored."))


def _numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in metrics.items()}
