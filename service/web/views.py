"""What the interface answers with: records as JSON, with every number finite or null and every time in UTC."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import Field

from search_spaces import Scalar
from search_spaces.presets import Preset
from service.confirmed import Phase, phase_of
from service.domain.records import Attempt, Metric, Study, Trial, Worker
from service.domain.spec import Budget, StudySpec
from service.domain.states import StudyState, TrialState, WorkerState
from service.store.queries import Saved
from service.web.history import AttemptView, attempt_view
from service.web.progress import PaceView, ReuseView, SavedView, pace_view, reuse_view, saved_view
from service.web.view import View, finite, instant, instant_or_none
from trainer.catalogue import Model
from trainer.contract import Facts, FailureReason


class BestView(View):
    """The best complete trial so far."""

    number: int
    value: float
    params: Mapping[str, Scalar]
    metrics: Mapping[str, float | None]


class StudyView(View):
    """A study as it stands."""

    id: str = Field(examples=["8c5f0a1b2c3d4e5f"])
    name: str = Field(examples=["sign-digits"])
    state: StudyState
    phase: Phase = Field(description="none: it confirms nothing; else whether search or confirmation is under way, or the latter is over")
    reason: str | None = Field(description="why it failed")
    created: int = Field(description="trials created so far", examples=[12])
    counts: Mapping[TrialState, int] = Field(
        description="trials by state", examples=[{"queued": 0, "running": 2, "complete": 9, "pruned": 1}]
    )
    budget: Budget
    best: BestView | None
    facts: Facts | None = Field(description="what the first worker found about data and weights")
    seconds_left: float | None = Field(description="an estimate at the pace so far; null when unknown or ended", examples=[340.0])
    saved: SavedView = Field(description="what its trials were spared")
    seq: int = Field(description="of the study's last event; a stream opened with ?after= this misses nothing")
    created_at: datetime
    started_at: datetime | None = Field(description="first claim")
    finished_at: datetime | None
    spec: StudySpec


class StudiesPage(View):
    studies: list[StudyView]
    next: str | None = Field(description="give it as ?after= to get the next page; null on the last")


class TrialView(View):
    """A trial as it stands."""

    number: int = Field(examples=[7])
    state: TrialState
    params: Mapping[str, Scalar] = Field(examples=[{"lr": 0.003, "optimizer": "sgd", "momentum": 0.9}])
    value: float | None = Field(
        description="the objective after the last epoch; null when there is none or it is not finite", examples=[0.962]
    )
    metrics: Mapping[str, float | None] = Field(description="last value by name", examples=[{"accuracy": 0.962, "loss": 0.11}])
    step: int = Field(description="last reported epoch", examples=[8])
    attempt: int
    reason: FailureReason | None
    worker: str | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duplicate_of: int | None = Field(description="the trial whose result answers this one; it was not trained again")
    source: str = Field(description="sampler, baseline, user, duplicate or confirmation")
    confirms: int | None = Field(description="the trial of the search whose configuration it trains again; null in the search")
    round: int | None = Field(description="of the confirmation, from 1; null in the search")
    detail: str | None = Field(description="the reason in a sentence, or why it was pruned")
    seed: int = Field(description="of this trial's training")
    result: Mapping[str, Any] = Field(
        description="what the run told: confusion matrix, per-class recall, seconds, memory, environment, reuse, pace"
    )
    reuse: ReuseView | None = Field(description="what the run took from others; null until it is known, and for a duplicate")
    pace: PaceView | None = Field(description="how fast the run is, or was at its end; null before its first epoch, and for a duplicate")


class CheckpointView(View):
    """A file that the trial can go on from, on the machine of the worker that wrote it."""

    step: int = Field(description="the epoch after which it was written", examples=[6])
    size: int = Field(description="bytes", examples=[45_000_000])
    sha256: str


class WholeTrialView(TrialView):
    """A trial as it stands, with its history."""

    attempts: list[AttemptView] = Field(description="the first one first")
    checkpoints: list[CheckpointView] = Field(description="those that are kept, the newest first")


class TrialsPage(View):
    trials: list[TrialView]
    next: str | None = Field(description="give it as ?after= to get the next page; null on the last")


class QueuedView(View):
    """Trials that were queued together."""

    trials: list[TrialView] = Field(description="in the order of the request")


class ChangesView(View):
    """A study and those of its trials that changed, seen at one moment."""

    study: StudyView
    trials: list[TrialView] = Field(description="as they stand, in the order of their last events")
    seq: int = Field(description="give it as ?after= the next time")
    more: bool = Field(description="whether the page was full: ask again at once")


class MetricsRow(View):
    """The metrics of one step (epoch)."""

    step: int
    metrics: Mapping[str, float | None] = Field(examples=[{"accuracy": 0.91, "loss": 0.3}])


class MetricsView(View):
    number: int
    rows: list[MetricsRow]


class ModelsView(View):
    models: list[str] = Field(examples=[["resnet18", "squeezenet1_1"]])


class TensorView(View):
    """A tensor of the state dict."""

    name: str
    shape: tuple[int, ...]


class StageView(View):
    """A step of the forward pass that is frozen or trained as a whole."""

    name: str
    tensors: list[TensorView]


class ModelView(View):
    """A model of the catalogue. `frozen_layers: k` freezes the first k stages; the head is always trained."""

    name: str
    family: str
    stages: list[StageView]
    head: StageView
    weights: list[str] = Field(description="torchvision's weights names")
    smallest_image: int = Field(description="pixels")
    image_step: int = Field(description="the image size is a multiple of this, in pixels")


class SpacesView(View):
    presets: list[Preset] = Field(description="search spaces that ship with Thawline; a study names one as `preset`")


class RunningView(View):
    """A trial that a worker runs."""

    study: str = Field(examples=["sign-digits"])
    number: int = Field(examples=[7])


class WorkerView(View):
    """A process that claims trials."""

    id: str
    host: str
    pid: int
    slots: int = Field(description="trials it runs at one time")
    devices: tuple[str, ...] = Field(examples=[["cuda:0"]])
    memory: tuple[int | None, ...] = Field(description="bytes of each device, null where unknown; empty from older workers")
    state: WorkerState = Field(description="a draining one takes no more trials, ends those it has, and goes")
    started_at: datetime
    seen_at: datetime
    silent_seconds: float = Field(description="since its last heartbeat, by the server's clock; a worker that was killed stays as it was")
    running: list[RunningView] = Field(description="the trials it runs now")


class WorkersView(View):
    workers: list[WorkerView]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a study's trials say of it."""

    counts: Mapping[TrialState, int]
    best: Trial | None = None
    seconds_left: float | None = None
    saved: Saved = field(default_factory=Saved)


