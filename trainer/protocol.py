"""The messages between a worker and its trainer process. Imports no torch."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationInfo, model_validator

from trainer.configuration import DatasetInfo, Frozen, TrainConfig

FailureReason = Literal["out_of_memory", "diverged", "crashed", "timeout", "bad_data", "script_error", "lost", "infeasible"]


class Checkpoint(Frozen):
    """A file that a run can be resumed from, after the epoch `step`."""

    step: int = Field(ge=1)
    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


# A run sends, in order: RunPrepared; in each epoch some BatchProgress, one EpochMetrics and at most one CheckpointSaved; then Finished.
# Failed may come at any time and is the last message. `lane` is the place of the run among those trained together; a run alone has lane 0.


class Reuse(Frozen):
    """What a run does not do itself, because another run has done it or does it with it."""

    pixels: Literal["decoded", "cached", "streamed"] = Field(description="decoded by this run, read from the cache, or too many to keep")
    depth: int = Field(default=0, ge=0, description="frozen stages whose stored output is read for the training examples, not computed")
    validation_depth: int = Field(default=0, ge=0, description="the same for the validation examples")
    place: Literal["none", "device", "memory", "disk"] = Field(default="none", description="where that output lies")
    lanes: int = Field(default=1, ge=1, description="runs that share each pass over the data, this one included")


Activity = Literal["data", "features", "forward", "backward", "measure", "waiting", "control"]
"""Where a run's time goes: gathering and augmenting, computing outputs of frozen stages to store, forward pass with the loss, backward pass
with the optimizer's step, measuring on the validation examples, and waiting for the pruner's word. `control` is what the worker spends in
calls to the store; it goes on beside the others, and is in `waiting` too where the run waits for it."""


class Pace(Frozen):
    """How fast a run is, and what for. Of lanes that share a pass, each is told the whole pass's figures."""

    samples_per_second: float = Field(description="training examples, over the last epoch")
    seconds_left: float = Field(description="of the run, at the pace so far")
    memory: int = Field(description="bytes at present: allocated on a GPU, resident in the process otherwise")
    utilization: float | None = Field(
        default=None, description="share of the last epoch in which the device was at work; see `trainer.devices`"
    )
    seconds: Mapping[Activity, float] = Field(description="spent since the run began")
    saved_seconds: float = Field(default=0.0, description="what the stored output spared so far: computing it less reading and building it")


class RunPrepared(Frozen):
    """Data and model are ready."""

    kind: Literal["prepared"] = "prepared"
    lane: int = 0
    facts: DatasetInfo
    parameters: int = Field(description="of the whole model")
    trainable: int = Field(description="parameters that are trained")
    environment: Mapping[str, str] = Field(description="versions, device, threads: what equal results rest on")
    reuse: Reuse | None = None


class BatchProgress(Frozen):
    """A batch is done, of all lanes. Cheap; told at most a few times a second by the host."""

    kind: Literal["advanced"] = "advanced"
    epoch: int = Field(ge=1, description="the epoch under way, from 1")
    batch: int = Field(ge=0, description="0 while stored outputs are being made")
    batches: int = Field(ge=1)
    samples_per_second: float


class EpochMetrics(Frozen):
    """The epoch `step` is done and was measured on the validation examples."""

    kind: Literal["measured"] = "measured"
    lane: int = 0
    step: int = Field(ge=1)
    metrics: Mapping[str, float] = Field(description="those of the task, train_loss and lr; values may be NaN or infinite")
    pace: Pace | None = None


class CheckpointSaved(Frozen):
    """A checkpoint lies on the disk, whole and flushed."""

    kind: Literal["saved"] = "saved"
    lane: int = 0
    checkpoint: Checkpoint


class _Reported(Frozen):
    """Metrics, and the task's report beside them as plain JSON."""

    metrics: Mapping[str, float] = Field(description="those of the task, of a run also train_loss and lr")
    report: Mapping[str, Any] = Field(default_factory=dict, description="what the task reports beside the metrics, in its own words")

    @model_validator(mode="before")
    @classmethod
    def _collect_the_report(cls, value: Any, info: ValidationInfo) -> Any:
        """In JSON the fields of the report may stand beside the others, as version 0.1 wrote them and as results are stored."""
        if info.mode != "json" or not isinstance(value, Mapping) or "report" in value:
            return value
        own = {name: item for name, item in value.items() if name in cls.model_fields}
        return {**own, "report": {name: item for name, item in value.items() if name not in cls.model_fields}}

    def flat(self, *, exclude: Collection[str] = ()) -> dict[str, Any]:
        """As JSON, with the fields of the report beside the others: the form in which results are stored."""
        return {**self.model_dump(mode="json", exclude={"report", *exclude}, exclude_none=True), **self.report}


class Scores(_Reported):
    """A trained model on the test examples."""


class Finished(_Reported):
    """All epochs are done. The report is of the validation examples."""

    kind: Literal["finished"] = "finished"
    lane: int = 0
    step: int
    train_seconds: float
    peak_memory: int = Field(description="bytes: of the device on a GPU, resident in the process otherwise")
    test: Scores | None = Field(default=None, description="only of a run whose order has score_test")


class Failed(Frozen):
    """The run ended without a result, for a reason that is an outcome."""

    kind: Literal["failed"] = "failed"
    lane: int = 0
    reason: FailureReason
    detail: str
    step: int = Field(default=0, description="epochs that were complete")


class Unavailable(Frozen):
    """Data or weights cannot be read on this machine, which ends a run or a check without a result.

    It says nothing about the study: another machine may read them, and this one may later. Content that was read and has changed is
    Failed with `bad_data` instead.
    """

    kind: Literal["unavailable"] = "unavailable"
    lane: int = 0
    what: Literal["data", "weights"]
    detail: str
    paths: tuple[str, ...] = Field(default=(), description="files and folders to look at before the next try; empty for a download")
    step: int = Field(default=0, description="epochs that were complete")


