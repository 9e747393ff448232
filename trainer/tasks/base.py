"""The two protocols of a task: `TaskSpec`, which needs no torch, and `Task`, which the training loop calls. Imports no torch."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from trainer.configuration import DataConfig, DatasetInfo, Direction, Part, TrainConfig
from trainer.targets.examples import NamedExample

if TYPE_CHECKING:  # torch and numpy take long to import, and the server does without torch
    import torch
    from torch import Tensor

    from trainer.cache import JSON, Cache
    from trainer.data.dataset import Dataset, Listing
    from trainer.data.examples import Look
    from trainer.models import StagedModel
    from trainer.sequences import Features
    from trainer.weight_files import Outline

MOST_MAGNITUDE = 1e30  # of a metric; a larger loss means that the run diverged


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that runs report for validation and test examples."""

    direction: Direction  # the better one
    low: float = -math.inf  # bounds of the range, both included
    high: float = math.inf
    unit: str = ""  # `share` for shares from 0 to 1
    resolution: Literal["example"] | float = 0.0  # step between possible values: 1/N for N examples, or a constant; 0: continuous
    additive: bool = False  # whether it is the mean of a value of each example

    @property
    def is_share(self) -> bool:
        """Whether it is a share from 0 to 1, which is shown in percent, and its differences in percentage points."""
        return self.unit == "share"

    def holds(self, value: float) -> bool:
        """Whether the value is in the range of the metric."""
        return self.low <= value <= self.high and abs(value) <= MOST_MAGNITUDE

    def step(self, examples: int) -> float:
        """The step between possible values on that number of examples; 0 for a continuous metric."""
        if self.resolution == "example":
            return 1 / examples if examples else 0.0
        return self.resolution

    def shown(self, value: float) -> str:
        """The value as text, shares in percent."""
        return f"{100 * value:.1f} %" if self.is_share else f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Counted:
    """The number of examples by stratum, such as the label, and part. Each stratum is split separately."""

    given: tuple[Part, ...]  # parts that the data has of its own
    counts: Mapping[str, Counter[Part | None]]
    stratum: str = "stratum"  # noun for messages


class UndescribedModel(KeyError):
    """A model cannot be described here. The text states the reason and the remedy for the user; `code` is for programs.

    `elsewhere`: another machine, such as a worker, may be able to describe it.
    """

    def __init__(self, code: str, text: str, *, elsewhere: bool = False) -> None:
        super().__init__(text)
        self.code, self.text, self.elsewhere = code, text, elsewhere


class ModelInfo(Protocol):
    """Description of a model, available without torch."""

    @property
    def stages(self) -> int:
        """The number of stages that can be frozen, counted from the input, without the head."""
        ...

    @property
    def weights(self) -> Collection[str]:
        """The names of its published weights; empty if it accepts only files and random values."""
        ...

    def fault_of(self, name: str, value: object) -> tuple[str, str] | None:
        """Code and message of a fault if the model cannot be trained with this value of one of the task's own hyperparameters."""
        return None

    def refuse_weights(self, outline: "Outline", file_name: str) -> None:
        """Raises UnfitTensors if the file contains no weights of this model."""
        return


def described_model(spec: "TaskSpec", name: object, info: DatasetInfo | None = None) -> ModelInfo | None:
    """The description of a model on this machine, or else the one in the info of a check; None if there is neither."""
    try:
        if isinstance(name, str):
            return spec.describe(name)
    except KeyError:
        pass
    return None if info is None else info.described_model


