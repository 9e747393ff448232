"""Records the reports and outcomes of trials, requeues lost trials and makes pruning decisions."""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, assert_never

from pydantic import BaseModel, ValidationError

from search_spaces.faults import Path
from service.domain.errors import LeaseLost, StepNotNew, StudyNotFound, StudyUnreadable
from service.domain.failures import POLICIES, least_device_bytes
from service.domain.fault_messages import faults_of
from service.domain.pruning import PruningReason
from service.domain.records import WHILE_RUNNING, Lease, MetricReport, Study
from service.domain.states import AttemptEnd, EventKind, TrialState, ValueKind
from service.operations import idempotency as keys
from service.operations.claiming import Searches, SearchFailed
from service.operations.completion import completion_event, end, finalize, requeue
from service.operations.idempotency import Idempotency
from service.operations.studies import fail_study
from service.search.study import Decision
from service.store import Store, Transaction, registry
from service.store.codec import encode_metrics, finite, kind_of, plain, storable
from service.store.queries.workers import WaitingTrial, held_leases, readable_studies
from service.store.rows import HeldTrial
from service.store.unit_of_work import Step, StudyUnitOfWork, all_locked
from trainer.protocol import Checkpoint, Failed, Finished
from trainer.tasks.base import TaskSpec
from trainer.tasks.registry import spec_of


@dataclass(frozen=True, slots=True)
class Pruned:
    """The pruner ended the trial; `why` is the reason as a sentence, `evidence` holds its numbers."""

    why: str
    evidence: PruningReason | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """The worker released the unfinished trial; the attempt does not count towards `limits.attempts`."""

    because: str | None = None  # the reason as a sentence, stored with the attempt


TrialOutcome = Finished | Failed | Pruned | Released


@dataclass(frozen=True, slots=True)
class Write:
    """A worker's buffered updates of one trial, fenced by its lease."""

    lease: Lease
    reports: Sequence[MetricReport] = ()
    checkpoint: Checkpoint | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)  # environment, reuse, pace: each replaces the stored value of its name
    log: str = ""  # whole lines, without control characters
    log_start: int | None = None  # byte offset of `log` in the attempt's log, so that a resent write adds it once; None: append
    outcome: TrialOutcome | None = None
    over_rest: bool = False  # of a claim over REST: its steps must increase, and its report is optional and was checked before


def record(store: Store, writes: Sequence[Write]) -> list[Lease]:
    """Apply the writes in one transaction, except those of lost leases, which are returned. Raises StoreUnavailable.

    An outcome that the same attempt recorded before counts as written: the worker may not have received the first answer.
    """
    with store.writing() as tx:
        return _write(tx, writes)[0]


def record_over_rest(store: Store, write: Write, idempotency: Idempotency) -> HeldTrial:
    """Apply the write, and return the trial, from which the answer is made.

    Raises LeaseLost, StepNotNew, IdempotencyConflict, Replay, StoreUnavailable.
    """
    with store.writing() as tx:
        keys.take(tx, idempotency)
        lost, trials = _write(tx, [write])
        if lost:
            raise LeaseLost(write.lease.number, write.lease.attempt)
        keys.keep(tx, idempotency, trials[write.lease.trial])
    return trials[write.lease.trial]


def _write(tx: Transaction, writes: Sequence[Write]) -> tuple[list[Lease], dict[int, HeldTrial]]:
    """Apply the writes. Returns the lost leases, and the trials by key."""
    # Fencing: a write is applied only if its trial is running at the attempt of its lease, under the study's lock. A worker that lost
    # its lease, for example because it was suspended, can then not overwrite the results of the next attempt.
    lost = []
    with all_locked(tx, {write.lease.study for write in writes}) as units:
        trials = _trials(units, [write.lease for write in writes])
        for uow in units.values():
            uow.attempts.find_logs([_attempt_key(write.lease) for write in writes if write.log and write.lease.study == uow.study.id])
        for write in writes:
            trial = trials.get(write.lease.trial)
            if trial is not None and _holds_lease(trial, write.lease):
                trials[trial.id] = _apply_write(units[trial.study], trial, write)
            elif trial is None or not _is_repeat(units[trial.study], trial, write):
                lost.append(write.lease)
        for uow in units.values():
            finalize(uow)
    return lost, trials


