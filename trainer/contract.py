"""The words that search and training share: what a run is given, and what it tells. Imports no torch."""

from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, field_validator, model_validator

Direction = Literal["minimize", "maximize"]
FailureReason = Literal["out_of_memory", "diverged", "crashed", "timeout", "bad_data", "script_error", "lost"]

METRICS: Mapping[str, Direction] = MappingProxyType(
    {"accuracy": "maximize", "precision": "maximize", "recall": "maximize", "f1": "maximize", "loss": "minimize"}
)
"""Scalar validation metrics of image classification with the direction that is better. Precision, recall and F1 are macro means."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
WEIGHT_FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


class Frozen(BaseModel):
    """A value that is checked once, when it is made, and never changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")  # metrics may be NaN


class DataConfig(Frozen):
    """Labelled images: a folder with a folder a class, or a CSV file with the columns `path` and `label`."""

    path: str = Field(min_length=1, max_length=4096)
    validation: FiniteFloat = Field(default=0.2, gt=0, lt=1, description="share of each class held out for validation")
    test: FiniteFloat = Field(default=0.0, ge=0, lt=1, description="share of each class that no trial sees")
    seed: int = Field(default=0, ge=0, le=2**53, description="decides, with the content, which image goes where")
    location: Literal["server", "workers"] = Field(
        default="server", description="`workers` when the server cannot see the path; the first worker checks it then"
    )

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on; lower one of them")
        return self

    @property
    def is_table(self) -> bool:
        """Whether the path is a CSV file rather than a folder."""
        return PurePath(self.path).suffix.lower() == ".csv"


def split_sizes(count: int, data: DataConfig) -> tuple[int, int, int]:
    """How many of a class's `count` distinct images go to train, validation and test. One rule for server and trainer.

    Shares are rounded, and a share that is wanted gets at least one image; train gets what is left, perhaps none.
    """
    test = max(1, round(count * data.test)) if data.test > 0 else 0
    validation = max(1, round(count * data.validation))
    return count - validation - test, validation, test


Channel = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class ModelConfig(Frozen):
    """A model of the catalogue, where its weights come from, and how its input is normalised."""

    name: str = Field(min_length=1, max_length=128)
    weights: str | None = Field(
        default=None, min_length=1, max_length=4096,
        description="a safetensors or state-dict file, a torchvision weights name, or null for random initial values",
    )  # fmt: skip
    mean: Channel = Field(default=IMAGENET_MEAN, description="of the RGB channels, on the scale 0 to 1")
    std: Channel = Field(default=IMAGENET_STD, description="of the RGB channels, on the scale 0 to 1")

    @field_validator("std")
    @classmethod
    def _spread_is_positive(cls, std: Channel) -> Channel:
        if min(std) <= 0:
            raise ValueError("each standard deviation must be above 0")
        return std

    @property
    def weights_file(self) -> str | None:
        """The weights when they are a file; None when they are a name or absent."""
        return self.weights if self.weights is not None and is_weights_file(self.weights) else None


def is_weights_file(weights: str) -> bool:
    """Whether the text names a file rather than one of torchvision's weights."""
    return "/" in weights or "\\" in weights or PurePath(weights).suffix.lower() in WEIGHT_FILE_SUFFIXES


