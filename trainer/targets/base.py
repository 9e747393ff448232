"""The two protocols of a target: `TargetSpec`, which needs no torch, and `Target`, the part with torch. Imports no torch.

A task is composed of a modality (how examples are read, stored and put into a network) and a target (what its head predicts, and how
that is trained, measured and reported). `trainer.tasks.composition` has the tasks' parts that are written once for all of them.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel

from trainer.configuration import DatasetInfo, Part, TrainConfig
from trainer.data.targets import TargetReader
from trainer.tasks.base import Decision, Measurement, Metric, Names
from trainer.tasks.capabilities import CardData, CardSection, ConstantScore, ExampleScores, HeadsLoss, Spellings

if TYPE_CHECKING:  # torch and numpy take long to import, and the server does without torch
    from torch import Tensor

    from trainer.data.dataset import Dataset


Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
"""Kinds of targets by the names of the library Transformers."""


class TargetSpec(Protocol):
    """The part of a target that needs no torch, for server, parser, pages and statistics.

    Beside it, the target's `config` module has the models that a task's models extend: its hyperparameters, and its facts about the data.
    """

    @property
    def name(self) -> str:
        """The name of the target's package. It is the key of the head's width in cache keys of random weights."""
        ...

    @property
    def problem(self) -> Problem:
        """The kind of the target."""
        ...

    @property
    def example(self) -> str:
        """The task's noun for one example in sentences."""
        ...

    @property
    def stratum(self) -> str:
        """The noun for the examples that are split separately, such as those of one label."""
        ...

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that an objective may name, by name."""
        ...

    @property
    def Report(self) -> type[BaseModel]:
        """As `TaskSpec.Report`."""
        ...

    @property
    def TestReport(self) -> type[BaseModel]:
        """As `TaskSpec.TestReport`."""
        ...

    @property
    def Summary(self) -> type[BaseModel]:
        """As `ReportSummary.Summary`."""
        ...

    @property
    def page(self) -> str:
        """The name of the JavaScript module in service/web/static/tasks that draws the report."""
        ...

    @property
    def shared(self) -> tuple[str, ...]:
        """The target's hyperparameters that must be equal for heads trained together."""
        ...

    @property
    def spellings(self) -> Spellings:
        """Other tools' names of the target's hyperparameters and metrics."""
        ...

    @property
    def reader(self) -> TargetReader | None:
        """How targets are read from tables; None if the modality reads them itself, as labels."""
        ...

    def outputs(self, info: DatasetInfo) -> int:
        """The number of outputs of the head."""
        ...

    def output_names(self, info: DatasetInfo) -> tuple[str, ...]:
        """The name of each output, for libraries that load the model."""
        ...

    def constant(self, info: DatasetInfo, part: Part, metric: str) -> ConstantScore | None:
        """As `ConstantPrediction.constant`."""
        ...

    def examples(self, report: BaseModel) -> ExampleScores | None:
        """As `PerExample.examples`."""
        ...

    def summary(self, info: DatasetInfo, reports: Sequence[Mapping[str, Any]]) -> BaseModel:
        """As `ReportSummary.summary`."""
        ...

    def card_data(self, info: DatasetInfo) -> CardData:
        """The card's contents about the targets. `opening` continues a sentence that begins with the modality."""
        ...

    def card_results(self, info: DatasetInfo, summary: BaseModel, where: str) -> CardSection | None:
        """As `ModelCard.card_results`."""
        ...


class Target(Protocol):
    """The part of a target that needs torch. Methods with a body are defaults for subclasses."""

    @property
    def spec(self) -> TargetSpec:
        """The part without torch."""
        ...

    def facts(self, dataset: "Dataset") -> Mapping[str, Any]:
        """The values of the target's fields in the DatasetInfo."""
        ...

    def targets(self, dataset: "Dataset") -> "Tensor":
        """Targets [N, ...] on the host, by row of the data set."""
        ...

    def order(self, rows: "Tensor", targets: "Tensor", config: TrainConfig, epoch: int) -> "Tensor | None":
        """As `Task.order`."""
        return None

    def loss_settings(self, config: TrainConfig, targets: "Tensor", info: DatasetInfo) -> Any:
        """As `Task.loss_settings`."""
        return None

    def loss(self, outputs: "Tensor", targets: "Tensor", settings: Any) -> "tuple[Tensor, Tensor]":
        """Outputs float32 [B, O] and targets [B, ...] → loss [B] and weight in the mean [B] of each example."""
        ...

    def tally(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Outputs float32 [B, O] and targets [B, ...] → contributions of each example to the metrics, float32 [B, K]."""
        ...

    def tally_width(self, examples: int, info: DatasetInfo) -> int | None:
        """As `Task.tally_width`."""
        return None

    def measure(
        self,
        tallies: "Tensor",
        targets: "Tensor",
        info: DatasetInfo,
        *,
        examples: bool = False,
        names: Names | None = None,
        decisions: Sequence[Decision] | None = None,
    ) -> Sequence[Measurement]:
        """As `Task.measure`."""
        ...

    def metadata(self, info: DatasetInfo, decision: Decision = None) -> Mapping[str, str]:
        """As `Task.metadata`."""
        return {}

    def heads_loss(self, configs: Sequence[TrainConfig], targets: "Tensor", info: DatasetInfo) -> HeadsLoss:
        """As `ClosedFormHeads.heads_loss`."""
        ...

    def heads_tally(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """As `ClosedFormHeads.heads_tally`: outputs [M, O, B] of M heads and targets [B, ...] → tallies [M, B, K]."""
        ...
