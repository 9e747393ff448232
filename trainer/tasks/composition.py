"""Tasks composed of a modality and a target: the parts of both protocols that the target defines. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

import trainer.adapters.config as adapters
from trainer.configuration import DatasetInfo, Hyperparameters, Part, TrainConfig
from trainer.targets.base import Target, TargetSpec
from trainer.tasks.base import Decision, Measurement, Metric, ModelInfo, Names, Task
from trainer.tasks.capabilities import CardData, CardSection, ConstantScore, ExampleScores, HeadsLoss, Spellings

if TYPE_CHECKING:  # torch takes long to import, and the server does without it
    from torch import Tensor

    from trainer.data.dataset import Dataset
    from trainer.models import StagedModel
    from trainer.sequences import Features


class ComposedSpec:
    """The members of a TaskSpec, and of its capabilities, that follow from the target, and the methods of fine-tuning.

    A modality adds the others in a subclass.
    """

    name: str
    example: str
    target: TargetSpec
    Hyperparameters: type[Hyperparameters]
    page_of_input: str
    """The name of the JavaScript module in service/web/static/tasks that shows facts about the input, and has the form's texts."""
    _shared: tuple[str, ...]
    _spellings: Spellings
    conditions, freezing, settings = adapters.CONDITIONS, adapters.FREEZING, adapters.SETTINGS

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The target's metrics."""
        return self.target.metrics

    @property
    def Report(self) -> type[BaseModel]:
        """The target's report on the validation examples."""
        return self.target.Report

    @property
    def TestReport(self) -> type[BaseModel]:
        """The target's report on the test examples."""
        return self.target.TestReport

    @property
    def Summary(self) -> type[BaseModel]:
        """The target's summary of reports."""
        return self.target.Summary

    @property
    def page(self) -> str:
        """The target's JavaScript module."""
        return self.target.page

    @property
    def shared(self) -> tuple[str, ...]:
        """The hyperparameters of modality and target that must be equal for heads trained together."""
        return (*self._shared, *self.target.shared)

    @property
    def spellings(self) -> Spellings:
        """Other tools' names of the hyperparameters, metrics and data fields of modality and target."""
        return self.target.spellings.joined(self._spellings).joined(Spellings(hyperparameters=adapters.SPELLINGS))

    def describe(self, model: str) -> ModelInfo:
        """The description of a model, which the modality has."""
        raise NotImplementedError

    def frozen_stages(self, model: str, values: Mapping[str, Any]) -> int:
        """See `trainer.adapters.config.frozen_stages`. Raises KeyError for a model that cannot be described here, if that is necessary."""
        return adapters.frozen_stages(values, self.describe(model).stages if values["lora_layers"] else 0)

    def constant(self, info: DatasetInfo, part: Part, metric: str) -> ConstantScore | None:
        """The target's best constant prediction."""
        return self.target.constant(info, part, metric)

    def examples(self, report: BaseModel) -> ExampleScores | None:
        """The scores in a test report."""
        return self.target.examples(report)

    def summary(self, info: DatasetInfo, reports: Sequence[Mapping[str, Any]]) -> BaseModel:
        """The target's summary."""
        return self.target.summary(info, reports)

    def card_results(self, info: DatasetInfo, summary: BaseModel, where: str) -> CardSection | None:
        """The target's section about the results."""
        return self.target.card_results(info, summary, where)

    def _card_of_target(self, info: DatasetInfo) -> CardData:
        """The target's contents about the data, with an opening that begins with the task's noun for an example."""
        found = self.target.card_data(info)
        return replace(found, opening=f"{self.example[:1].upper()}{self.example[1:]} {found.opening}")


class ComposedTask(Task):
    """The methods of a Task, and of ClosedFormHeads, that its target defines. A modality adds the others in a subclass."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def targets(self, dataset: "Dataset") -> "Tensor":
        """Targets [N, ...] on the host, by row."""
        return self.target.targets(dataset)

    def order(self, rows: "Tensor", targets: "Tensor", config: TrainConfig, epoch: int) -> "Tensor | None":
        """The target's order of the training rows; None for a shuffle."""
        return self.target.order(rows, targets, config, epoch)

    def loss_settings(self, config: TrainConfig, targets: "Tensor", info: DatasetInfo) -> Any:
        """Settings of the target's loss."""
        return self.target.loss_settings(config, targets, info)

    def loss(self, model: "StagedModel", features: "Features", depth: int, targets: "Tensor", settings: Any) -> "tuple[Tensor, Tensor]":
        """The target's loss [B] of the head's outputs, and its weights [B]."""
        return self.target.loss(model.forward_from(features, depth).float(), targets, settings)

    def predict(self, model: "StagedModel", features: "Features", depth: int) -> "Tensor":
        """The head's outputs, float32 [B, O]."""
        return model.forward_from(features, depth).float()

    def tally(self, predictions: "Tensor", targets: "Tensor") -> "Tensor":
        """The target's tallies [B, K]."""
        return self.target.tally(predictions, targets)

    def tally_width(self, examples: int, info: DatasetInfo) -> int | None:
        """The number of the target's tallies that are kept."""
        return self.target.tally_width(examples, info)

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
        """The target's metrics and reports."""
        return self.target.measure(tallies, targets, info, examples=examples, names=names, decisions=decisions)

    def metadata(self, info: DatasetInfo, decision: Decision = None) -> Mapping[str, str]:
        """The target's metadata of the exported model."""
        return self.target.metadata(info, decision)

    def heads_loss(self, configs: Sequence[TrainConfig], targets: "Tensor", info: DatasetInfo) -> HeadsLoss:
        """The target's loss of heads trained together."""
        return self.target.heads_loss(configs, targets, info)

    def heads_tally(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """The target's tallies [M, B, K] of heads trained together."""
        return self.target.heads_tally(outputs, targets)
