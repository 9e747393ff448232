"""The JSON bodies of the REST interface: what the server sends, and what its clients parse."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from search_spaces import Scalar
from search_spaces.presets import Preset
from service.domain.spec import Budget, StudySpec
from service.domain.states import AttemptEnd, Phase, StudyState, TrialState, WorkerState
from service.domain.verdict import Verdict
from trainer.configuration import DatasetInfo, Direction
from trainer.protocol import FailureReason

TABLE_COLUMNS = (
    "number", "state", "value", "step", "attempt", "source", "duplicate_of", "reason", "detail", "worker",
    "queued_at", "started_at", "finished_at", "params", "metrics", "spared_seconds", "samples_per_second",
)  # fmt: skip
"""The values of a trial in `TableView`, in their order."""

ExportFormat = Literal["json", "yaml", "python", "card", "requirements"]
"""The forms of a study's exported configuration."""

Trend = tuple[tuple[int, float], ...]
"""Number and value of each trial that was the best of its study when it ended."""


class View(BaseModel):
    """A body of an answer. The server sends finite numbers or null, and times in UTC."""

    model_config = ConfigDict(frozen=True)


class BestView(View):
    """The best complete trial so far."""

    number: int
    value: float
    params: Mapping[str, Scalar]
    metrics: Mapping[str, float | None]


class UnavailableView(View):
    """A worker that cannot read the data or weights of a study. It claims none of its trials and tries again periodically."""

    study: str = Field(examples=["sign-digits"])
    worker: str
    host: str
    what: str = Field(description="data or weights")
    detail: str = Field(description="why", examples=["there is no folder /mnt/digits"])
    since: datetime


class SavedView(View):
    """Seconds of training that the study did not need, by what spared them."""

    features_seconds: float = Field(description="by stored outputs of frozen stages; a shared pass counts once")
    duplicates_seconds: float = Field(description="by answering repeated parameters from their first trial; its share of a shared pass")


class NoticeView(View):
    """A part of a study that probably does not have the intended effect. The study is accepted nevertheless."""

    pointer: str = Field(examples=["#/pruner"])
    code: str = Field(examples=["pruner_never_acts"])
    message: str = Field(examples=["the pruner never acts: its first decision follows epoch 8, and trials have 5 epochs; lower min_steps"])


class ListedStudyView(View):
    """The current state of a study. `GET /studies/{study}` adds `facts`, which may be long."""

    id: str = Field(examples=["8c5f0a1b2c3d4e5f"])
    name: str = Field(examples=["sign-digits"])
    state: StudyState
    phase: Phase = Field(description="none: it confirms nothing; else whether search or confirmation is under way, or the latter is over")
    waiting: str | None = Field(description="why no trial runs, if no live worker can read the data or weights")
    unavailable: list[UnavailableView] = Field(description="live workers that cannot read its data or weights")
    reason: str | None = Field(description="why it failed, or why it is complete without a result")
    created: int = Field(description="trials created so far", examples=[12])
    counts: Mapping[TrialState, int] = Field(
        description="trials by state", examples=[{"queued": 0, "running": 2, "complete": 9, "pruned": 1}]
    )
    budget: Budget
    best: BestView | None
    checked: bool = Field(description="whether a worker has checked data and weights")
    seconds_left: float | None = Field(description="an estimate at the pace so far; null when unknown or ended", examples=[340.0])
    saved: SavedView = Field(description="what its trials were spared")
    seq: int = Field(description="of the study's last event; a stream opened with ?after= this misses nothing")
    created_at: datetime
    started_at: datetime | None = Field(description="first claim")
    finished_at: datetime | None
    notices: list[NoticeView] = Field(description="parts of the study that have no effect; a study with notices is accepted")
    spec: StudySpec

    @property
    def metric(self) -> str:
        """The name of the objective's metric."""
        return self.spec.objective.metric


class MajorityView(View):
    """The score of the best constant prediction on the validation examples: the same answer for each of them."""

    label: str = Field(description="the answer, such as the most frequent label")
    share: float = Field(description="share of the validation examples for which it is right", examples=[0.95])
    value: float = Field(description="the objective of the constant prediction")
    better: bool | None = Field(description="whether the best value of the study is better; null without one")
    sentence: str = Field(description="share and value as a sentence")
    advice: str = Field(description="a remedy if the best value is not better")


class StudyView(ListedStudyView):
    """The current state of a study."""

    facts: DatasetInfo | None = Field(description="facts about data and weights, from their check by a worker")
    majority: MajorityView | None = Field(description="the constant prediction to compare results with; null before the check")
    notes: Sequence[str] = Field(description="sentences for the user about the data: files left out, what was assumed, likely mistakes")
    sizes: Mapping[str, int] | None = Field(
        description="how many examples train, validation and test have; null before the check",
        examples=[{"train": 600, "validation": 200, "test": 200}],
    )


