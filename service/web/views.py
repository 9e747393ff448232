"""REST models of studies and trials, built from records."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

from search_spaces import Fault
from search_spaces.documents import finite
from service.confirmation.verdict import phase_of
from service.domain.records import Attempt, LogChunk, ReportedMetric, Study, Trial, Unavailability, Worker
from service.domain.samplers import CmaEs, Gp, Median, NoPruner, Patient, Percentile, Pruner, Sampler, Tpe
from service.domain.spec import ProgramStudy, StudySpec
from service.domain.states import StudyState, TrialState, WorkerState
from service.domain.verdict import FEWEST_USEFUL_RUNS, constant_of
from service.rest_models import (
    AttemptView,
    BestView,
    CheckpointView,
    ChunkView,
    ListedStudyView,
    MajorityView,
    MetricsRow,
    MetricsView,
    NoticeView,
    PaceView,
    ReuseView,
    RunningView,
    SavedView,
    StudyView,
    TrialView,
    UnavailableView,
    UnusableDeviceView,
    WholeTrialView,
    WorkerView,
)
from service.search.pruners import first_decision
from service.store.queries import DeviceWait, SavedSeconds
from trainer.configuration import counted
from trainer.protocol import Reuse
from trainer.tasks.registry import example_fields


def instant(seconds: float) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def instant_or_none(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a time in UTC, or None."""
    return None if seconds is None else instant(seconds)


def notices_of(spec: StudySpec) -> list[NoticeView]:
    """Notices about parts of the study without effect, in the order of its sections."""
    found = [*_idle_sampler(spec), *_idle_pruner(spec), *_small_space(spec), *_few_seeds(spec)]
    return [NoticeView(pointer=one.pointer, code=one.code, message=one.message) for one in found]


def _needs_scripts(study: Study) -> Iterator[NoticeView]:
    """Which workers run the study's script, until one has checked it."""
    if isinstance(study.spec, ProgramStudy) and not study.sound:
        start = f"`thaw worker --allow-scripts {study.spec.workdir}`"
        message = f"the trials run only on workers that allow this folder; if none does, start one with {start}, or a folder above it"
        yield NoticeView(pointer="#/workdir", code="needs_scripts", message=message)


FEWEST_SAMPLED = 6
"""Trials of a budget in which half of them can start a sampler; smaller budgets get no notice."""


def _idle_sampler(spec: StudySpec) -> Iterator[Fault]:
    match spec.sampler:
        case Tpe() | Gp() | CmaEs() as sampler if FEWEST_SAMPLED <= (spec.budget.trials or 0) <= sampler.n_startup_trials:
            yield Fault(
                ("sampler", "n_startup_trials"),
                "sampler_never_acts",
                f"all {spec.budget.trials} trials are sampled at random: n_startup_trials is {sampler.n_startup_trials}; "
                f"write `sampler: {_with_startup(sampler, (spec.budget.trials or 0) // 2)}`, or raise budget.trials",
            )


def _idle_pruner(spec: StudySpec) -> Iterator[Fault]:
    if isinstance(spec.pruner, NoPruner):
        return
    if (first := first_decision(spec.pruner)) is not None and first >= spec.last_step:
        yield Fault(
            ("pruner",),
            "pruner_never_acts",
            f"the pruner never acts: its first decision follows epoch {first}, and trials have {spec.last_step} epochs; "
            f"raise epochs above {first}, or lower {_delaying(spec)}",
        )
    options = spec.pruner.wrapped if isinstance(spec.pruner, Patient) else spec.pruner
    if isinstance(options, Median | Percentile) and spec.budget.trials is not None and options.n_startup_trials >= spec.budget.trials > 1:
        place = ("pruner", "n_startup_trials") if options is spec.pruner else ("pruner", "wrapped", "n_startup_trials")
        yield Fault(
            place,
            "pruner_never_acts",
            f"the pruner never acts: it waits for {options.n_startup_trials} complete trials, and the budget has {spec.budget.trials}; "
            f"write `pruner: {_with_startup(spec.pruner, spec.budget.trials // 2)}`, or raise budget.trials",
        )


