"""The JSON bodies of the REST interface, shared by server and client."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from search_spaces import Scalar
from service.domain.spec import Budget, StudySpec
from service.domain.states import AttemptEnd, Phase, StudyState, TrialState, WorkerState
from service.domain.verdict import Verdict
from trainer.configuration import DatasetInfo, Direction
from trainer.protocol import FailureReason

TABLE_COLUMNS = (
    "number", "state", "value", "step", "attempt", "source", "duplicate_of", "reason", "detail", "worker",
    "queued_at", "started_at", "finished_at", "params", "metrics", "spared_seconds", "samples_per_second",
)  # fmt: skip
"""The columns of a trial in `TableView`, in order."""

ExportFormat = Literal["json", "yaml", "python", "card", "requirements"]
"""The forms of a study's exported configuration."""

Trend = tuple[tuple[int, float], ...]
"""Number and value of each trial that was the best of its study when it completed."""


class View(BaseModel):
    """The base of response bodies. Numbers that are not finite are sent as null, times in UTC."""

    model_config = ConfigDict(frozen=True)


class BestView(View):
    """The best complete trial so far."""

    number: int
    value: float
    params: Mapping[str, Scalar]
    metrics: Mapping[str, float | None]


class UnavailableView(View):
    """A worker that cannot read the data or weights of a study, or may not run its script. It claims none of its trials.

    Reading is tried again periodically.
    """

    study: str = Field(examples=["sign-digits"])
    worker: str
    host: str
    what: str = Field(description="`data`, `weights` or `script`")
    detail: str = Field(description="the reason", examples=["there is no folder /mnt/digits"])
    since: datetime


class SavedView(View):
    """Seconds of training that the study did not need, by the mechanism that saved them."""

    features_seconds: float = Field(description="saved by reading stored outputs of frozen stages; trials trained together count once")
    duplicates_seconds: float = Field(
        description="saved by copying the result of an earlier trial with the same parameters; if that trial was trained together with "
        "others, only its share counts"
    )


class NoticeView(View):
    """A part of a study that probably does not have the intended effect. The study is accepted nevertheless."""

    pointer: str = Field(examples=["#/pruner"])
    code: str = Field(examples=["pruner_never_acts"])
    message: str = Field(examples=["the pruner never acts: its first decision follows epoch 8, and trials have 5 epochs; lower min_steps"])


class ListedStudyView(View):
    """The current state of a study, without `facts`, which can be long and which `GET /studies/{study}` adds."""

    id: str = Field(examples=["8c5f0a1b2c3d4e5f"])
    name: str = Field(examples=["sign-digits"])
    state: StudyState
    phase: Phase = Field(
        description="`none`: the study has no confirmation; `search`, `running`: the search or the confirmation is in progress; "
        "`done`: the confirmation is complete; `stopped`: the study ended before its confirmation did"
    )
    waiting: str | None = Field(
        description="why no trial runs: no live worker can read the data and use a device, or all trials wait for a larger GPU; else null"
    )
    unavailable: list[UnavailableView] = Field(
        description="live workers that cannot read the study's data or weights, or may not run its script"
    )
    reason: str | None = Field(description="the reason why the study failed, or why it is complete without a result; else null")
    created: int = Field(description="number of trials created so far", examples=[12])
    counts: Mapping[TrialState, int] = Field(
        description="number of trials in each state", examples=[{"queued": 0, "running": 2, "complete": 9, "pruned": 1}]
    )
    budget: Budget
    best: BestView | None
    checked: bool = Field(description="whether a worker has checked the data and weights")
    seconds_left: float | None = Field(
        description="estimated remaining time at the average pace so far; null if unknown or if the study has ended", examples=[340.0]
    )
    saved: SavedView = Field(description="training time that the study did not need")
    seq: int = Field(description="sequence number of the study's last event; an event stream opened with it as ?after= misses no event")
    created_at: datetime
    started_at: datetime | None = Field(description="time of the first claim; null before it")
    finished_at: datetime | None
    notices: list[NoticeView] = Field(description="parts of the study that probably do not have the intended effect")
    spec: StudySpec

    @property
    def metric(self) -> str:
        """The name of the objective's metric."""
        return self.spec.objective.metric


class MajorityView(View):
    """The score of the best constant prediction, which is the same for every validation example."""

    label: str = Field(description="the prediction, such as the most frequent label")
    share: float = Field(description="share of the validation examples for which the prediction is right", examples=[0.95])
    value: float = Field(description="the objective of the constant prediction")
    better: bool | None = Field(description="whether the study's best value is better; null if there is no best value")
    sentence: str = Field(description="a sentence with share and value, for display")
    advice: str = Field(description="the remedy for a study whose best value is not better, for display")