class TaskSpec(Protocol):
    """The part of a task that needs no torch, for server, parser, pages and statistics.

    The task's models in the families `TrainConfig`, `DatasetInfo` and `StudySpec` are returned by `of_task(name)` of the family.
    """

    @property
    def name(self) -> str:
        """The value of `task` in documents."""
        ...

    @property
    def example(self) -> str:
        """The noun for one example in sentences. Its plural must end in s."""
        ...

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that an objective may name, by name."""
        ...

    @property
    def Report(self) -> type[BaseModel]:
        """The model of the report on the validation examples, which a finished run has beside its metrics."""
        ...

    @property
    def TestReport(self) -> type[BaseModel]:
        """The model of the report on the test examples. Fields that `Report` lacks contain a value for each example, for statistics."""
        ...

    @property
    def Hyperparameters(self) -> type[BaseModel]:
        """The model of the hyperparameters that a study may vary or fix, a subclass of `trainer.configuration.Hyperparameters`."""
        ...

    @property
    def size(self) -> str | None:
        """The hyperparameter that sets the size of an example, on which a run's memory depends; None if there is none."""
        ...

    @property
    def stand_ins(self) -> Mapping[str, Any]:
        """Valid values for the sections data, model and objective. They replace faulty ones while the other sections are checked."""
        ...

    @property
    def lines(self) -> Mapping[str, str]:
        """Example lines for the sections data, model, search_space and objective, quoted in messages if one is missing."""
        ...

    def models(self) -> Collection[str]:
        """The accepted values of `model.name`; empty for a task whose models are folders or names of a hub."""
        ...

    def describe(self, model: str) -> ModelInfo:
        """The description of a model. Raises KeyError for a name that is not in `models()`, and UndescribedModel for a folder or hub name
        without a usable description.
        """
        ...

    def count(self, data: DataConfig, look: "Look") -> Counted:
        """Count the examples by file names and tables, without reading examples. Raises UnfitData."""
        ...


class Examples(Protocol):
    """The distinct examples of a data set by row, as input of the model's first stage."""

    @property
    def keys(self) -> "Tensor":
        """int64 [N] on the host. Keys depend only on the content, so that random numbers do not depend on the order."""
        ...

    @property
    def origin(self) -> Literal["decoded", "cached", "streamed"]:
        """Decoded for this run, found decoded in the cache, or decoded in each epoch since there are too many to store."""
        ...

    @property
    def stored_bytes(self) -> int:
        """Bytes of the examples in the cache, without the outputs of stages."""
        ...

    @property
    def augmented(self) -> bool:
        """Whether the views of an example differ from each other."""
        ...

    @property
    def views(self) -> int:
        """The number of different views of each example; 0: a new one in each epoch."""
        ...

    def take(self, rows: "Tensor", view: int | None) -> "Features":
        """Input [B, ...] on the device for the rows, int64 [B] on the host; without augmentation if `view` is None.

        Examples that are Ragged return Sequences.
        """
        ...

    def expect(self, batches: "Iterable[Tensor]") -> None:
        """Announce the rows of the next batches, in the order of the calls of `take`, so that they can be prefetched."""
        ...


@runtime_checkable
class Ragged(Protocol):
    """Capability of Examples: sequences of different lengths, whose stages map Sequences to Sequences."""

    @property
    def lengths(self) -> "Tensor":
        """The length of each example, int64 [N] on the host."""
        ...