class Hyperparameters(Frozen):
    """All that a study may vary or fix."""

    lr: FiniteFloat = Field(default=1e-3, gt=0, le=100, description="peak learning rate")
    batch_size: int = Field(default=32, ge=1, le=65_536)
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "adamw"
    momentum: FiniteFloat = Field(default=0.9, ge=0, lt=1, description="of sgd and rmsprop; unused by the others")
    beta1: FiniteFloat = Field(default=0.9, ge=0, lt=1, description="of adam and adamw: how slowly the mean of the gradients changes")
    beta2: FiniteFloat = Field(default=0.999, ge=0, lt=1, description="of adam and adamw: how slowly the mean of their squares changes")
    weight_decay: FiniteFloat = Field(default=0.0, ge=0, le=10)
    frozen_layers: int = Field(default=0, ge=0, le=10_000, description="how many stages, from the input, stay as they are")
    dropout: FiniteFloat = Field(default=0.0, ge=0, lt=1, description="before the last layer of the head")
    label_smoothing: FiniteFloat = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["constant", "cosine", "step", "one_cycle"] = "constant"
    warmup_fraction: FiniteFloat = Field(default=0.0, ge=0, lt=1, description="share of all steps in which lr rises linearly")
    lr_step_epochs: int = Field(default=5, ge=1, le=100_000, description="the step schedule multiplies lr by lr_gamma each so many epochs")
    lr_gamma: FiniteFloat = Field(default=0.1, gt=0, le=1)
    augmentation: Literal["none", "flip", "crop", "trivial_augment"] = "none"
    augmentation_views: int = Field(
        default=0, ge=0, le=10_000, description="stored views an image (view = epoch mod views); 0 draws a fresh one each epoch"
    )
    epochs: int = Field(default=5, ge=1, le=100_000)
    image_size: int = Field(default=224, ge=8, le=2_048, description="pixels; the shorter side is resized to it, then the centre is cut")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="float32", description="auto: bfloat16 where the device has matrix units for it, float32 elsewhere"
    )
    seed: int = Field(default=0, ge=0, le=2**53, description="of the initial values and of what the layers draw")
    order_seed: int = Field(
        default=0, ge=0, le=2**53, description="of the images' order; a study's trials have it in common, so that they may share batches"
    )


class TrainConfig(Hyperparameters):
    """One run, wholly resolved: equal configs on the same machine give equal results."""

    task: Literal["image_classification"] = "image_classification"
    data: DataConfig
    model: ModelConfig


class Checkpoint(Frozen):
    """A file that a run can be resumed from, after the epoch `step`."""

    step: int = Field(ge=1)
    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


# What a run tells, in order: Prepared, then for each epoch some Advanced, one Measured and perhaps one Saved, then Finished.
# Failed may come at any time and is the last. `lane` tells runs apart that share one pass over the data; alone, a run is lane 0.


class NearDuplicates(Frozen):
    """Images that differ in their files and hardly in what they show: each group is kept on one side of the split."""

    groups: int = Field(ge=0, description="of two or more different files each")
    images: int = Field(ge=0, description="in all groups together")
    crossing: int = Field(ge=0, description="groups that a split by content alone would have torn apart")
    mixed: int = Field(ge=0, description="groups with more than one label: one of their images is perhaps labelled wrongly")
    too_large: int = Field(default=0, ge=0, description="groups besides, not kept on one side: a class could not be split by them")
    examples: tuple[tuple[str, ...], ...] = Field(default=(), description="names of the images of some groups, those of mixed labels first")


class Facts(Frozen):
    """What was found about data and weights: the part of a result that the config alone does not say."""

    classes: tuple[str, ...] = Field(description="label names, in the order of the model's outputs")
    images: Mapping[str, int] = Field(description="how many images in train, validation and test")
    fingerprint: str = Field(description="SHA-256 over the content and label of every image")
    split: str = Field(description="SHA-256 over which image went where")
    weights_sha256: str | None = Field(description="of the weights file, or of the downloaded one; None without weights")
    near_duplicates: NearDuplicates | None = Field(default=None, description="None where nobody has looked for them")


class Reuse(Frozen):
    """What a run does not do itself, because another run has done it or does it with it."""

    pixels: Literal["decoded", "cached", "streamed"] = Field(description="decoded by this run, read from the cache, or too many to keep")
    depth: int = Field(default=0, ge=0, description="frozen stages whose stored output is read for the training images, not computed")
    validation_depth: int = Field(default=0, ge=0, description="the same for the validation images")
    place: Literal["none", "device", "memory", "disk"] = Field(default="none", description="where that output lies")
    lanes: int = Field(default=1, ge=1, description="runs that share each pass over the data, this one included")