Progress = Annotated[
    RunPrepared | BatchProgress | EpochMetrics | CheckpointSaved | Finished | Failed | Unavailable, Field(discriminator="kind")
]


# Messages between a worker and its trainer process (`python -m trainer`), one JSON object a line.
# Worker to trainer: Check, Run, BatchedRuns, PruningDecision, Cancel.
# Trainer to worker: Checked or Progress, and TrainerReady after each order.


class Check(Frozen):
    """Look at data and weights, read every example, train nothing; answered by Checked, Failed or Unavailable, then TrainerReady."""

    order: Literal["check"] = "check"
    config: TrainConfig
    batch_sizes: tuple[int, ...] = Field(
        default=(), description="Failed, infeasible, only when none of these can be trained; empty: the config's alone"
    )
    threads: int | None = Field(default=None, ge=1, description="of PyTorch on the CPU meanwhile; None: as many as the process has")


class Run(Frozen):
    """Train; answered by Progress lines, then TrainerReady."""

    order: Literal["run"] = "run"
    config: TrainConfig
    decision_steps: tuple[int, ...] = Field(default=(), description="after these steps the trainer waits for a PruningDecision")
    checkpoint_folder: str | None = None
    checkpoint_seconds: float = Field(default=60.0, ge=0, description="at most one checkpoint in so many seconds, at the end of an epoch")
    resume: tuple[Checkpoint, ...] = Field(default=(), description="newest first; the first sound one is used")
    expected: DatasetInfo | None = Field(
        default=None,
        description="of the check of this study, or of the run to repeat: fail with bad_data when data, split or weights are not these; "
        "fewer examples are Unavailable rather than a change. None: whatever they are",
    )
    manifest: str | None = Field(default=None, description="Checked.manifest, so that examples that have changed can be named")
    score_test: bool = Field(
        default=False, description="measure on the test examples too, once, after the last epoch; the scores are in Finished"
    )
    model_file: str | None = Field(
        default=None,
        description="where to write the trained model as safetensors, with its label names; told by ModelExported after Finished",
    )
    demand: Mapping[int, float] = Field(
        default_factory=dict,
        description="by number of frozen stages, the epochs that the study has still to train with it, this run's included; "
        "decides which outputs of frozen stages are worth storing. Empty: this run's alone",
    )
    depths: tuple[int, int] | None = Field(
        default=None,
        description="Reuse.depth and validation_depth of the run that this one shall equal to the last bit, since rounding follows from "
        "them; None: planned. BatchedRuns plan in any case",
    )


class BatchedRuns(Frozen):
    """Train several runs of the head alone in one pass over the data; run `i` has lane `i`.

    Answered by the Progress messages of each run, then TrainerReady. All runs freeze every stage, agree in task, data, model and the
    hyperparameters that the task names, and begin at their first epoch. After an epoch the trainer measures all runs, and then waits for a
    PruningDecision for each run for which the epoch is a decision step.
    """

    order: Literal["lanes"] = "lanes"
    runs: tuple[Run, ...] = Field(min_length=1)
    threads: int | None = Field(default=None, ge=1, description="of PyTorch on the CPU meanwhile; None: as many as the process has")


class PruningDecision(Frozen):
    """The pruner's word after a decision step. False ends the run without Finished or Failed; Stopped follows."""

    order: Literal["answer"] = "answer"
    lane: int = 0
    go_on: bool


class Cancel(Frozen):
    """End the run at the next batch; `save` leaves a checkpoint of the last whole epoch first (if there is a newer one than stored)."""

    order: Literal["cancel"] = "cancel"
    lane: int | None = Field(default=None, description="None for all lanes")
    save: bool = False


class Checked(Frozen):
    """Data and weights are sound."""

    kind: Literal["checked"] = "checked"
    facts: DatasetInfo
    manifest: str | None = Field(
        default=None,
        description="`DIGESTS.PARTS`, both base64; None for more than MOST_LISTED files. DIGESTS: sorted, of each file the first four "
        "bytes of the SHA-256 over the JSON `[content, label]`, content being the SHA-256 of the file, with its part as a third entry "
        "where the data gives the split; shows which examples are new "
        "or changed. PARTS: of each distinct content, in the order of their SHA-256s, two bits, "
        "lowest first: 0 train, 1 validation, 2 test",
    )


MOST_LISTED = 100_000  # files in a manifest


class ModelExported(Frozen):
    """The trained model lies on the disk as safetensors; its metadata holds label names and the config, as JSON."""

    kind: Literal["exported"] = "exported"
    lane: int = 0
    path: str
    sha256: str


class Stopped(Frozen):
    """The run ended because it was told to, after `step` whole epochs."""

    kind: Literal["stopped"] = "stopped"
    lane: int = 0
    step: int


class TrainerReady(Frozen):
    """The process waits for its next task. Also the first line of its life."""

    kind: Literal["ready"] = "ready"


Order = Annotated[Check | Run | BatchedRuns | PruningDecision | Cancel, Field(discriminator="order")]
Message = Annotated[
    RunPrepared
    | BatchProgress
    | EpochMetrics
    | CheckpointSaved
    | Finished
    | Failed
    | Unavailable
    | Checked
    | ModelExported
    | Stopped
    | TrainerReady,
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
    | Checked
    | ModelExported
    | Stopped
    | TrainerReady
] = TypeAdapter(Message, config=ConfigDict(ser_json_inf_nan="constants"))