Names = Callable[[Sequence[int]], Sequence[NamedExample]]
"""Places of examples among those that are evaluated, in the order of a report → the examples as it names them."""
Decision = Any
"""A rule that turns a model's outputs into an answer, such as a threshold; chosen on validation examples. None for a task without one."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """The evaluation of a model on examples that it was not trained on."""

    metrics: Mapping[str, float]  # of the task
    report: Callable[[], BaseModel]  # creates the task's Report or TestReport
    decision: Decision = None  # chosen on these examples, or given


class Task(Protocol):
    """The part of a task that needs torch, called by the training loop. Methods with a body are defaults for subclasses."""

    @property
    def spec(self) -> TaskSpec:
        """The part without torch."""
        ...

    def list_examples(self, data: DataConfig, cache: "Cache", *, accepted: bool) -> "Listing":
        """List the examples. Raises UnfitData or BadData. `accepted`: an earlier check accepted this data."""
        ...

    def split(self, data: DataConfig, listing: "Listing", cache: "Cache", expected: DatasetInfo | None) -> "Dataset":
        """Assign the examples to parts, as in the run with the info `expected`. Raises BadData."""
        ...

    def resolve(self, config: TrainConfig, listing: "Listing", dataset: "Dataset") -> tuple[TrainConfig, DatasetInfo]:
        """Complete the config with settings that belong to the weights, and collect the facts about the data. Raises UnfitModel."""
        ...

    def model(self, config: TrainConfig, info: DatasetInfo) -> "StagedModel":
        """Build the model on the CPU, with its weights and frozen stages. Raises UnfitModel.

        Equal configs give bitwise equal models. The head depends only on seed and weights. Does not change torch's global random state.
        """
        ...

    def refuse_batch_size(self, config: TrainConfig, model: "StagedModel") -> None:
        """Raises Infeasible if the model cannot be trained with the config's batch size."""
        return

    def inspect(self, examples: Examples, dataset: "Dataset", info: DatasetInfo) -> DatasetInfo:
        """Add facts to the info that need every example to be read. Called by the check."""
        return info

    def examples(self, dataset: "Dataset", config: TrainConfig, device: "torch.device", cache: "Cache") -> Examples:
        """The examples, after each was read once. Raises BadData with the names of unusable examples."""
        ...

    def shown(self, dataset: "Dataset", examples: Examples, rows: Sequence[int]) -> Sequence[Mapping[str, str]]:
        """The fields of NamedExample beside the name, for each of the rows."""
        return [{} for _ in rows]

    def cache_key(self, config: TrainConfig, info: DatasetInfo, contents: str, *, augmented: bool) -> "Mapping[str, JSON]":
        """The task's part of the cache key of stored outputs: weights, contents, and how examples are read. JSON.

        `contents` is a digest of the examples. The caller adds stages, precision, view, device and torch version.
        """
        ...

    def targets(self, dataset: "Dataset") -> "Tensor":
        """Targets [N, ...] on the host, by row."""
        ...

    def order(self, rows: "Tensor", targets: "Tensor", config: TrainConfig, epoch: int) -> "Tensor | None":
        """The order of the training rows in an epoch, int64 on the host, given the rows and their targets. Epochs are counted from 1.

        None: each row once, shuffled.
        """
        return None

    def loss(self, model: "StagedModel", features: "Features", depth: int, targets: "Tensor", settings: Any) -> "tuple[Tensor, Tensor]":
        """Run the stages after `depth` on features [B, ...] → loss [B] and weight in the mean [B] of each example, with gradient.

        Called under autocast; the loss itself is float32. The settings are those of `loss_settings`.
        """
        ...

    def loss_settings(self, config: TrainConfig, targets: "Tensor", info: DatasetInfo) -> Any:
        """Settings of the loss that are constant during a run, computed from the targets of the training rows."""
        return None

    def predict(self, model: "StagedModel", features: "Features", depth: int) -> "Tensor":
        """Run the stages after `depth` in evaluation mode → predictions [B, ...]. Called under autocast, without gradient."""
        ...

    def tally(self, predictions: "Tensor", targets: "Tensor") -> "Tensor":
        """Predictions [B, ...] and targets [B, ...] → contributions of each example to the metrics, float32 [B, K]."""
        ...

    def tally_width(self, examples: int, info: DatasetInfo) -> int | None:
        """The number of leading tallies that are kept for so many examples; None: all. Metrics that need the others are left out."""
        return None

    def measure(
        self,
        tallies: "Tensor",
        targets: "Tensor",
        info: DatasetInfo,
        *,
        examples: bool = False,
        names: Names | None = None,
        decisions: "Sequence[Decision] | None" = None,
    ) -> "Sequence[Measurement]":
        """Tallies [M, N, K] of M models on N examples with targets [N, ...] → one Measurement for each model.

        With `examples` the report is the task's TestReport, with values of each example for statistics; else its Report. A report may have
        the names of some examples. `decisions` are those of the models; without them each is chosen on these examples.
        """
        ...

    def export(self, model: "StagedModel", config: TrainConfig, info: DatasetInfo, folder: Path) -> None:
        """Write further files of the trained model, which other libraries load, into the folder of the exported model."""
        return

    def metadata(self, info: DatasetInfo, decision: Decision = None) -> Mapping[str, str]:
        """Metadata of the exported model file besides the config. `decision` is that of the model."""
        return {}
