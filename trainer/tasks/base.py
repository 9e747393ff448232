"""The two protocols of a task: `TaskSpec`, which needs no torch, and `Task`, which the training loop calls. Imports no torch itself."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel

from trainer.configuration import DataConfig, DatasetInfo, Direction, Hyperparameters, Part, TrainConfig

if TYPE_CHECKING:  # torch and numpy take long to import, and the server does without torch
    import torch
    from torch import Tensor

    from trainer.cache import JSON, Cache
    from trainer.data.dataset import Dataset, Listing
    from trainer.data.examples import Look
    from trainer.models import StagedModel
    from trainer.weight_files import Outline

MOST_MAGNITUDE = 1e30  # of a metric; a loss beyond it shows only that the run diverged


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a run reports for its validation and test examples."""

    direction: Direction  # which is better
    low: float = -math.inf  # the range, both ends included
    high: float = math.inf
    unit: str = ""  # `share` for shares from 0 to 1
    resolution: Literal["example"] | float = 0.0  # the step between two possible values: one example of N, 1/N, or a constant; 0: none
    additive: bool = False  # the mean over the examples of a number of each example

    @property
    def is_share(self) -> bool:
        """Whether it is a share of something, from 0 to 1: shown in percent, and differences in percentage points."""
        return self.unit == "share"

    def holds(self, value: float) -> bool:
        """Whether a run can have reached the value."""
        return self.low <= value <= self.high and abs(value) <= MOST_MAGNITUDE

    def step(self, examples: int) -> float:
        """The step between two possible values on so many examples; 0 for a continuous metric."""
        if self.resolution == "example":
            return 1 / examples if examples else 0.0
        return self.resolution

    def shown(self, value: float) -> str:
        """The value in a sentence: shares in percent."""
        return f"{100 * value:.1f} %" if self.is_share else f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Counted:
    """The number of examples by part and stratum, such as the label; each stratum is split by itself."""

    given: tuple[Part, ...]  # the parts of the data's own split
    counts: Mapping[str, Counter[Part | None]]
    stratum: str = "stratum"  # the noun for one


class ModelInfo(Protocol):
    """What is known of a model without torch."""

    @property
    def stages(self) -> int:
        """How many can be frozen, from the input on; the head is not one of them."""
        ...

    @property
    def weights(self) -> Collection[str]:
        """The names of its published weights; empty where only a file, or random values, can be named."""
        ...

    def fault_of(self, name: str, value: object) -> tuple[str, str] | None:
        """Code and message where the model cannot be trained with that value of a hyperparameter of the task's own."""
        return None

    def refuse_weights(self, outline: "Outline", file_name: str) -> None:
        """Raises UnfitTensors where the file holds no weights of this model."""
        return


class TaskSpec(Protocol):
    """The torch-free half of a task: what server, parser, pages and statistics need.

    Its models of the families `TrainConfig`, `DatasetInfo` and `StudySpec` are found by `Family.of_task(name)`.
    """

    @property
    def name(self) -> str:
        """As documents write it in `task`."""
        ...

    @property
    def example(self) -> str:
        """What one example is called in sentences, a noun whose plural ends in s."""
        ...

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """By name, those that an objective may name."""
        ...

    @property
    def Report(self) -> type[BaseModel]:
        """What a finished run carries beside its metrics, of the validation examples."""
        ...

    @property
    def TestReport(self) -> type[BaseModel]:
        """The same of the test examples; the fields that `Report` does not have hold a value of each example, for statistics."""
        ...

    @property
    def Hyperparameters(self) -> type[Hyperparameters]:
        """What a study may vary or fix."""
        ...

    @property
    def size(self) -> str | None:
        """The hyperparameter that sets the size of an example, and so the memory that a run needs; None where there is none."""
        ...

    @property
    def stand_ins(self) -> Mapping[str, Any]:
        """Sound values for the sections data, model and objective, by which the rest of a document is checked where these have faults."""
        ...

    @property
    def lines(self) -> Mapping[str, str]:
        """By section of a study document, the line to write where it is missing: data, model, search_space and objective."""
        ...

    def models(self) -> Collection[str]:
        """The names that `model.name` may have."""
        ...

    def describe(self, model: str) -> ModelInfo:
        """Raises KeyError for a name that is not one of `models`."""
        ...

    def count(self, data: DataConfig, look: "Look") -> Counted:
        """How many examples the data has, by file names alone. Raises UnfitData."""
        ...