class StudiesPage(View):
    studies: list[ListedStudyView]
    next: str | None = Field(description="give it as ?after= to get the next page; null on the last")


class TrendsPage(StudiesPage):
    """Studies, each as it stands, with how its best value rose."""

    trends: Mapping[str, Trend] = Field(
        description="by study's id: number and value of trials that were the best until then, the newest one last",
        examples=[{"8c5f0a1b2c3d4e5f": [[0, 0.71], [4, 0.83]]}],
    )


class ReuseView(View):
    """What the run does not do itself, because another run has done it or does it with it."""

    pixels: str = Field(description="decoded by this run, cached by an earlier one, or streamed because they are too many to keep")
    depth: int = Field(description="frozen stages whose stored output is read in place of being computed", examples=[9])
    place: str = Field(description="where that output lies: none, device, memory or disk")
    lanes: int = Field(description="trials that share each pass over the data, this one included", examples=[32])
    saved_seconds: float | None = Field(description="what the stored output spared the whole pass so far; below 0 until it has paid")


class PaceView(View):
    """How fast the run is. Of trials that share a pass, each is told the whole pass's figures."""

    samples_per_second: float | None = Field(description="training examples a second, over the last epoch", examples=[1250.0])
    seconds_left: float | None = Field(description="of a running trial, at the pace so far; null when it does not run")
    memory: int | None = Field(description="bytes: allocated on a GPU, resident in the process otherwise")
    utilization: float | None = Field(
        description="share of the last epoch in which the GPU was at work, by its driver; on a CPU, of the time that the run's threads had",
        examples=[0.93],
    )  # fmt: skip
    shares: Mapping[str, float] = Field(description="of the time spent, by activity", examples=[{"forward": 0.6, "backward": 0.4}])


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
        description="reported by the run: seconds, memory, environment, reuse, pace; of a single trial (`GET …/trials/{number}`) also the "
        "task's report (its schema depends on the task), and the scores on the test examples"
    )
    reuse: ReuseView | None = Field(description="what the run took from others; null until it is known, and for a duplicate")
    pace: PaceView | None = Field(description="how fast the run is, or was at its end; null before its first epoch, and for a duplicate")


class CheckpointView(View):
    """A file that the trial can go on from, on the machine of the worker that wrote it."""

    step: int = Field(description="the epoch after which it was written", examples=[6])
    size: int = Field(description="bytes", examples=[45_000_000])
    sha256: str


class AttemptView(View):
    """One try at a trial, from its claim to its end."""

    attempt: int = Field(examples=[1])
    worker: str
    resumed: int = Field(description="the epoch of the checkpoint that it went on from; 0 from the beginning")
    started_at: datetime
    ended_at: datetime | None
    ending: AttemptEnd | None = Field(description="null while it runs; after released, lost and crashed the trial may have another attempt")
    step: int | None = Field(description="the last reported epoch when it ended")
    detail: str | None


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

    study: ListedStudyView
    trials: list[TrialView] = Field(description="as they stand, in the order of their last events")
    seq: int = Field(description="give it as ?after= the next time")
    more: bool = Field(description="whether the page was full: ask again at once")


class TableView(View):
    """A study and those of its trials that changed, seen at one moment, each trial a list of values."""

    study: ListedStudyView
    seq: int = Field(description="give it as ?after= the next time")
    more: bool = Field(description="whether the answer was full: ask again at once")
    params: Sequence[str] = Field(description="names of the parameters, in the order of each trial's", examples=[["lr", "optimizer"]])
    metrics: Sequence[str] = Field(description="names of the metrics, in the order of each trial's; the objective's first")
    columns: Sequence[str] = Field(description="names of each trial's values, in their order", examples=[list(TABLE_COLUMNS)])
    trials: Sequence[Sequence[Any]] = Field(
        description="in the order of their last events: times in seconds since 1970, null for what there is not or JSON cannot say, "
        "parameters to ten significant digits (the trial itself has all), metrics to five",
        examples=[[[7, "complete", 0.9, 8, 1, "sampler", None, None, None, "box:1", 1e9, 1e9, 1e9, [0.003, "sgd"], [0.9], 4.5, 1250.0]]],
    )  # fmt: skip


class MetricsRow(View):
    """The metrics of one step (epoch)."""

    step: int
    metrics: Mapping[str, float | None] = Field(examples=[{"accuracy": 0.91, "loss": 0.3}])


class MetricsView(View):
    number: int
    rows: list[MetricsRow]


class CurvesView(View):
    """The learning curves of those of a study's trials that changed."""

    metric: str = Field(examples=["accuracy"])
    seq: int = Field(description="give it as ?after= the next time")
    more: bool = Field(description="whether the answer was full: ask again at once")
    curves: Sequence[Sequence[int | Sequence[float]]] = Field(
        description="number, steps and values of each trial: up to 64 points, extremes among them, none that is not finite",
        examples=[[[7, [1, 2, 3], [0.5, 0.61, 0.7]]]],
    )  # fmt: skip


