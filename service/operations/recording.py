"""Records what trials report, and the decisions of their pruners."""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, assert_never

from pydantic import BaseModel, ValidationError

from search_spaces.faults import Path
from service.domain.errors import LeaseLost, StudyNotFound, StudyUnreadable
from service.domain.failures import POLICIES
from service.domain.fault_messages import faults_of
from service.domain.pruning import PruningReason
from service.domain.records import WHILE_RUNNING, Lease, MetricReport, Study
from service.domain.states import AttemptEnd, EventKind, TrialState, ValueKind
from service.operations.claiming import Searches, SearchFailed
from service.operations.completion import completion_event, finalize, requeue
from service.operations.studies import fail_study
from service.search.study import Decision
from service.store import Store, Transaction, registry
from service.store.codec import finite, kind_of, plain, storable, with_words
from service.store.queries.workers import held_leases, readable_studies
from service.store.rows import HeldTrial
from service.store.unit_of_work import Step, StudyUnitOfWork, all_locked
from trainer.protocol import Checkpoint, Failed, Finished
from trainer.tasks.base import TaskSpec
from trainer.tasks.registry import spec_of


@dataclass(frozen=True, slots=True)
class Pruned:
    """The pruner ended the trial; `why` is its reason in a sentence, `evidence` what that says in numbers."""

    why: str
    evidence: PruningReason | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """The worker hands the trial back unfinished; the attempt is not counted against it."""

    because: str | None = None  # a sentence for the attempt


Outcome = Finished | Failed | Pruned | Released


@dataclass(frozen=True, slots=True)
class Write:
    """All that a worker has to say about one trial at one time. Fenced by its lease."""

    lease: Lease
    reports: Sequence[MetricReport] = ()
    checkpoint: Checkpoint | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)  # environment, reuse, pace: each replaces what its name held
    log: str = ""  # whole lines, without control characters
    log_start: int | None = (
        None  # bytes of the attempt's log before it, by which a write that is sent again adds it once; None: adds it all
    )
    outcome: Outcome | None = None


def record(store: Store, writes: Sequence[Write]) -> list[Lease]:
    """Write it all in one transaction; the leases that were lost come back, and nothing of theirs is in. Raises StoreUnavailable.

    An outcome that was recorded before by the same attempt counts as written, for the first answer may not have arrived.
    """
    lost = []
    with store.writing() as tx, all_locked(tx, {write.lease.study for write in writes}) as ledgers:
        trials = _trials(ledgers, [write.lease for write in writes])
        for uow in ledgers.values():
            uow.attempts.find_logs([_attempt(write.lease) for write in writes if write.log and write.lease.study == uow.study.id])
        for write in writes:
            trial = trials.get(write.lease.trial)
            if trial is not None and _holds(trial, write.lease):
                trials[trial.id] = _land(ledgers[trial.study], trial, write)
            elif trial is None or not _is_repeat(ledgers[trial.study], trial, write):
                lost.append(write.lease)
        for uow in ledgers.values():
            finalize(uow)
    return lost


def heartbeat(store: Store, worker: str, leases: Sequence[Lease]) -> list[Lease]:
    """Renew the worker's leases; the lost ones come back. Raises StoreUnavailable."""
    with store.writing() as tx:
        lost = registry.count_heartbeats(tx, leases) if leases else []
        registry.see_worker(tx, worker)
    return lost


def requeue_lost(store: Store, suspects: Sequence[tuple[Lease, int]]) -> int:
    """Queue trials again whose lease has still the heartbeats that were counted; how many there were. Raises StoreUnavailable.

    A trial that has lost its worker or its process `limits.attempts` times ends as failed instead.
    """
    requeued = 0
    with store.writing() as tx, all_locked(tx, {lease.study for lease, _ in suspects}) as ledgers:
        trials = _trials(ledgers, [lease for lease, _ in suspects])
        for lease, heartbeats in suspects:
            trial = trials.get(lease.trial)
            if trial is not None and _holds(trial, lease) and trial.heartbeat == heartbeats:
                gone = f"nothing was heard of its worker, {trial.worker}, any more"
                trials[trial.id] = _try_again(ledgers[trial.study], replace(trial, lost=trial.lost + 1), "lost", gone)
                requeued += 1
        for uow in ledgers.values():
            finalize(uow)
    return requeued


def _trials(ledgers: Mapping[str, StudyUnitOfWork], leases: Sequence[Lease]) -> dict[int, HeldTrial]:
    """The leases' trials by key, each study's in one query; those of a deleted study are missing."""
    keys = defaultdict[str, set[int]](set)
    for lease in leases:
        keys[lease.study].add(lease.trial)
    return {key: trial for study, uow in ledgers.items() for key, trial in uow.trials(keys[study]).items()}