class StudyView(ListedStudyView):
    """The current state of a study."""

    facts: DatasetInfo | None = Field(description="facts about the data and weights, from their check by a worker; null before the check")
    majority: MajorityView | None = Field(description="the best constant prediction, for comparison; null before the check")
    notes: Sequence[str] = Field(description="sentences about the data, for display: skipped files, assumptions, likely mistakes")
    sizes: Mapping[str, int] | None = Field(
        description="number of examples in train, validation and test; null before the check",
        examples=[{"train": 600, "validation": 200, "test": 200}],
    )


class StudiesPage(View):
    studies: list[ListedStudyView]
    next: str | None = Field(description="value of ?after= for the next page; null on the last page")


class TrendsPage(StudiesPage):
    """A page of studies, with the history of each one's best value."""

    trends: Mapping[str, Trend] = Field(
        description="by study id: number and value of each trial that was the best when it completed, oldest first",
        examples=[{"8c5f0a1b2c3d4e5f": [[0, 0.71], [4, 0.83]]}],
    )


class ReuseView(View):
    """Work of the run that is shared with other runs: decoded examples, stored outputs of frozen stages, joint training."""

    pixels: str = Field(
        description="source of the decoded examples: `decoded` by this run, `cached` by an earlier one, or `streamed` because they are too "
        "large for the cache"
    )
    depth: int = Field(description="number of frozen stages whose stored output is read instead of computed", examples=[9])
    place: str = Field(description="storage of that output: `none`, `device`, `memory` or `disk`")
    lanes: int = Field(description="number of trials that are trained together, this one included; 1 if it is trained alone", examples=[32])
    saved_seconds: float | None = Field(
        description="training time that the stored output has saved so far, for all trials trained together; negative until the time "
        "for storing it is recovered"
    )


class PaceView(View):
    """The speed of the run. For trials that are trained together, each one has the figures of the joint run."""

    samples_per_second: float | None = Field(description="training examples a second in the last epoch", examples=[1250.0])
    seconds_left: float | None = Field(description="estimated remaining seconds of a running trial; null if it does not run")
    memory: int | None = Field(description="bytes allocated on the GPU; on a CPU, resident bytes of the process")
    utilization: float | None = Field(
        description="share of the last epoch in which the GPU was busy, reported by its driver; on a CPU, CPU time of the run's threads as "
        "a share of the available time",
        examples=[0.93],
    )  # fmt: skip
    shares: Mapping[str, float] = Field(
        description="share of the elapsed time for each activity", examples=[{"forward": 0.6, "backward": 0.4}]
    )


class TrialView(View):
    """The current state of a trial."""

    number: int = Field(examples=[7])
    state: TrialState
    params: Mapping[str, Scalar] = Field(examples=[{"lr": 0.003, "optimizer": "sgd", "momentum": 0.9}])
    value: float | None = Field(
        description="the objective after the last epoch; null if there is none or it is not finite", examples=[0.962]
    )
    metrics: Mapping[str, float | None] = Field(description="the last value of each metric", examples=[{"accuracy": 0.962, "loss": 0.11}])
    step: int = Field(description="last reported epoch", examples=[8])
    attempt: int
    reason: FailureReason | None
    worker: str | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duplicate_of: int | None = Field(
        description="number of the trial with the same parameters whose result was copied, so that this one was not trained; else null"
    )
    source: str = Field(description="origin of the parameters: `sampler`, `baseline`, `user`, `duplicate` or `confirmation`")
    confirms: int | None = Field(description="number of the trial of the search whose configuration is trained again; null in the search")
    round: int | None = Field(description="round of the confirmation, from 1; null in the search")
    detail: str | None = Field(description="a sentence with the reason of a failure or of pruning")
    seed: int = Field(description="seed of this trial's training")
    result: Mapping[str, Any] = Field(
        description="reported by the run: seconds, memory, environment, reuse, pace; `GET …/trials/{number}` adds the task's report (its "
        "schema depends on the task) and the scores on the test examples"
    )
    reuse: ReuseView | None = Field(description="work shared with other runs; null until it is reported, and for a duplicate")
    pace: PaceView | None = Field(
        description="current speed of the run, or its speed at the end; null before the first epoch, and for a duplicate"
    )


class CheckpointView(View):
    """A file from which the trial can resume, on the machine of the worker that wrote it."""

    step: int = Field(description="epoch after which the file was written", examples=[6])
    size: int = Field(description="bytes", examples=[45_000_000])
    sha256: str


class AttemptView(View):
    """One attempt to run a trial, from its claim to its end."""

    attempt: int = Field(examples=[1])
    worker: str
    resumed: int = Field(description="epoch of the checkpoint from which the attempt resumed; 0 if it started from the beginning")
    started_at: datetime
    ended_at: datetime | None
    ending: AttemptEnd | None = Field(
        description="null while the attempt runs; after `released`, `lost` and `crashed` the trial can have another attempt"
    )
    step: int | None = Field(description="the last epoch reported before the attempt ended")
    detail: str | None