def heartbeat(store: Store, worker: str, leases: Sequence[Lease]) -> list[Lease]:
    """Renew the worker's leases. Returns the lost ones. Raises StoreUnavailable."""
    with store.writing() as tx:
        lost = registry.count_heartbeats(tx, leases) if leases else []
        registry.see_worker(tx, worker)
    return lost


def heartbeat_over_rest(store: Store, lease: Lease, idempotency: Idempotency) -> None:
    """Renew the lease. Raises LeaseLost, IdempotencyConflict, Replay, StoreUnavailable."""
    with store.writing() as tx:
        keys.take(tx, idempotency)
        if registry.count_heartbeats(tx, [lease]):
            raise LeaseLost(lease.number, lease.attempt)
        registry.see_worker(tx, lease.worker)
        keys.keep(tx, idempotency, None)


def requeue_lost(store: Store, suspects: Sequence[tuple[Lease, int]]) -> int:
    """Requeue the trials of stale leases and return their number. Raises StoreUnavailable.

    A trial whose worker was lost or whose process crashed `limits.attempts` times in total ends as failed instead.
    """
    requeued = 0
    with store.writing() as tx, all_locked(tx, {lease.study for lease, _ in suspects}) as units:
        trials = _trials(units, [lease for lease, _ in suspects])
        for lease, heartbeats in suspects:
            trial = trials.get(lease.trial)
            # Compare and set: a heartbeat since the reaper's read, or another reaper, makes the suspicion void.
            if trial is not None and _holds_lease(trial, lease) and trial.heartbeat == heartbeats:
                silent = f"worker {trial.worker} stopped sending heartbeats"
                trials[trial.id] = _retry_or_fail(units[trial.study], replace(trial, lost=trial.lost + 1), "lost", silent)
                requeued += 1
        for uow in units.values():
            finalize(uow)
    return requeued


def _trials(units: Mapping[str, StudyUnitOfWork], leases: Sequence[Lease]) -> dict[int, HeldTrial]:
    """The leases' trials by key, with one query for each study. Trials of deleted studies are missing."""
    keys = defaultdict[str, set[int]](set)
    for lease in leases:
        keys[lease.study].add(lease.trial)
    return {key: trial for study, uow in units.items() for key, trial in uow.trials(keys[study]).items()}


def _attempt_key(lease: Lease) -> tuple[int, int]:
    return lease.trial, lease.attempt


def _holds_lease(trial: HeldTrial, lease: Lease) -> bool:
    return trial.state is TrialState.RUNNING and trial.attempt == lease.attempt


def _apply_write(uow: StudyUnitOfWork, trial: HeldTrial, write: Write) -> HeldTrial:
    """Apply a write that holds its lease: the log and reports, then the checkpoint, then the outcome."""
    trial = replace(trial, heartbeat=trial.heartbeat + 1, memory={**trial.memory, **write.memory})
    if write.log:
        uow.log(trial, write.log, write.log_start)
    if write.result:
        trial = replace(trial, result={**trial.result, **plain(write.result)})
    only_values = write.checkpoint is None and write.outcome is None
    if write.reports and (first := min(report.step for report in write.reports)) <= trial.step:
        uow.attempts.resumed_before(trial, first)
        uow.metrics.forget_superseded(trial, first)
    new = _new_reports(uow, trial, write.reports)
    if write.over_rest and new and new[0].step <= trial.step:
        raise StepNotNew(new[0].step, trial.step)
    if new or (only_values and not write.reports and (write.memory or write.result)):
        trial = _report(uow, trial, new, parts=("pace",) if "pace" in write.result else ())
    if write.checkpoint is not None and trial.checkpoints[:1] != (write.checkpoint,):
        trial = _add_checkpoint(uow, trial, write.checkpoint)
    return trial if write.outcome is None else _apply_outcome(uow, trial, write.outcome, checked=write.over_rest)


