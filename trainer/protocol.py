"""The messages between a worker and its trainer process. Imports no torch."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationInfo, model_validator

from trainer.configuration import DatasetInfo, Frozen, RunConfig

FailureReason = Literal[
    "out_of_memory", "diverged", "crashed", "timeout", "bad_data", "script_error", "lost", "infeasible", "metric_missing"
]


class Checkpoint(Frozen):
    """A checkpoint file, from which a run resumes after epoch `step`."""

    step: int = Field(ge=1)
    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


# A run sends, in order: RunPrepared; in each epoch any number of BatchProgress, one EpochMetrics and at most one CheckpointSaved; then
# Finished. A run that is tried again because memory ran out sends BatchProgress of the same epoch again, and RunPrepared again if its
# stored outputs are kept elsewhere. Failed can be sent at any time and is then the last message. `lane` is the index of the run among the
# runs trained together; a run that trains alone has lane 0.


class Reuse(Frozen):
    """Work that a run shares with other runs, or reuses from them."""

    pixels: Literal["decoded", "cached", "streamed"] = Field(
        description="decoded by this run, read from the cache, or decoded in each epoch since there are too many to store"
    )
    depth: int = Field(
        default=0, ge=0, description="number of frozen stages whose stored output is read for the training examples instead of computed"
    )
    validation_depth: int = Field(default=0, ge=0, description="the same number for the validation examples")
    place: Literal["none", "device", "memory", "disk"] = Field(default="none", description="where the stored output is kept")
    lanes: int = Field(default=1, ge=1, description="number of runs whose heads are trained together, this one included")


Activity = Literal["data", "features", "forward", "backward", "measure", "waiting", "control"]
"""The activities that a run's time is attributed to: `data` loads and augments examples, `features` computes outputs of frozen stages for
storage, `forward` includes the loss, `backward` includes the optimizer's step, `measure` evaluates on the validation examples, `waiting`
waits for pruning decisions. `control` is the worker's time in calls to the store. It overlaps the other activities, and is part of
`waiting` where the run waits for a call."""


class Pace(Frozen):
    """The speed of a run and its use of time. Runs trained together each report the figures of the whole batch."""

    samples_per_second: float = Field(description="training examples per second in the last epoch")
    seconds_left: float = Field(description="remaining time of the run at the pace so far")
    memory: int = Field(description="current memory in bytes: allocated on the GPU, or resident in the process without one")
    utilization: float | None = Field(
        default=None, description="share of the last epoch in which the device was busy; see `trainer.devices`"
    )
    seconds: Mapping[Activity, float] = Field(description="time by activity since the start of the run")
    saved_seconds: float = Field(
        default=0.0, description="time saved by stored outputs so far: the time to compute them, less the time to build and read them"
    )


class RunPrepared(Frozen):
    """Data and model are ready."""

    kind: Literal["prepared"] = "prepared"
    lane: int = 0
    facts: DatasetInfo
    parameters: int = Field(description="number of parameters of the whole model")
    trainable: int = Field(description="number of trained parameters")
    environment: Mapping[str, str] = Field(description="versions, device and threads, on which results depend")
    reuse: Reuse | None = None


class BatchProgress(Frozen):
    """A batch is done, for all runs trained together. The host sends at most a few of these messages per second."""

    kind: Literal["advanced"] = "advanced"
    epoch: int = Field(ge=1, description="current epoch, counted from 1")
    batch: int = Field(ge=0, description="0 while stored outputs are being built")
    batches: int = Field(ge=1)
    samples_per_second: float


class EpochMetrics(Frozen):
    """The epoch `step` is done; the metrics are those of the validation examples."""

    kind: Literal["measured"] = "measured"
    lane: int = 0
    step: int = Field(ge=1)
    metrics: Mapping[str, float] = Field(description="the task's metrics, train_loss and lr; values may be NaN or infinite")
    pace: Pace | None = None


class CheckpointSaved(Frozen):
    """A checkpoint is complete and flushed to the disk."""

    kind: Literal["saved"] = "saved"
    lane: int = 0
    checkpoint: Checkpoint


class _Reported(Frozen):
    """Metrics, and the task's report as plain JSON."""

    metrics: Mapping[str, float] = Field(description="the task's metrics; for a run also train_loss and lr")
    report: Mapping[str, Any] = Field(default_factory=dict, description="the task's report, whose fields depend on the task")

    @model_validator(mode="before")
    @classmethod
    def _collect_the_report(cls, value: Any, info: ValidationInfo) -> Any:
        """Collect the fields of an inlined report. JSON of version 0.1 and stored results have them beside the other fields."""
        if info.mode != "json" or not isinstance(value, Mapping) or "report" in value:
            return value
        own = {name: item for name, item in value.items() if name in cls.model_fields}
        return {**own, "report": {name: item for name, item in value.items() if name not in cls.model_fields}}

    def flat(self, *, exclude: Collection[str] = ()) -> dict[str, Any]:
        """The message as JSON with the report's fields inlined, the form in which results are stored."""
        return {**self.model_dump(mode="json", exclude={"report", *exclude}, exclude_none=True), **self.report}