def _with_startup(options: Sampler | Pruner, count: int) -> str:
    """The section in one line of YAML: the options that differ from their defaults, and `n_startup_trials`."""
    given = options.model_dump(mode="json", exclude_defaults=True)
    if isinstance(options, Patient):
        wrapped = options.wrapped
        inner = wrapped.model_dump(mode="json", exclude_defaults=True)
        given["wrapped"] = {"name": wrapped.name, **inner, "n_startup_trials": count}
    else:
        given["n_startup_trials"] = count
    return yaml.safe_dump({"name": options.name, **given}, default_flow_style=True, sort_keys=False, width=math.inf).strip()


def _few_seeds(spec: StudySpec) -> Iterator[Fault]:
    if spec.confirm is not None and spec.confirm.seeds < FEWEST_USEFUL_RUNS:
        yield Fault(
            ("confirm", "seeds"),
            "too_few_seeds",
            f"intervals from {spec.confirm.seeds} runs are so wide that they confirm little, often the whole range of the metric; "
            f"write `confirm: {{top: {spec.confirm.top}, seeds: 5}}`, or at least {FEWEST_USEFUL_RUNS} seeds",
        )


def _small_space(spec: StudySpec) -> Iterator[Fault]:
    count, trials = spec.covered_configurations, spec.budget.trials
    if count is not None and trials is not None and count < trials:
        configurations = counted(count, "configuration")
        yield Fault(
            ("budget", "trials"),
            "budget_above_space",
            f"the search space has {configurations}, and each is tried once, so the study ends after {count} of {trials} trials; "
            f"widen search_space, or lower budget.trials to {count}",
        )


def _delaying(spec: StudySpec) -> str:
    """The name of the option that delays the pruner's first decision."""
    names = ("patience", "min_steps", "n_warmup_steps", "n_startup_steps")
    return next((name for name in names if name in type(spec.pruner).model_fields), "its delay")


def reuse_view(trial: Trial) -> ReuseView | None:
    """Work that the trial's run shares with others. None before the run reports it, and for a duplicate, which is not run."""
    if trial.duplicate_of is not None or not trial.result.get("reuse"):
        return None
    reuse = Reuse.model_validate(trial.result["reuse"])  # fills in defaults, which are not stored
    return ReuseView(
        pixels=reuse.pixels, depth=reuse.depth, place=reuse.place, lanes=reuse.lanes, saved_seconds=_pace_of(trial).get("saved_seconds")
    )


def pace_view(trial: Trial) -> PaceView | None:
    """The speed of the trial's run. None before the run reports it, and for a duplicate, which is not run."""
    if trial.duplicate_of is not None or not (pace := _pace_of(trial)):
        return None
    return PaceView(
        samples_per_second=pace.get("samples_per_second"),
        seconds_left=pace.get("seconds_left") if trial.state is TrialState.RUNNING else None,
        memory=pace.get("memory"),
        utilization=pace.get("utilization"),
        shares=_shares(pace.get("seconds") or {}),
    )


def saved_view(saved: SavedSeconds) -> SavedView:
    """The REST model of the study's savings."""
    return SavedView(features_seconds=finite(saved.features_seconds) or 0.0, duplicates_seconds=finite(saved.duplicates_seconds) or 0.0)


def _pace_of(trial: Trial) -> Mapping[str, Any]:
    pace: Mapping[str, Any] = finite(trial.result.get("pace")) or {}
    return pace


def _shares(seconds: Mapping[str, float | None]) -> dict[str, float]:
    """Each activity's share of the total time. Empty if no time was reported."""
    spent = {activity: value for activity, value in seconds.items() if value is not None and value > 0}
    total = sum(spent.values())
    return {activity: value / total for activity, value in spent.items()}