def _attempt(lease: Lease) -> tuple[int, int]:
    return lease.trial, lease.attempt


def _holds(trial: HeldTrial, lease: Lease) -> bool:
    return trial.state is TrialState.RUNNING and trial.attempt == lease.attempt


def _land(uow: StudyUnitOfWork, trial: HeldTrial, write: Write) -> HeldTrial:
    """Everything of a write that holds its lease: its log and reports, then the checkpoint, then the outcome."""
    trial = replace(trial, heartbeat=trial.heartbeat + 1, memory={**trial.memory, **write.memory})
    if write.log:
        uow.log(trial, write.log, write.log_start)
    if write.result:
        trial = replace(trial, result={**trial.result, **plain(write.result)})
    silent = write.checkpoint is None and write.outcome is None
    if write.reports and (first := min(report.step for report in write.reports)) <= trial.step:
        uow.attempts.went_on_from(trial, first - 1)
    news = _news(uow, trial, write.reports)
    if news or (silent and not write.reports and (write.memory or write.result)):
        trial = _report(uow, trial, news, told=("pace",) if "pace" in write.result else ())
    if write.checkpoint is not None and trial.checkpoints[:1] != (write.checkpoint,):
        trial = _save(uow, trial, write.checkpoint)
    return trial if write.outcome is None else _conclude(uow, trial, write.outcome)


def _news(uow: StudyUnitOfWork, trial: HeldTrial, reports: Sequence[MetricReport]) -> list[MetricReport]:
    """Without what this attempt has told: a worker that has heard no answer sends the same again."""
    return [one for one in reports if one.step > trial.step or not _known(one, uow.metrics.reported(trial, one.step))]


def _known(report: MetricReport, held: Mapping[str, float]) -> bool:
    known = with_words(held)
    return known == {**known, **with_words(report.metrics)}


def _report(uow: StudyUnitOfWork, trial: HeldTrial, reports: Sequence[MetricReport], told: Collection[str]) -> HeldTrial:
    """Take the reports in, and tell them with those parts of the result that the write brought."""
    uow.report(trial, reports)
    steps = [{"step": report.step, "metrics": with_words(report.metrics)} for report in reports]
    if reports:
        metrics = {name: number for report in reports for name, number in report.metrics.items()}
        trial = replace(trial, step=reports[-1].step, metrics={**trial.metrics, **metrics})
    body = {"step": trial.step, "metrics": with_words(trial.metrics), "reports": steps}
    body |= {name: trial.result[name] for name in told}
    return uow.save(Step(trial, EventKind.TRIAL_REPORTED, body))


def _save(uow: StudyUnitOfWork, trial: HeldTrial, checkpoint: Checkpoint) -> HeldTrial:
    older = [one for one in trial.checkpoints if one.step < checkpoint.step]
    changed = replace(trial, checkpoints=(checkpoint, *older))
    changed = replace(changed, checkpoints=uow.kept(changed, WHILE_RUNNING))
    return uow.save(Step(changed, EventKind.TRIAL_SAVED, {"step": checkpoint.step, "size": checkpoint.size}))


def _conclude(uow: StudyUnitOfWork, trial: HeldTrial, outcome: Outcome) -> HeldTrial:
    if isinstance(outcome, Released):
        return requeue(uow, trial, AttemptEnd.RELEASED, outcome.because and storable(outcome.because))
    if isinstance(outcome, Failed) and POLICIES[outcome.reason].retried:
        return _try_again(uow, replace(trial, crashes=trial.crashes + 1), "crashed", storable(outcome.detail))
    return uow.save(completion_event(replace(_ended(uow, trial, outcome), finished_at=uow.now)))


def _ended(uow: StudyUnitOfWork, trial: HeldTrial, outcome: Finished | Failed | Pruned) -> HeldTrial:
    """The trial as the outcome leaves it. The objective decides whether a run that finished is complete."""
    objective = uow.study.spec.objective.metric
    match outcome:
        case Finished():
            result = plain(outcome.flat(exclude=("kind", "lane", "step", "metrics")), most_text=None)
            if outcome.test is not None:
                result["test"] = plain(outcome.test.flat(), most_text=None)
            done = replace(trial, step=outcome.step, metrics={**trial.metrics, **outcome.metrics})
            if (misfit := _misfit(spec_of(uow.study.spec.task), outcome)) is not None:
                return replace(done, state=TrialState.FAILED, reason="script_error", detail=storable(misfit))
            return _judged(replace(done, result={**trial.result, **result}), objective)
        case Failed():
            return replace(trial, state=TrialState.FAILED, reason=outcome.reason, detail=storable(outcome.detail))
        case Pruned():
            last = trial.metrics.get(objective)
            on = {} if outcome.evidence is None else {"evidence": plain(outcome.evidence.model_dump(mode="json"))}
            stopped = replace(trial, state=TrialState.PRUNED, value=finite(last), value_kind=kind_of(last))
            return replace(stopped, detail=storable(outcome.why), result={**trial.result, **on})
        case _:
            assert_never(outcome)