def _new_reports(uow: StudyUnitOfWork, trial: HeldTrial, reports: Sequence[MetricReport]) -> list[MetricReport]:
    """The reports that this attempt has not sent before: a worker that received no answer sends the same reports again."""
    return [one for one in reports if one.step > trial.step or not _is_stored(one, uow.metrics.reported(trial, one.step))]


def _is_stored(report: MetricReport, held: Mapping[str, float]) -> bool:
    known = encode_metrics(held)
    return known == {**known, **encode_metrics(report.metrics)}


def _report(uow: StudyUnitOfWork, trial: HeldTrial, reports: Sequence[MetricReport], parts: Collection[str]) -> HeldTrial:
    """Store the reports and emit them, with the named parts of the result."""
    uow.report(trial, reports)
    steps = [{"step": report.step, "metrics": encode_metrics(report.metrics)} for report in reports]
    if reports:
        metrics = {name: number for report in reports for name, number in report.metrics.items()}
        trial = replace(trial, step=reports[-1].step, metrics={**trial.metrics, **metrics})
    body = {"step": trial.step, "metrics": encode_metrics(trial.metrics), "reports": steps}
    body |= {name: trial.result[name] for name in parts}
    return uow.save(Step(trial, EventKind.TRIAL_REPORTED, body))


def _add_checkpoint(uow: StudyUnitOfWork, trial: HeldTrial, checkpoint: Checkpoint) -> HeldTrial:
    older = [one for one in trial.checkpoints if one.step < checkpoint.step]
    changed = replace(trial, checkpoints=(checkpoint, *older))
    changed = replace(changed, checkpoints=uow.kept_checkpoints(changed, WHILE_RUNNING))
    return uow.save(Step(changed, EventKind.TRIAL_SAVED, {"step": checkpoint.step, "size": checkpoint.size}))


def _apply_outcome(uow: StudyUnitOfWork, trial: HeldTrial, outcome: TrialOutcome, *, checked: bool) -> HeldTrial:
    if isinstance(outcome, Released):
        return requeue(uow, trial, AttemptEnd.RELEASED, outcome.because and storable(outcome.because))
    if isinstance(outcome, Failed) and (offered := _offered_to_larger(uow, trial, outcome)) is not None:
        return offered
    if isinstance(outcome, Failed) and POLICIES[outcome.reason].retried:
        return _retry_or_fail(uow, replace(trial, crashes=trial.crashes + 1), "crashed", storable(outcome.detail))
    return uow.save(completion_event(replace(_with_outcome(uow, trial, outcome, checked=checked), finished_at=uow.now)))


def _offered_to_larger(uow: StudyUnitOfWork, trial: HeldTrial, failure: Failed) -> HeldTrial | None:
    """The trial, back in the queue for a larger device; None if the failure counts, or no worker has such a device."""
    if (least := least_device_bytes(failure)) is None or not uow.workers_with_device(least):
        return None
    why = storable(failure.detail + _waits_for(least))
    return requeue(uow, replace(trial, least_device_bytes=least), AttemptEnd.RELEASED, why)


def _waits_for(least_bytes: int) -> str:
    """The end of an attempt's detail while its trial waits for a larger device."""
    return f"; it waits for a GPU with at least {least_bytes / 1e9:.1f} GB"


def fail_without_device(store: Store, waiting: Sequence[WaitingTrial], silent: Mapping[str, float]) -> int:
    """Fail the trials for which no larger device is left, and return their number. Raises StoreUnavailable.

    `silent` has the workers that sent no heartbeat for a lease, each with the time of its last one: one that sent another is alive.
    """
    failed = 0
    with store.writing() as tx, all_locked(tx, {one.study for one in waiting}) as units:
        for study, uow in units.items():
            wanted = {one.trial: one.least_device_bytes for one in waiting if one.study == study}
            for trial in uow.trials(wanted).values():
                least = wanted[trial.id]
                unchanged = trial.state is TrialState.QUEUED and trial.least_device_bytes == least
                if not unchanged or uow.workers_with_device(least).items() - silent.items():
                    continue
                last = (uow.attempts.detail(trial.id, trial.attempt) or "it ran out of memory").removesuffix(_waits_for(least))
                detail = storable(f"no worker with a GPU of at least {least / 1e9:.1f} GB is left; the last attempt: {last}")
                end(uow, trial, TrialState.FAILED, reason="out_of_memory", detail=detail)
                failed += 1
            finalize(uow)
    return failed