class ChunkView(View):
    """Lines of a log that were written together."""

    seq: int = Field(description="from 1 in each attempt, without a gap", examples=[1])
    at: datetime
    text: str = Field(examples=["2026-11-22T09:30:00Z INFO trainer.run_logger: epoch 1 of 8: loss 0.8213, accuracy 0.7125\n"])


class LogView(View):
    """A part of an attempt's log."""

    number: int
    attempt: int | None = Field(description="whose log it is; null while the trial has not begun")
    attempts: list[AttemptView]
    chunks: list[ChunkView]
    next: int | None = Field(description="give it as ?after= to get the next part; null when this was the last so far")


class RunsView(View):
    """The trials of the confirmation."""

    done: int = Field(description="that ended, whatever their end")
    running: int
    queued: int


class ConfirmationView(View):
    """How far the confirmation is, and what it has found."""

    phase: Phase = Field(description="none: the study confirms nothing; search: it will; stopped: it ended before")
    note: str = Field(description="the same in a sentence")
    runs: RunsView
    verdict: Verdict | None = Field(description="of the runs so far; null before the first")


class FaultView(View):
    """One thing that is wrong with a document."""

    pointer: str = Field(examples=["#/search_space/lr/low"])
    code: str = Field(examples=["low_above_high"])
    detail: str = Field(examples=["low is above high; exchange them"])


class ProblemView(View):
    """A problem (RFC 9457), the body of every answer to a call that failed."""

    type: str
    title: str = ""
    status: int = 0
    detail: str
    instance: str = ""
    request_id: str = ""
    errors: tuple[FaultView, ...] | None = None


class CheckedView(View):
    """What came of a check: a study that could be created as it stands, or what is wrong."""

    document: Any = Field(description="what was sent, as plain JSON; null when it cannot be read")
    study: StudySpec | None = Field(description="as it would be stored: preset expanded, open ranges closed, defaults written out")
    trials: int | None = Field(description="how many configurations its search space has; null when a range is continuous", examples=[48])
    faults: list[FaultView] = Field(description="none of a sound study")
    notices: list[NoticeView] = Field(description="parts of a sound study that have no effect")


class SchemaView(View):
    """What a study document may hold. Each schema has its own `$defs`."""

    study: dict[str, Any] = Field(description="JSON Schema of the document")
    hyperparameters: dict[str, Any] = Field(description="JSON Schema of what `search_space` and `fixed` may name")
    not_searched: list[str] = Field(description="hyperparameters that a search space may not name", examples=[["seed"]])
    metrics: Mapping[str, Direction] = Field(description="what an objective may name, with the direction that is better")


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
    smallest_image: int = Field(description="the smallest size of an example, in its hyperparameter's unit")
    image_step: int = Field(description="the size is a multiple of this")


class MetricView(View):
    """A number that runs of a task report, and what is known of its values."""

    direction: Direction = Field(description="which is better")
    low: float | None = Field(description="the lowest possible value; null without a bound", examples=[0.0])
    high: float | None = Field(description="the highest possible value; null without a bound", examples=[1.0])
    unit: str = Field(
        description="`share` for shares from 0 to 1, which the pages show in percent; empty without a unit", examples=["share"]
    )
    additive: bool = Field(description="whether it is the mean over the examples of a number of each example")


class TaskView(View):
    """An installed task, as far as one needs it to show the studies of it."""

    name: str = Field(description="a study's `task`", examples=["image_classification"])
    example: str = Field(description="what one example is called, a noun whose plural ends in s", examples=["row"])
    metrics: Mapping[str, MetricView] = Field(description="what an objective may name, by name")
    report: Sequence[str] = Field(description="fields of a complete trial's `result` that are the task's own", examples=[["residuals"]])
    module: str | None = Field(
        description="path of the JavaScript module that draws these fields; null: the pages show single numbers of them as a table",
        examples=["/static/tasks/image_classification.js"],
    )
    script_needs: str | None = Field(
        description="the packages that its exported training scripts need; null: it exports none",
        examples=["torch and torchvision"],
    )


class TasksView(View):
    tasks: list[TaskView] = Field(description="the task of studies that name none first, the others by name")


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
    unavailable: list[UnavailableView] = Field(description="studies whose data or weights it cannot read")
    set_aside: int = Field(description="results on its disk that the database did not accept; its log names them with the reasons")


class WorkersView(View):
    workers: list[WorkerView]


class Alive(View):
    status: str = Field(default="alive")


class Ready(View):
    status: str = Field(default="ready")
    sweep_age_seconds: float | None = Field(description="since the last look for lost workers; null where only shown is what there is")