class Scores(_Reported):
    """Scores of a trained model on the test examples."""


class Finished(_Reported):
    """All epochs are done. The report is that of the validation examples."""

    kind: Literal["finished"] = "finished"
    lane: int = 0
    step: int
    train_seconds: float
    peak_memory: int = Field(
        description="peak memory in bytes: of the run's tensors on the GPU, or resident in the process without one; 0: not measured"
    )
    device_memory: int | None = Field(
        default=None,
        description="bytes of a GPU that the run needs: the peak that the allocator reserved for it, and an allowance for the context of "
        "the process; None without a GPU",
    )
    test: Scores | None = Field(default=None, description="present if the order has score_test")


class Failed(Frozen):
    """The run ended without a result. The reason is an outcome of the trial."""

    kind: Literal["failed"] = "failed"
    lane: int = 0
    reason: FailureReason
    detail: str
    step: int = Field(default=0, description="epochs that were complete")
    device_bytes: int | None = Field(default=None, ge=0, description="memory of the GPU, if it ran out of it")
    crowded: bool = Field(default=False, description="other processes held more than a tenth of it")


class Unavailable(Frozen):
    """Data or weights cannot be read on this machine, or a script may not run on it: the end of a run or a check without a result.

    The study can continue: another machine may be able to read them, and this one may be later. Content that was read and has changed is
    reported as Failed with `bad_data` instead.
    """

    kind: Literal["unavailable"] = "unavailable"
    lane: int = 0
    what: Literal["data", "weights", "script"]
    detail: str
    paths: tuple[str, ...] = Field(
        default=(),
        description="files and folders to test for readability before the next attempt; empty for a download, and for a script that "
        "the operator of the machine does not allow",
    )
    step: int = Field(default=0, description="epochs that were complete")


class Deferred(Frozen):
    """The run of a script ended with exit status 75 (EX_TEMPFAIL): it asks to be queued again, and is not a failure."""

    kind: Literal["deferred"] = "deferred"
    lane: int = 0
    detail: str
    step: int = Field(default=0, description="steps that were complete")


Progress = Annotated[
    RunPrepared | BatchProgress | EpochMetrics | CheckpointSaved | Finished | Failed | Unavailable | Deferred, Field(discriminator="kind")
]


# Messages between a worker and its trainer process (`python -m trainer`, or the runner of a task without a torch half), one JSON object a
# line.
# Worker to trainer: Check, Run, BatchedRuns, PruningDecision, Cancel.
# Trainer to worker: Checked or Progress, and TrainerReady after each order; DeviceUnusable before the first one.


class Check(Frozen):
    """Check data and weights and read every example, without training. Answered by Checked, Failed or Unavailable, then TrainerReady."""

    order: Literal["check"] = "check"
    config: RunConfig
    batch_sizes: tuple[int, ...] = Field(
        default=(), description="the check fails as infeasible only if none of these can be trained; empty: the config's batch size"
    )
    threads: int | None = Field(default=None, ge=1, description="of PyTorch on the CPU meanwhile; None: as many as the process has")


SHARE = "of the GPU's memory for caches, from now on, as the number of slots on it changes; None: unchanged"


class Run(Frozen):
    """Train one run. Answered by Progress messages, then TrainerReady."""

    order: Literal["run"] = "run"
    config: RunConfig
    decision_steps: tuple[int, ...] = Field(default=(), description="after these steps the trainer waits for a PruningDecision")
    checkpoint_folder: str | None = None
    checkpoint_seconds: float = Field(
        default=60.0, ge=0, description="least time between two checkpoints, which are written at the end of epochs"
    )
    resume: tuple[Checkpoint, ...] = Field(default=(), description="newest first; the first valid one is used")
    expected: DatasetInfo | None = Field(
        default=None,
        description="facts found by the study's check, or by the run to repeat. The run fails with bad_data if data, split or weights "
        "differ; fewer examples are reported as Unavailable instead. None: no comparison",
    )
    manifest: str | None = Field(default=None, description="Checked.manifest, to name examples that have changed")
    score_test: bool = Field(
        default=False, description="also score the test examples once, after the last epoch; the scores are in Finished"
    )
    model_file: str | None = Field(
        default=None,
        description="path for the trained model as safetensors, with its label names; ModelExported follows after Finished",
    )
    demand: Mapping[int, float] = Field(
        default_factory=dict,
        description="epochs that the study has left, by number of frozen stages, this run's included; the planner decides by it which "
        "outputs of frozen stages to store. Empty: only this run's epochs",
    )
    depths: tuple[int, int] | None = Field(
        default=None,
        description="Reuse.depth and validation_depth of the run that this one must reproduce bit for bit, since rounding depends on "
        "them. None: chosen by the planner, as always for BatchedRuns",
    )
    device_share: float | None = Field(default=None, gt=0, le=1, description=SHARE)
    reported: int = Field(default=0, ge=0, description="of a script: the last step that the store has from earlier attempts")