class Examples(Protocol):
    """The examples of a data set's contents, by row, in their order, as the first stage of the model takes them."""

    @property
    def keys(self) -> "Tensor":
        """int64 [N] on the host: of the content alone, so that no random number depends on the order."""
        ...

    @property
    def origin(self) -> Literal["decoded", "cached", "streamed"]:
        """Decoded for this run, found decoded, or too many to keep."""
        ...

    @property
    def stored_bytes(self) -> int:
        """Bytes that they take in the cache besides all outputs of stages."""
        ...

    @property
    def augmented(self) -> bool:
        """Whether the views of an example differ."""
        ...

    @property
    def views(self) -> int:
        """How many different views each example has; 0 for a fresh one in each epoch."""
        ...

    def take(self, rows: "Tensor", view: int | None) -> "Tensor":
        """The rows' input (rows int64 [B] on the host) [B, ...], on the device; a view None means unchanged examples."""
        ...

    def expect(self, batches: "Iterable[Tensor]") -> None:
        """Announces the rows of the batches to come, in the order in which they will be taken."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What a model reached on examples that it was not trained on."""

    metrics: Mapping[str, float]  # those of the task
    report: Callable[[], BaseModel]  # makes the task's Report, or its TestReport


class Task(Protocol):
    """The half that needs torch: what the training loop calls. Methods with a body are defaults that a subclass inherits."""

    @property
    def spec(self) -> TaskSpec:
        """The other half."""
        ...

    def list_examples(self, data: DataConfig, cache: "Cache", *, accepted: bool) -> "Listing":
        """The examples that the data has. Raises UnfitData or BadData; `accepted`: a check has accepted this data before."""
        ...

    def split(self, data: DataConfig, listing: "Listing", cache: "Cache", expected: DatasetInfo | None) -> "Dataset":
        """The examples with their parts, as in the run whose information is expected. Raises BadData."""
        ...

    def resolve(self, config: TrainConfig, listing: "Listing", dataset: "Dataset") -> tuple[TrainConfig, DatasetInfo]:
        """The config with what belongs to the weights written out, and what was found. Raises UnfitModel."""
        ...

    def model(self, config: TrainConfig, info: DatasetInfo) -> "StagedModel":
        """The model on the CPU with its weights, its first stages frozen. Raises UnfitModel.

        Equal configs give equal models, bit for bit, with a head that follows from seed and weights alone; torch's own random state stays
        as it is.
        """
        ...

    def refuse_batch_size(self, config: TrainConfig, model: "StagedModel") -> None:
        """Raises Infeasible where the model cannot be trained with the config's batch size."""
        return

    def inspect(self, examples: Examples, dataset: "Dataset", info: DatasetInfo) -> DatasetInfo:
        """The information with what only a look at every example shows, for a check."""
        return info

    def examples(self, dataset: "Dataset", config: TrainConfig, device: "torch.device", cache: "Cache") -> Examples:
        """The examples; each has been read once when this returns. Raises BadData with the names of those that cannot be used."""
        ...

    def cache_key(self, config: TrainConfig, info: DatasetInfo, contents: str, *, augmented: bool) -> "Mapping[str, JSON]":
        """What stored outputs follow from besides stages, precision, view, device and torch: weights, contents and how they are read.

        `contents` is a digest of the examples.
        """
        ...

    def targets(self, dataset: "Dataset") -> "Tensor":
        """[N, ...] on the host, by row."""
        ...

    def order(self, rows: "Tensor", targets: "Tensor", config: TrainConfig, epoch: int) -> "Tensor | None":
        """The rows of an epoch (counted from 1) in their order: int64 on the host, from the training rows and their targets.

        None: shuffled, each row once.
        """
        return None

    def loss(self, model: "StagedModel", features: "Tensor", depth: int, targets: "Tensor", settings: Any) -> "tuple[Tensor, Tensor]":
        """Runs the stages behind `depth` on features [B, ...] → each example's loss [B] and its weight in the mean [B], with gradient.

        Called under autocast; the loss itself is float32. The settings are those of `loss_settings`.
        """
        ...

    def loss_settings(self, config: TrainConfig, targets: "Tensor", info: DatasetInfo) -> Any:
        """What the loss follows from besides model and batch, given the targets of the training rows."""
        return None

    def predict(self, model: "StagedModel", features: "Tensor", depth: int) -> "Tensor":
        """Runs the stages behind `depth` → predictions [B, ...], in evaluation mode. Called under autocast, without gradient."""
        ...

    def tally(self, predictions: "Tensor", targets: "Tensor") -> "Tensor":
        """Predictions [B, ...] and targets [B, ...] → what each example adds to the metrics, float32 [B, K]."""
        ...

    def measure(self, tallies: "Tensor", targets: "Tensor", info: DatasetInfo, *, examples: bool = False) -> "Sequence[Measurement]":
        """Tallies [M, N, K] of M models on N examples with targets [N, ...] → a measurement of each model.

        With `examples` the report is the task's TestReport, with what statistics need of each example; else its Report.
        """
        ...

    def metadata(self, info: DatasetInfo) -> Mapping[str, str]:
        """What a reader of the exported model needs besides its config, for the file's metadata."""
        return {}