@dataclass(frozen=True, slots=True)
class Standing:
    """Figures of a study that are derived from its trials and the workers."""

    counts: Mapping[TrialState, int]
    best: Trial | None = None
    unavailable: Sequence[Unavailability] = ()  # only of live workers
    blocked: Sequence[Worker] = ()  # live workers that can use none of their devices
    live_workers: int = 0
    seconds_left: float | None = None
    saved: SavedSeconds = field(default_factory=SavedSeconds)
    device_wait: DeviceWait | None = None
    without_effect: Sequence[str] = ()  # sentences about parameters


def study_view(study: Study, standing: Standing) -> StudyView:
    """The REST model of the study."""
    notes = (*(study.facts.notes if study.facts is not None else ()), *standing.without_effect)
    sizes = study.facts.sizes if study.facts is not None else None
    majority = _majority(study, standing.best)
    return StudyView(**_study_fields(study, standing), facts=study.facts, majority=majority, notes=notes, sizes=sizes)


def listed_study_view(study: Study, standing: Standing) -> ListedStudyView:
    """The REST model of the study in a list: without its facts."""
    return ListedStudyView(**_study_fields(study, standing))


def _study_fields(study: Study, standing: Standing) -> dict[str, Any]:
    counts = standing.counts
    return dict(
        id=study.id, name=study.name, state=study.state, phase=phase_of(study), reason=study.reason,
        waiting=_waiting(study, standing), unavailable=[unavailable_view(one) for one in standing.unavailable],
        created=study.created, seq=study.seq,
        counts={state: counts.get(state, 0) for state in TrialState},
        seconds_left=finite(standing.seconds_left), saved=saved_view(standing.saved),
        budget=study.spec.budget, best=_best_view(standing.best), checked=study.sound, spec=study.spec,
        notices=[*notices_of(study.spec), *_needs_scripts(study)],
        created_at=instant(study.created_at), started_at=instant_or_none(study.started_at),
        finished_at=instant_or_none(study.finished_at),
    )  # fmt: skip


def _majority(study: Study, best: Trial | None) -> MajorityView | None:
    found = constant_of(study.facts, "validation", study.spec.objective.metric)
    if found is None:
        return None
    better = found.is_beaten_by(best.value) if best is not None and best.value is not None else None
    return MajorityView(better=better, **asdict(found.score))


def _waiting(study: Study, standing: Standing) -> str | None:
    """The reason why no trial runs: no live worker can read the data and has a device, or all queued trials wait for a larger one."""
    unavailable, blocked = standing.unavailable, standing.blocked
    busy = standing.counts.get(TrialState.RUNNING, 0) > 0
    workers = {one.worker for one in unavailable} | {worker.id for worker in blocked}
    if study.state is not StudyState.ACTIVE or busy:
        return None
    if not workers or len(workers) < standing.live_workers:
        return None if standing.device_wait is None else _waits_for_device(standing.device_wait)
    unread = " and ".join(sorted({one.what for one in unavailable}))
    verb = "run" if {one.what for one in unavailable} == {"script"} else "read"
    reasons = dict.fromkeys(f"on {one.host}, {one.detail}" for one in unavailable)
    faults = dict.fromkeys(f"on {worker.host}, {one.name}: {one.detail}. {one.remedy}" for worker in blocked for one in worker.unusable)
    sentences = [
        *([f"No worker can {verb} the study's {unread}: {'; '.join(reasons)}."] if unavailable else []),
        *([f"{'Other workers' if unavailable else 'Workers'} can use no device: {'; '.join(faults)}."] if blocked else []),
    ]
    can = "train" if blocked else "run it" if verb == "run" else "read them"
    return f"{' '.join(sentences)} The study continues when a worker can {can}."


def _waits_for_device(wait: DeviceWait) -> str:
    since = f"{instant(wait.since):%Y-%m-%d %H:%M} UTC"
    one = wait.trials == 1
    waiting = f"{wait.trials} {'trial waits' if one else 'trials wait'} for a GPU with at least {wait.least_device_bytes / 1e9:.1f} GB"
    cause = f"{'it' if one else 'they'} ran out of memory on a smaller one"
    end = f"{'It fails' if one else 'They fail'} if no worker with such a GPU is left."
    return f"{waiting} since {since}, because {cause}. {end}"