class BatchedRuns(Frozen):
    """Train the heads of several runs together in one pass over the data; run `i` has lane `i`.

    Answered by the Progress messages of each run, then TrainerReady. All runs freeze every stage, have equal task, data, model and
    `HeadsTogether.shared` hyperparameters, and start with their first epoch. After each epoch the trainer evaluates all runs, then waits
    for a PruningDecision for each run that has a decision step there.
    """

    order: Literal["lanes"] = "lanes"
    runs: tuple[Run, ...] = Field(min_length=1)
    threads: int | None = Field(default=None, ge=1, description="of PyTorch on the CPU meanwhile; None: as many as the process has")
    device_share: float | None = Field(default=None, gt=0, le=1, description=SHARE)


class PruningDecision(Frozen):
    """The pruning decision after a decision step. `go_on: false` ends the run with Stopped instead of Finished or Failed."""

    order: Literal["answer"] = "answer"
    lane: int = 0
    go_on: bool


class Cancel(Frozen):
    """End the run at the next batch. `save` first writes a checkpoint of the last complete epoch, unless it is stored already."""

    order: Literal["cancel"] = "cancel"
    lane: int | None = Field(default=None, description="None: all runs trained together")
    save: bool = False


class Checked(Frozen):
    """Data and weights passed the check."""

    kind: Literal["checked"] = "checked"
    facts: DatasetInfo
    manifest: str | None = Field(
        default=None,
        description="`DIGESTS.PARTS`, both base64; None for more than MOST_LISTED files. DIGESTS identifies new and changed examples. It "
        "has the first four bytes of one SHA-256 for each file, sorted. The SHA-256 is over the JSON `[content, label]`, where content is "
        "the SHA-256 of the file; where the data gives the split, the part is a third entry. PARTS has two bits for each distinct content, "
        "in the order of their SHA-256s, lowest bits first: 0 train, 1 validation, 2 test",
    )


MOST_LISTED = 100_000  # files in a manifest


class ModelExported(Frozen):
    """The trained model was written as safetensors. Its metadata contains label names and the config as JSON."""

    kind: Literal["exported"] = "exported"
    lane: int = 0
    path: str
    sha256: str


class Stopped(Frozen):
    """The run ended on request, after `step` complete epochs."""

    kind: Literal["stopped"] = "stopped"
    lane: int = 0
    step: int


class TrainerReady(Frozen):
    """The process waits for its next order. On a device that can be used this is also its first message."""

    kind: Literal["ready"] = "ready"
    proof_seconds: float | None = Field(default=None, description="of the test of an accelerator, in the first message on one")


class DeviceUnusable(Frozen):
    """The device of the process failed its test, and the process ends; or the test takes long, and TrainerReady may follow."""

    kind: Literal["unusable"] = "unusable"
    detail: str
    remedy: str = Field(description="what to do about it")


Order = Annotated[Check | Run | BatchedRuns | PruningDecision | Cancel, Field(discriminator="order")]
Message = Annotated[
    RunPrepared
    | BatchProgress
    | EpochMetrics
    | CheckpointSaved
    | Finished
    | Failed
    | Unavailable
    | Deferred
    | Checked
    | ModelExported
    | Stopped
    | TrainerReady
    | DeviceUnusable,
    Field(discriminator="kind"),
]
ORDERS: TypeAdapter[Check | Run | BatchedRuns | PruningDecision | Cancel] = TypeAdapter(Order)
LINES: TypeAdapter[
    RunPrepared
    | BatchProgress
    | EpochMetrics
    | CheckpointSaved
    | Finished
    | Failed
    | Unavailable
    | Deferred
    | Checked
    | ModelExported
    | Stopped
    | TrainerReady
    | DeviceUnusable
] = TypeAdapter(Message, config=ConfigDict(ser_json_inf_nan="constants"))