def study_view(study: Study, standing: Standing) -> StudyView:
    """The study in the interface's words."""
    counts = standing.counts
    return StudyView(
        id=study.id, name=study.name, state=study.state, phase=phase_of(study), reason=study.reason, created=study.created, seq=study.seq,
        counts={state: counts.get(state, 0) for state in TrialState},
        seconds_left=finite(standing.seconds_left), saved=saved_view(standing.saved),
        budget=study.spec.budget, best=_best_view(standing.best), facts=study.facts, spec=study.spec,
        created_at=instant(study.created_at), started_at=instant_or_none(study.started_at),
        finished_at=instant_or_none(study.finished_at),
    )  # fmt: skip


def _best_view(trial: Trial | None) -> BestView | None:
    if trial is None or trial.value is None:
        return None
    return BestView(number=trial.number, value=trial.value, params=trial.params, metrics=finite(trial.metrics))


def trial_view(spec: StudySpec, trial: Trial) -> TrialView:
    """The trial in the interface's words."""
    return TrialView(**_trial_fields(spec, trial))


def whole_trial_view(spec: StudySpec, trial: Trial, attempts: Sequence[Attempt]) -> WholeTrialView:
    """The same, with its history and its files."""
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
    """Without what a run said of each test image, which only the statistics need."""
    if "test" not in result:
        return result
    return {**result, "test": {name: value for name, value in result["test"].items() if name not in ("predicted", "losses")}}


def metrics_view(number: int, metrics: list[Metric]) -> MetricsView:
    """The trial's metrics, a row a step."""
    rows: dict[int, dict[str, float | None]] = {}
    for metric in metrics:
        rows.setdefault(metric.step, {})[metric.name] = finite(metric.value)
    return MetricsView(number=number, rows=[MetricsRow(step=step, metrics=rows[step]) for step in sorted(rows)])


def model_view(model: Model) -> ModelView:
    """The model without what only the trainer needs."""
    stages = [_stage_view(stage.name, stage.tensors) for stage in model.stages]
    return ModelView(
        name=model.name, family=model.family, stages=stages, head=_stage_view(model.head.name, model.head.tensors),
        weights=list(model.weights), smallest_image=model.smallest_image, image_step=model.image_step,
    )  # fmt: skip


def _stage_view(name: str, tensors: Mapping[str, tuple[int, ...]]) -> StageView:
    return StageView(name=name, tensors=[TensorView(name=tensor, shape=shape) for tensor, shape in tensors.items()])


def worker_view(worker: Worker, running: Sequence[tuple[str, int]]) -> WorkerView:
    """The worker in the interface's words."""
    return WorkerView(
        id=worker.id, host=worker.host, pid=worker.pid, slots=worker.slots, devices=worker.devices,
        memory=worker.memory, state=WorkerState(worker.state), started_at=instant(worker.started_at), seen_at=instant(worker.seen_at),
        silent_seconds=max(0.0, time.time() - worker.seen_at),
        running=[RunningView(study=study, number=number) for study, number in running],
    )  # fmt: skip