def unavailable_view(one: Unavailability) -> UnavailableView:
    """The REST model of the unavailability."""
    return UnavailableView(study=one.name, worker=one.worker, host=one.host, what=one.what, detail=one.detail, since=instant(one.since))


def _best_view(trial: Trial | None) -> BestView | None:
    if trial is None or trial.value is None:
        return None
    return BestView(number=trial.number, value=trial.value, params=trial.params, metrics=finite(trial.metrics))


def trial_view(spec: StudySpec, trial: Trial) -> TrialView:
    """The REST model of the trial."""
    return TrialView(**_trial_fields(spec, trial))


def whole_trial_view(spec: StudySpec, trial: Trial, attempts: Sequence[Attempt]) -> WholeTrialView:
    """The REST model of the trial with its attempts and checkpoints."""
    files = [CheckpointView(step=one.step, size=one.size, sha256=one.sha256) for one in trial.checkpoints]
    return WholeTrialView(**_trial_fields(spec, trial), attempts=[attempt_view(attempt) for attempt in attempts], checkpoints=files)


def _trial_fields(spec: StudySpec, trial: Trial) -> dict[str, Any]:
    return dict(
        number=trial.number, state=trial.state, params=trial.params, value=finite(trial.value), metrics=finite(trial.metrics),
        step=trial.step, attempt=trial.attempt, reason=trial.reason, worker=trial.worker,
        queued_at=instant(trial.queued_at), started_at=instant_or_none(trial.started_at), finished_at=instant_or_none(trial.finished_at),
        duplicate_of=trial.duplicate_of, source=trial.source, detail=trial.detail,
        confirms=trial.confirms, round=trial.round,
        seed=spec.config_for(trial.params, trial.number, trial.round).seed, result=finite(_short(trial.result)),
        reuse=reuse_view(trial), pace=pace_view(trial),
    )  # fmt: skip


def _short(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result without the values of each test example, which only the confirmation's statistics use."""
    if "test" not in result:
        return result
    omitted = example_fields()
    return {**result, "test": {name: value for name, value in result["test"].items() if name not in omitted}}


def metrics_view(number: int, metrics: list[ReportedMetric]) -> MetricsView:
    """The trial's metrics, one row for each step."""
    rows: dict[int, dict[str, float | None]] = {}
    for metric in metrics:
        rows.setdefault(metric.step, {})[metric.name] = finite(metric.value)
    return MetricsView(number=number, rows=[MetricsRow(step=step, metrics=rows[step]) for step in sorted(rows)])


def worker_view(worker: Worker, running: Sequence[tuple[str, int]], unavailable: Iterable[Unavailability]) -> WorkerView:
    """The REST model of the worker."""
    return WorkerView(
        id=worker.id, host=worker.host, pid=worker.pid, slots=worker.slots, devices=worker.devices,
        memory=worker.memory, device_names=worker.device_names,
        unusable=[UnusableDeviceView(device=one.device, name=one.name, detail=one.detail, remedy=one.remedy) for one in worker.unusable],
        state=WorkerState(worker.state), started_at=instant(worker.started_at), seen_at=instant(worker.seen_at),
        silent_seconds=max(0.0, time.time() - worker.seen_at),
        running=[RunningView(study=study, number=number) for study, number in running], set_aside=worker.set_aside, scripts=worker.scripts,
        unavailable=[unavailable_view(one) for one in unavailable if one.worker == worker.id],
    )  # fmt: skip


def attempt_view(attempt: Attempt) -> AttemptView:
    """The REST model of the attempt."""
    return AttemptView(
        attempt=attempt.attempt, worker=attempt.worker, resumed=attempt.resumed, started_at=instant(attempt.started_at),
        ended_at=instant_or_none(attempt.ended_at), ending=attempt.ending, step=attempt.step, detail=attempt.detail,
    )  # fmt: skip


def chunk_view(chunk: LogChunk) -> ChunkView:
    """The REST model of the log chunk."""
    return ChunkView(seq=chunk.seq, at=instant(chunk.at), text=chunk.text)