Activity = Literal["data", "features", "forward", "backward", "measure", "waiting", "control"]
"""Where a run's time goes: gathering and augmenting, computing outputs of frozen stages to store, forward pass with the loss, backward pass
with the optimizer's step, measuring on the validation images, and waiting for the pruner's word. `control` is what the worker spends in
calls to the store; it goes on beside the others, and is in `waiting` too where the run waits for it."""


class Pace(Frozen):
    """How fast a run is, and what for. Of lanes that share a pass, each is told the whole pass's figures."""

    samples_per_second: float = Field(description="training images, over the last epoch")
    seconds_left: float = Field(description="of the run, at the pace so far")
    memory: int = Field(description="bytes at present: allocated on a GPU, resident in the process otherwise")
    utilization: float | None = Field(
        default=None, description="share of the last epoch in which the device was at work; see `trainer.utilization`"
    )
    seconds: Mapping[Activity, float] = Field(description="spent since the run began")
    saved_seconds: float = Field(default=0.0, description="what the stored output spared so far: computing it less reading and building it")


class Prepared(Frozen):
    """Data and model are ready."""

    kind: Literal["prepared"] = "prepared"
    lane: int = 0
    facts: Facts
    parameters: int = Field(description="of the whole model")
    trainable: int = Field(description="parameters that are trained")
    environment: Mapping[str, str] = Field(description="versions, device, threads: what equal results rest on")
    reuse: Reuse | None = None


class Advanced(Frozen):
    """A batch is done, of all lanes. Cheap; told at most a few times a second by the host."""

    kind: Literal["advanced"] = "advanced"
    epoch: int = Field(ge=1, description="the epoch under way, from 1")
    batch: int = Field(ge=0, description="0 while stored outputs are being made")
    batches: int = Field(ge=1)
    samples_per_second: float


class Measured(Frozen):
    """The epoch `step` is done and was measured on the validation images."""

    kind: Literal["measured"] = "measured"
    lane: int = 0
    step: int = Field(ge=1)
    metrics: Mapping[str, float] = Field(description="those of METRICS, train_loss and lr; values may be NaN or infinite")
    pace: Pace | None = None


class Saved(Frozen):
    """A checkpoint lies on the disk, whole and flushed."""

    kind: Literal["saved"] = "saved"
    lane: int = 0
    checkpoint: Checkpoint


class Scores(Frozen):
    """A trained model on the test images."""

    metrics: Mapping[str, float] = Field(description="those of METRICS")
    per_class_recall: Mapping[str, float]
    confusion_matrix: tuple[tuple[int, ...], ...] = Field(description="rows are true classes, columns predicted ones")
    predicted: str | None = Field(
        default=None,
        description="base64 of a little-endian uint16 an image, the predicted class: images by their true class, within it by content; "
        "None for more than MOST_SCORED images",
    )
    losses: str | None = Field(default=None, description="base64 of a little-endian float16 an image, its cross entropy, in the same order")


MOST_SCORED = 100_000  # images whose predictions are told one by one


class Finished(Frozen):
    """All epochs are done."""

    kind: Literal["finished"] = "finished"
    lane: int = 0
    step: int
    metrics: Mapping[str, float]
    per_class_recall: Mapping[str, float]
    confusion_matrix: tuple[tuple[int, ...], ...] = Field(description="rows are true classes, columns predicted ones, validation images")
    train_seconds: float
    peak_memory: int = Field(description="bytes: of the device on a GPU, resident in the process otherwise")
    test: Scores | None = Field(default=None, description="only of a run that was told to score the test images")


class Failed(Frozen):
    """The run ended without a result, for a reason that is an outcome."""

    kind: Literal["failed"] = "failed"
    lane: int = 0
    reason: FailureReason
    detail: str
    step: int = Field(default=0, description="epochs that were complete")


Progress = Annotated[Prepared | Advanced | Measured | Saved | Finished | Failed, Field(discriminator="kind")]


# The language between a supervisor and its warm trainer process (`python -m trainer`): JSON lines.
# Supervisor to trainer: Check, Run, Lanes, Answer, Cancel. Trainer to supervisor: Checked or Progress lines, and Ready after each task.