def _with_outcome(uow: StudyUnitOfWork, trial: HeldTrial, outcome: Finished | Failed | Pruned, *, checked: bool) -> HeldTrial:
    """The trial after the outcome. A finished run is complete only if its objective is finite.

    `checked`: its report was checked before, or left out.
    """
    objective = uow.study.spec.objective.metric
    match outcome:
        case Finished():
            left_out = ("kind", "lane", "step", "metrics", *(() if outcome.peak_memory else ("peak_memory",)))
            result = plain(outcome.flat(exclude=left_out), most_text=None)
            if outcome.test is not None:
                result["test"] = plain(outcome.test.flat(), most_text=None)
            done = replace(trial, step=outcome.step, metrics={**trial.metrics, **outcome.metrics})
            if not checked and (fault := _report_fault(spec_of(uow.study.spec.task), outcome)) is not None:
                return replace(done, state=TrialState.FAILED, reason="script_error", detail=storable(fault))
            return _with_objective(replace(done, result={**trial.result, **result}), objective)
        case Failed():
            return replace(trial, state=TrialState.FAILED, reason=outcome.reason, detail=storable(outcome.detail))
        case Pruned():
            last = trial.metrics.get(objective)
            on = {} if outcome.evidence is None else {"evidence": plain(outcome.evidence.model_dump(mode="json"))}
            stopped = replace(trial, state=TrialState.PRUNED, value=finite(last), value_kind=kind_of(last))
            return replace(stopped, detail=storable(outcome.why), result={**trial.result, **on})
        case _:
            assert_never(outcome)


def _report_fault(task: TaskSpec, outcome: Finished) -> str | None:
    """Why the run's reports do not fit the models of its task, as a sentence; None if they fit."""
    reports: list[tuple[Path, type[BaseModel], Mapping[str, Any]]] = [((), task.Report, outcome.report)]
    if outcome.test is not None:
        reports.append((("test",), task.TestReport, outcome.test.report))
    for place, model, report in reports:
        try:
            model.model_validate(plain(report, most_text=None))  # as it is stored: a null where a number is not finite
        except ValidationError as error:
            (fault, *_) = faults_of(error.errors(include_url=False, include_input=False)[0])
            return f"the run's report does not fit the task {task.name}: {fault.below(place).pointer}: {fault.message}"
    return None


def _with_objective(trial: HeldTrial, objective: str) -> HeldTrial:
    value = trial.metrics.get(objective)
    kind = kind_of(value)
    if kind is ValueKind.FINITE:
        return replace(trial, state=TrialState.COMPLETE, value=value, value_kind=kind)
    if kind is ValueKind.MISSING:
        missing = f"the run ended without a value for {objective}"
        return replace(trial, state=TrialState.FAILED, value_kind=kind, reason="script_error", detail=missing)
    return replace(
        trial, state=TrialState.FAILED, value_kind=kind, reason="diverged", detail=f"{objective} is not finite after the last epoch"
    )


def _retry_or_fail(uow: StudyUnitOfWork, trial: HeldTrial, reason: Literal["lost", "crashed"], why: str) -> HeldTrial:
    """Requeue a trial whose lost or crashed counter was just incremented, or fail it at `limits.attempts`."""
    if trial.lost + trial.crashes < uow.study.spec.limits.attempts:
        return requeue(uow, trial, AttemptEnd(reason), why)
    detail = f"{_attempts_lost(trial)}; the last time: {why}"
    failed = replace(trial, state=TrialState.FAILED, reason=reason, detail=detail, finished_at=uow.now)
    return uow.save(replace(completion_event(failed), why=why))