def _misfit(task: TaskSpec, outcome: Finished) -> str | None:
    """Why the reports of a run are not those of its task, in a sentence; None where they are."""
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


def _judged(trial: HeldTrial, objective: str) -> HeldTrial:
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


def _try_again(uow: StudyUnitOfWork, trial: HeldTrial, reason: Literal["lost", "crashed"], why: str) -> HeldTrial:
    """A trial that has counted one more lost worker or crash goes back to the queue, unless there were too many."""
    if trial.lost + trial.crashes < uow.study.spec.limits.attempts:
        return requeue(uow, trial, AttemptEnd(reason), why)
    failed = replace(trial, state=TrialState.FAILED, reason=reason, detail=f"{_toll(trial)}; the last time: {why}", finished_at=uow.now)
    return uow.save(replace(completion_event(failed), why=why))


def _toll(trial: HeldTrial) -> str:
    counts = (("its process crashed", trial.crashes), ("its worker was lost", trial.lost))
    return " and ".join(f"{what} {'once' if count == 1 else f'{count} times'}" for what, count in counts if count)


def _is_repeat(uow: StudyUnitOfWork, trial: HeldTrial, write: Write) -> bool:
    """Whether the same attempt recorded this very outcome before. The trial may have gone on since."""
    match write.outcome:
        case None:
            return False
        case Released():
            return uow.attempts.ending(trial.id, write.lease.attempt) is AttemptEnd.RELEASED
        case Failed(reason=reason) if POLICIES[reason].retried:
            return uow.attempts.ending(trial.id, write.lease.attempt) is AttemptEnd.CRASHED
        case Finished() | Failed() | Pruned():
            ended = trial.state.terminal and trial.attempt == write.lease.attempt
            return ended and _ended_so(trial, write.outcome)
        case _:
            assert_never(write.outcome)


def _ended_so(trial: HeldTrial, outcome: Finished | Failed | Pruned) -> bool:
    """Whether the trial is as the outcome left it."""
    match outcome:
        case Finished():
            known = with_words(trial.metrics)
            judged = trial.state is TrialState.COMPLETE or trial.reason in ("diverged", "script_error")  # not cancelled or lost meanwhile
            return judged and trial.step == outcome.step and known == {**known, **with_words(outcome.metrics)}
        case Failed():
            return trial.state is TrialState.FAILED and trial.reason == outcome.reason
        case Pruned():
            return trial.state is TrialState.PRUNED
        case _:
            assert_never(outcome)


log = logging.getLogger(__name__)

Curve = Mapping[int, float]
"""A trial's objective by step, the newest that of the step to decide at."""


def decide_many(store: Store, searches: Searches, asked: Sequence[tuple[Lease, Curve]]) -> list[Decision | LeaseLost]:
    """Whether running trials go on, in their order: trials of one study are judged as if each knew the values of all the others.

    What a decision leaves to remember must be recorded before a later one is asked for. Where the pruner breaks down, the study
    ends as failed and its leases are lost. Raises StoreUnavailable.
    """
    holding, studies = store.read(_standing, [lease for lease, _ in asked])
    curves = defaultdict[str, dict[int, Curve]](dict)
    for lease, values in asked:
        if lease in holding:
            curves[lease.study][lease.number] = values
    decisions = {key: _decisions(store, searches, studies[key], those) for key, those in curves.items() if key in studies}
    return [
        decisions.get(lease.study, {}).get(lease.number, LeaseLost(lease.number, lease.attempt))
        if lease in holding
        else LeaseLost(lease.number, lease.attempt)
        for lease, _ in asked
    ]


def _standing(tx: Transaction, leases: Sequence[Lease]) -> tuple[set[Lease], dict[str, Study]]:
    return held_leases(tx, leases), readable_studies(tx, {lease.study for lease in leases})


def _decisions(store: Store, searches: Searches, study: Study, curves: Mapping[int, Curve]) -> Mapping[int, Decision]:
    """By the trial's number; none when the study was deleted meanwhile, or ends because its pruner broke down."""
    try:
        try:
            with searches.for_study(store, study) as memory:
                return memory.decide_all(curves)
        except SearchFailed as error:
            log.exception("study %s ends", study.id)
            fail_study(store, study.id, str(error))
    except (StudyNotFound, StudyUnreadable):
        pass
    return {}