class Check(Frozen):
    """Look at data and weights, read every image, train nothing; answered by Checked or Failed, then Ready."""

    order: Literal["check"] = "check"
    config: TrainConfig
    threads: int | None = Field(default=None, ge=1, description="of PyTorch on the CPU meanwhile; None: as many as the process has")


class Run(Frozen):
    """Train; answered by Progress lines, then Ready."""

    order: Literal["run"] = "run"
    config: TrainConfig
    decision_steps: tuple[int, ...] = Field(default=(), description="after these steps the trainer waits for an Answer")
    checkpoint_folder: str | None = None
    checkpoint_seconds: float = Field(default=60.0, ge=0, description="at most one checkpoint in so many seconds, at the end of an epoch")
    resume: tuple[Checkpoint, ...] = Field(default=(), description="newest first; the first sound one is used")
    fingerprint: str | None = Field(default=None, description="fail with bad_data when the data is not this")
    weights_sha256: str | None = Field(default=None, description="fail with bad_data when the weights are not these")
    split: str | None = Field(default=None, description="fail with bad_data when the images are divided otherwise than Facts.split says")
    manifest: str | None = Field(default=None, description="Checked.manifest, so that images that have changed can be named")
    score_test: bool = Field(default=False, description="measure on the test images too, once, after the last epoch; told in Finished")
    model_file: str | None = Field(
        default=None, description="where to write the trained model as safetensors, with its label names; told by Exported after Finished"
    )
    demand: Mapping[int, float] = Field(
        default_factory=dict,
        description="by number of frozen stages, the epochs that the study has still to train with it, this run's included; "
        "decides which outputs of frozen stages are worth storing. Empty: this run's alone",
    )
    depths: tuple[int, int] | None = Field(
        default=None,
        description="Reuse.depth and validation_depth of the run that this one shall equal to the last bit, since rounding follows from "
        "them; None: planned. Lanes plan in any case",
    )


SHARED_BY_LANES = ("batch_size", "image_size", "precision", "augmentation", "augmentation_views", "order_seed", "frozen_layers")
"""Hyperparameters in which runs agree that share a pass over the data, besides task, data and model."""


class Lanes(Frozen):
    """Train runs of the head alone, all in one pass over the data; run `i` is lane `i`. Answered by each lane's Progress lines, then Ready.

    All runs freeze every stage, agree in SHARED_BY_LANES, and begin at their first epoch. After an epoch all lanes are measured
    before any Answer is waited for; then one is due for each lane for which the epoch is a decision step.
    """

    order: Literal["lanes"] = "lanes"
    runs: tuple[Run, ...] = Field(min_length=1)
    threads: int | None = Field(default=None, ge=1, description="of PyTorch on the CPU meanwhile; None: as many as the process has")


class Answer(Frozen):
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
    facts: Facts
    manifest: str | None = Field(
        default=None,
        description="`DIGESTS.PARTS`, both base64; None for more than MOST_LISTED files. DIGESTS: sorted, of each file the first four "
        "bytes of the SHA-256 over the JSON `[content, label]`, content being the SHA-256 of the file; tells which images are new "
        "or changed. PARTS: of each distinct content, in the order of their SHA-256s, two bits, "
        "lowest first: 0 train, 1 validation, 2 test",
    )


MOST_LISTED = 100_000  # files in a manifest


class Exported(Frozen):
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


class Ready(Frozen):
    """The process waits for its next task. Also the first line of its life."""

    kind: Literal["ready"] = "ready"


Order = Annotated[Check | Run | Lanes | Answer | Cancel, Field(discriminator="order")]
Line = Annotated[
    Prepared | Advanced | Measured | Saved | Finished | Failed | Checked | Exported | Stopped | Ready, Field(discriminator="kind")
]
ORDERS: TypeAdapter[Check | Run | Lanes | Answer | Cancel] = TypeAdapter(Order)
LINES: TypeAdapter[Prepared | Advanced | Measured | Saved | Finished | Failed | Checked | Exported | Stopped | Ready] = TypeAdapter(
    Line, config=ConfigDict(ser_json_inf_nan="constants")
)