class WholeTrialView(TrialView):
    """The current state of a trial, with its attempts and checkpoints."""

    attempts: list[AttemptView] = Field(description="oldest first")
    checkpoints: list[CheckpointView] = Field(description="the checkpoints that are kept, newest first")


class TrialsPage(View):
    trials: list[TrialView]
    next: str | None = Field(description="value of ?after= for the next page; null on the last page")


class QueuedView(View):
    """Trials that were queued together."""

    trials: list[TrialView] = Field(description="in the order of the request")


class ChangesView(View):
    """A study and its trials that changed, read in one transaction."""

    study: ListedStudyView
    trials: list[TrialView] = Field(description="in the order of their last events")
    seq: int = Field(description="value of ?after= for the next request")
    more: bool = Field(description="whether there are more changes after this page")


class TableView(View):
    """A study and its trials that changed, read in one transaction. Each trial is a list of values in the order of `columns`."""

    study: ListedStudyView
    seq: int = Field(description="value of ?after= for the next request")
    more: bool = Field(description="whether there are more changes after this response")
    params: Sequence[str] = Field(description="parameter names, in the order of the column `params`", examples=[["lr", "optimizer"]])
    metrics: Sequence[str] = Field(description="metric names, in the order of the column `metrics`; the objective's metric first")
    columns: Sequence[str] = Field(description="names of the values of each trial, in order", examples=[list(TABLE_COLUMNS)])
    trials: Sequence[Sequence[Any]] = Field(
        description="in the order of their last events: times in seconds since 1970; null for missing values and numbers that are not "
        "finite; parameters rounded to ten significant digits, metrics to five",
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
    """Learning curves of the study's trials that changed."""

    metric: str = Field(examples=["accuracy"])
    seq: int = Field(description="value of ?after= for the next request")
    more: bool = Field(description="whether there are more changes after this response")
    curves: Sequence[Sequence[int | Sequence[float]]] = Field(
        description="number, steps and values of each trial, thinned to 64 points that include the extremes; values that are not finite "
        "are left out",
        examples=[[[7, [1, 2, 3], [0.5, 0.61, 0.7]]]],
    )  # fmt: skip


class ChunkView(View):
    """Lines of a log that were stored together."""

    seq: int = Field(description="number of the chunk: counts from 1 in each attempt, without gaps", examples=[1])
    at: datetime
    text: str = Field(examples=["2026-11-22T09:30:00Z INFO trainer.run_logger: epoch 1 of 8: loss 0.8213, accuracy 0.7125\n"])


class LogView(View):
    """A part of an attempt's log."""

    number: int
    attempt: int | None = Field(description="number of the attempt; null if the trial has not started")
    attempts: list[AttemptView]
    chunks: list[ChunkView]
    next: int | None = Field(description="value of ?after= for the next part; null if this is the last part so far")


class ClaimView(View):
    """A trial to be trained by the program that claimed it."""

    claim: str = Field(description="id of the claim, for `POST /claims/{claim}/…`", examples=["8c5f0a1b2c3d4e5f-7-1"])
    token: str = Field(description="secret of this claim, for the header Claim-Token of these calls; it is shown here only")
    study: str = Field(description="id of the study")
    number: int = Field(description="number of the trial", examples=[7])
    attempt: int = Field(examples=[1])
    phase: Literal["search", "confirmation"]
    params: Mapping[str, Scalar] = Field(examples=[{"lr": 0.003, "optimizer": "sgd"}])
    fixed: Mapping[str, Scalar] = Field(description="the study's fixed hyperparameters", examples=[{"epochs": 8}])
    seed: int = Field(description="seed for everything random in the training")
    metric: str = Field(description="the objective, which the last report needs", examples=["accuracy"])
    direction: Direction
    last_step: int | None = Field(description="the last step that may be reported; null if the study gives none", examples=[8])
    lease_seconds: float = Field(description="the claim is lost without a heartbeat or report for this long", examples=[30.0])
    heartbeat_seconds: float = Field(description="interval at which heartbeats should be sent", examples=[5.0])


class NothingView(View):
    """The answer to a claim if there is no trial for it."""

    claim: None = None
    reason: Literal["finished", "paused", "draining", "confirmation", "running", "waiting"] = Field(
        description="`finished`: the study has ended; `paused`; `draining`: this claimant gets no more trials; `confirmation`: only worker "
        "processes can train what is left; `running`: all trials that may run are running; `waiting`: none can start at present"
    )
    detail: str = Field(description="a sentence, for display")
    final: bool = Field(description="whether further claims find nothing either, unless a person changes the study")


class HeldView(View):
    """The lease of a claim was renewed."""

    claim: str
    lease_seconds: float
    heartbeat_seconds: float


class ReportedView(View):
    """A report was stored."""

    step: int = Field(description="the trial's last step")
    stop: bool = Field(description="whether the pruner has ended the trial: stop its training and claim another one")
    why: str | None = Field(description="the pruner's reason as a sentence")


class RunsView(View):
    """Number of trials of the confirmation."""

    done: int = Field(description="trials that have ended, in any state")
    running: int
    queued: int


class ConfirmationView(View):
    """Progress and results of the confirmation."""

    phase: Phase = Field(
        description="`none`: the study has no confirmation; `search`: the confirmation follows the search; `running`: it is in progress; "
        "`done`: it is complete; `stopped`: the study ended before its confirmation did"
    )
    note: str = Field(description="a sentence about the phase, for display")
    runs: RunsView
    verdict: Verdict | None = Field(description="results of the runs so far; null before the first result")


class FaultView(View):
    """One error in a request or document, with a JSON pointer to its place."""

    pointer: str = Field(examples=["#/search_space/lr/low"])
    code: str = Field(examples=["low_above_high"])
    detail: str = Field(examples=["low is above high; exchange them"])


class ProblemView(View):
    """Problem details (RFC 9457): the body of every error response."""

    type: str
    title: str = ""
    status: int = 0
    detail: str
    instance: str = ""
    request_id: str = ""
    errors: tuple[FaultView, ...] | None = None


class CheckedView(View):
    """The result of a check: the resolved study, or its faults."""

    document: Any = Field(description="the request's document as JSON; null if it cannot be parsed")
    study: StudySpec | None = Field(
        description="the study as it would be stored: preset expanded, open ranges closed, defaults filled in; null if it has faults"
    )
    trials: int | None = Field(description="number of configurations in the search space; null if a range is continuous", examples=[48])
    faults: list[FaultView] = Field(description="empty if the study is valid")
    notices: list[NoticeView] = Field(description="parts of a valid study that probably do not have the intended effect")


class SchemaView(View):
    """JSON Schemas of a study document. Each schema has its own `$defs`."""

    study: dict[str, Any] = Field(description="JSON Schema of the document")
    hyperparameters: dict[str, Any] = Field(description="JSON Schema of the hyperparameters, for `search_space` and `fixed`")
    not_searched: list[str] = Field(description="hyperparameters that are not allowed in a search space", examples=[["seed"]])
    metrics: Mapping[str, Direction] = Field(description="metrics that are valid for the objective, with their default directions")


class RunningView(View):
    """A trial that a worker is running."""

    study: str = Field(examples=["sign-digits"])
    number: int = Field(examples=[7])


class UnusableDeviceView(View):
    """A device or a driver that the worker found but cannot use."""

    device: str = Field(examples=["cuda:0"])
    name: str = Field(examples=["NVIDIA H200 #0, 141 GB"])
    detail: str = Field(description="the error of the device's test", examples=["the NVIDIA driver on your system is too old"])
    remedy: str = Field(description="what to do about it")


class WorkerView(View):
    """A process that claims trials."""

    id: str
    host: str
    pid: int
    slots: int = Field(description="number of trials, or groups of trials trained together, that the worker runs at the same time")
    devices: tuple[str, ...] = Field(examples=[["cuda:0"]])
    memory: tuple[int | None, ...] = Field(description="bytes of memory of each device, null if unknown; empty for older workers")
    device_names: tuple[str, ...] = Field(
        default=(), description="readable name of each device; empty for older workers", examples=[["NVIDIA H200 #0, 141 GB"]]
    )
    unusable: list[UnusableDeviceView] = Field(
        default=[],
        description="devices and drivers that the worker found but cannot use; no trial runs on them. A device is tested again every few "
        "minutes, a driver when the worker starts",
    )
    state: WorkerState = Field(description="a `draining` worker claims no more trials, completes those it runs, and exits")
    started_at: datetime
    seen_at: datetime
    silent_seconds: float = Field(
        description="seconds since the last heartbeat, by the server's clock; grows for a worker that was killed, whose `state` does not "
        "change"
    )
    running: list[RunningView] = Field(description="trials that the worker is running")
    unavailable: list[UnavailableView] = Field(
        description="studies whose data or weights the worker cannot read, or whose script it may not run"
    )
    scripts: tuple[str, ...] = Field(default=(), description="folders in which the worker runs scripts; empty if it runs none")
    set_aside: int = Field(description="number of results on the worker's disk that the database did not accept; its log has the reasons")


class WorkersView(View):
    workers: list[WorkerView]