def _attempts_lost(trial: HeldTrial) -> str:
    counts = (("its process crashed", trial.crashes), ("its worker was lost", trial.lost))
    return " and ".join(f"{what} {'once' if count == 1 else f'{count} times'}" for what, count in counts if count)


def _is_repeat(uow: StudyUnitOfWork, trial: HeldTrial, write: Write) -> bool:
    """Whether the same attempt recorded this outcome before. A later attempt may be running since."""
    match write.outcome:
        case None:
            return False
        case Released():
            return uow.attempts.ending(trial.id, write.lease.attempt) is AttemptEnd.RELEASED
        case Failed(reason=reason) if POLICIES[reason].retried:
            return uow.attempts.ending(trial.id, write.lease.attempt) is AttemptEnd.CRASHED
        case Failed() if _was_offered(uow, trial, write.lease, write.outcome):
            return True
        case Finished() | Failed() | Pruned():
            ended = trial.state.terminal and trial.attempt == write.lease.attempt
            return ended and _has_outcome(trial, write.outcome)
        case _:
            assert_never(write.outcome)


def _was_offered(uow: StudyUnitOfWork, trial: HeldTrial, lease: Lease, failure: Failed) -> bool:
    """Whether the attempt's failure returned the trial to the queue for a larger device."""
    return least_device_bytes(failure) is not None and uow.attempts.ending(trial.id, lease.attempt) is AttemptEnd.RELEASED


def _has_outcome(trial: HeldTrial, outcome: Finished | Failed | Pruned) -> bool:
    """Whether the trial's state agrees with the outcome."""
    match outcome:
        case Finished():
            known = encode_metrics(trial.metrics)
            # a trial that was cancelled or lost has other reasons
            finished = trial.state is TrialState.COMPLETE or trial.reason in ("diverged", "script_error")
            return finished and trial.step == outcome.step and known == {**known, **encode_metrics(outcome.metrics)}
        case Failed():
            return trial.state is TrialState.FAILED and trial.reason == outcome.reason
        case Pruned():
            return trial.state is TrialState.PRUNED
        case _:
            assert_never(outcome)


log = logging.getLogger(__name__)

ReportedCurve = Mapping[int, float]
"""A trial's objective by step. The decision is made at the newest step."""


def decide_many(store: Store, searches: Searches, asked: Sequence[tuple[Lease, ReportedCurve]]) -> list[Decision | LeaseLost]:
    """Pruning decisions for running trials, in the order of `asked`, or LeaseLost. Raises StoreUnavailable.

    Each decision takes the curves of all asked trials of the study into account. The caller records the `memory` of a decision before
    it asks for the trial's next one. If the pruner fails, the study ends as failed and the leases of its trials are lost.
    """
    holding, studies = store.read(_held_and_studies, [lease for lease, _ in asked])
    curves = defaultdict[str, dict[int, ReportedCurve]](dict)
    for lease, values in asked:
        if lease in holding:
            curves[lease.study][lease.number] = values
    decisions = {key: _decisions(store, searches, studies[key], by_number) for key, by_number in curves.items() if key in studies}
    return [
        decisions.get(lease.study, {}).get(lease.number, LeaseLost(lease.number, lease.attempt))
        if lease in holding
        else LeaseLost(lease.number, lease.attempt)
        for lease, _ in asked
    ]


def _held_and_studies(tx: Transaction, leases: Sequence[Lease]) -> tuple[set[Lease], dict[str, Study]]:
    return held_leases(tx, leases), readable_studies(tx, {lease.study for lease in leases})


def _decisions(store: Store, searches: Searches, study: Study, curves: Mapping[int, ReportedCurve]) -> Mapping[int, Decision]:
    """Decisions by trial number. Empty when the study was deleted, or when its pruner fails, which ends the study."""
    try:
        try:
            with searches.for_study(store, study) as memory:
                return memory.decide_all(curves)
        except SearchFailed as error:
            log.exception("study %s ends because its search failed", study.id)
            fail_study(store, study.id, str(error))
    except (StudyNotFound, StudyUnreadable):
        pass
    return {}
