"""Bases of tasks that are composed of a modality and a target. Imports no torch.

A modality, such as `trainer.tasks.text`, defines how examples are read, stored and put into a network; a target (`trainer.targets`)
what the head predicts, and how that is trained, measured and reported. The TaskSpec of a task inherits from those of its target and its
modality, and so does its Task. The bases declare the members by which the two use each other.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import trainer.adapters.config as adapters
from trainer.configuration import DataConfig, DatasetInfo, Part, TrainConfig
from trainer.data.targets import TargetReader, by_stratum
from trainer.targets.examples import NamedExample
from trainer.tasks.base import Counted, Decision, ModelInfo, Task, TaskSpec
from trainer.tasks.capabilities import CardData, CardSection, CardTable, Spellings

if TYPE_CHECKING:  # torch takes long to import, and the server does without it
    from torch import Tensor

    from trainer.data.dataset import Dataset
    from trainer.models import StagedModel
    from trainer.sequences import Features

MOST_IN_CARD = 5  # examples
Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
"""Kinds of targets by the names of the library Transformers."""


class ComposedSpec(TaskSpec):
    """A TaskSpec with the capabilities of all composed tasks.

    The target's half defines also the members of PerExample, ConstantPrediction and ReportSummary, and `page` and `card_results`; the
    modality's half those of HeadsTogether, InspectsData and ResolvesConfig, and `page_of_input` and `card_data`.
    """

    target: str
    """The name of the target's package. It is the key of the head's width in cache keys of random weights."""
    problem: Problem
    worst: tuple[str, type[NamedExample]]
    """The field of reports on validation examples that names the most wrong ones, and the model of one."""
    stratum: str
    """The noun for the examples that are split separately, such as those of one label."""
    shared_of_input: tuple[str, ...]
    """The modality's hyperparameters that must be equal for heads trained together; likewise `shared_of_target`."""
    shared_of_target: tuple[str, ...]
    spellings_of_input: Spellings
    """Other tools' names of the modality's fields; `spellings_of_target`: of the target's hyperparameters and metrics."""
    spellings_of_target: Spellings
    conditions, freezing, settings = adapters.CONDITIONS, adapters.FREEZING, adapters.SETTINGS

    @property
    @abstractmethod
    def reader(self) -> TargetReader | None:
        """How targets are read from tables; None if the modality reads them itself, as labels."""

    @abstractmethod
    def outputs(self, info: DatasetInfo) -> int:
        """The number of outputs of the head."""

    @abstractmethod
    def output_names(self, info: DatasetInfo) -> tuple[str, ...]:
        """The name of each output, for libraries that load the model."""

    @abstractmethod
    def card_of_target(self, info: DatasetInfo) -> CardData:
        """The card's contents about the targets. `opening` continues a sentence that begins with the noun for an example."""

    @abstractmethod
    def reading(self, info: DatasetInfo) -> str:
        """Lines of Python for the card that make predictions from `logits`, and from `model.config.id2label` if outputs have names."""

    @abstractmethod
    def resolved(self, config: TrainConfig, info: DatasetInfo) -> TrainConfig:
        """See `ResolvesConfig`."""

    @property
    def shared(self) -> tuple[str, ...]:
        """The hyperparameters of modality and target that must be equal for heads trained together."""
        return (*self.shared_of_input, *self.shared_of_target)

    @property
    def spellings(self) -> Spellings:
        """Other tools' names of the hyperparameters, metrics and data fields of modality and target."""
        return self.spellings_of_target.joined(self.spellings_of_input).joined(Spellings(hyperparameters=adapters.SPELLINGS))

    @property
    def objective(self) -> Mapping[str, str]:
        """The first metric with its direction, for `stand_ins` and `lines`."""
        name, metric = next(iter(self.metrics.items()))
        return {"metric": name, "direction": metric.direction}

    def lines_with(self, data: str, model: str) -> Mapping[str, str]:
        """`lines`, given those of the sections data and model."""
        objective = ", ".join(f"{field}: {value}" for field, value in self.objective.items())
        return {"data": data, "model": model, "search_space": f"preset: {self.name}", "objective": f"objective: {{{objective}}}"}

    def counted(
        self, targets: Sequence[tuple[str, Part | None]], data: DataConfig, given: Sequence[Part], unused: Iterable[str] = ()
    ) -> Counted:
        """For `count`, from the target and part of each example; `unused` are labels that examples may lack."""
        counts = {target: Counter[Part | None]() for target in sorted({*unused, *(target for target, _ in targets)})}
        for target, part in targets:
            counts[target][part] += 1
        if self.reader is not None:
            counts = by_stratum(counts, self.reader.strata(counts, data, given))
        return Counted(tuple(given), counts, self.stratum)

    def frozen_stages(self, model: ModelInfo | None, values: Mapping[str, Any]) -> int:
        """See `trainer.adapters.config.frozen_stages`; 0 if that depends on a model without a description."""
        if model is None and values["method"] in adapters.OF_LAYERS and values["lora_layers"]:
            return 0
        return adapters.frozen_stages(values, 0 if model is None else model.stages)

    def card_examples(self, report: Mapping[str, Any]) -> CardSection | None:
        """The first of the most wrong examples, with their texts but without pictures.

        None if there are neither: names alone are in the reports of workers that keep their data to themselves.
        """
        field, kind = self.worst
        worst = [kind.model_validate(one) for one in report.get(field) or ()]
        shown = [one for one in worst if one.text is not None or one.picture is not None][:MOST_IN_CARD]
        if not shown:
            return None
        texts = [name for name in ("text", "text_b") if any(getattr(one, name) is not None for one in shown)]
        heads = (*texts, "where it is" if texts else self.example, *shown[0].answer)
        rows = [(*(getattr(one, name) or "" for name in texts), one.name, *one.answer.values()) for one in shown]
        return CardSection("Most wrong predictions", (CardTable(heads, rows),))

    def _card(self, info: DatasetInfo) -> CardData:
        """`card_of_target` with a whole sentence as its opening."""
        found = self.card_of_target(info)
        return replace(found, opening=f"{self.example[:1].upper()}{self.example[1:]} {found.opening}", predicts=True)


class ComposedTask(Task):
    """A Task with the capability ClosedFormHeads, whose methods the target's half defines."""

    def __init__(self, spec: ComposedSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> ComposedSpec:
        """The half without torch."""
        return self._spec

    @abstractmethod
    def facts(self, dataset: "Dataset") -> Mapping[str, Any]:
        """The values of the target's fields in the DatasetInfo."""

    def probability_names(self, info: DatasetInfo) -> Sequence[str]:
        """The names of the probabilities in `final` of `trainer.tasks.capabilities.Predicts`; empty if there are none."""
        return self.spec.output_names(info)

    def decision(self, metadata: Mapping[str, str]) -> Decision:
        """The decision in the metadata of an exported model. Raises ValueError with the reason as a clause."""
        return None

    @abstractmethod
    def loss_of(self, outputs: "Tensor", targets: "Tensor", settings: Any) -> "tuple[Tensor, Tensor]":
        """Outputs float32 [B, O] and targets [B, ...] → loss [B] and weight in the mean [B] of each example."""

    def loss(self, model: "StagedModel", features: "Features", depth: int, targets: "Tensor", settings: Any) -> "tuple[Tensor, Tensor]":
        """The target's loss [B] of the head's outputs, and its weights [B]."""
        return self.loss_of(model.forward_from(features, depth).float(), targets, settings)

    def predict(self, model: "StagedModel", features: "Features", depth: int) -> "Tensor":
        """The head's outputs, float32 [B, O]."""
        return model.forward_from(features, depth).float()
