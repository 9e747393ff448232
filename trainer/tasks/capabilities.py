"""Optional capabilities of tasks: protocols that callers test with isinstance. Imports no torch."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, runtime_checkable

from pydantic import BaseModel

from trainer.configuration import DataConfig, DatasetInfo, ListingFacts, ModelConfig, Part, TrainConfig

if TYPE_CHECKING:  # torch and numpy take long to import, and the server does without torch
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from trainer.data.dataset import Dataset
    from trainer.data.examples import InputRow, Look
    from trainer.data.targets import TargetValue
    from trainer.models import StagedModel
    from trainer.tasks.base import Decision, Examples, ModelInfo

Config = TypeVar("Config", bound=TrainConfig)
Info = TypeVar("Info", bound=DatasetInfo)


class ExampleScores(Protocol):
    """One run's scores of N test examples. Their order depends only on the data."""

    def __len__(self) -> int: ...

    def are_those_of(self, other: Self) -> bool:
        """Whether another run was scored on the same examples."""
        ...

    def has_scores(self, metric: str) -> bool:
        """Whether there are finite scores for the metric."""
        ...

    def scores(self, metric: str) -> "NDArray[np.float64]":
        """Each example's contribution to the metric, shape (N,). Their mean is the metric.

        For a metric that is not additive these are jackknife pseudo-values: N times the metric of all examples, less N - 1 times the
        metric of all examples except this one. Their mean is the metric up to a bias of order 1/N.
        Source: Tukey, Ann. Math. Stat. 29, 1958; Efron, The Jackknife, 1982.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Spellings:
    """Other tools' names of a task's fields and values: by Thawline's name, the other names separated by spaces."""

    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # spellings of the values of a hyperparameter
    dropped: str = ""  # names in other tools without an equivalent in the trainer

    def joined(self, other: "Spellings") -> "Spellings":
        """The names of both."""
        return Spellings(
            hyperparameters={**self.hyperparameters, **other.hyperparameters},
            metrics={**self.metrics, **other.metrics},
            data={**self.data, **other.data},
            words={**self.words, **other.words},
            dropped=f"{self.dropped} {other.dropped}".strip(),
        )


@runtime_checkable
class ExternalRunner(Protocol):
    """Capability of a TaskSpec without a half with torch: another process runs its trials, in place of the trainer.

    Its studies may give any names to parameters and metrics, and its trials run one at a time. `TaskSpec.Hyperparameters` and `metrics`
    are empty.
    """

    @property
    def runner(self) -> str:
        """The module of that process, `python -m MODULE`. It imports no torch and has the protocol of `trainer.protocol`."""
        ...


@runtime_checkable
class OtherNames(Protocol):
    """Capability of a TaskSpec: names for the translation of other tools' documents."""

    @property
    def spellings(self) -> Spellings:
        """Names of the task's own hyperparameters, metrics and data fields."""
        ...


@runtime_checkable
class ExampleStudy(Protocol):
    """Capability of a TaskSpec: example studies for documentation and pages."""

    @property
    def example_study(self) -> Mapping[str, Any]:
        """A complete study document."""
        ...

    @property
    def example_study_yaml(self) -> str:
        """A short study document in YAML."""
        ...


@runtime_checkable
class ReportPage(Protocol):
    """Capability of a TaskSpec: JavaScript modules in service/web/static/tasks that draw its runs."""

    @property
    def page(self) -> str:
        """The name of the module that draws the report."""
        ...

    @property
    def page_of_input(self) -> str:
        """The name of the module that shows facts about the input, and has the texts of the form for a new study."""
        ...


@runtime_checkable
class Demonstration(Protocol):
    """Capability of a TaskSpec: `python -m PACKAGE.demo FOLDER` creates data and weights for a study, and prints their paths as JSON."""

    @property
    def demo_preparing(self) -> str:
        """A sentence that is shown while that runs."""
        ...

    def demo(self, data: str, weights: str, model: str) -> Mapping[str, Any]:
        """The demo's study document, without name, sampler, pruner and budget."""
        ...


@runtime_checkable
class FineTuningMethods(Protocol):
    """Capability of a TaskSpec: hyperparameters that choose what is trained besides the head."""

    @property
    def conditions(self) -> Mapping[str, Mapping[str, Sequence[Any]]]:
        """Hyperparameters that apply only with some values of another one: by name, the other's name and these values.

        Where one does not apply, configs have its default.
        """
        ...

    @property
    def settings(self) -> Collection[str]:
        """The hyperparameters of the methods. A model card lists those that were searched or differ from their default."""
        ...

    @property
    def freezing(self) -> tuple[str, ...]:
        """The hyperparameters on which `frozen_stages` depends. One that a condition names precedes those that it governs."""
        ...

    def frozen_stages(self, model: "ModelInfo | None", values: Mapping[str, Any]) -> int:
        """The number of leading stages whose output does not change during a run with these hyperparameters, by name.

        0 if that depends on a model without a description.
        """
        ...


class FrozenLayers:
    """`FineTuningMethods` of a task without this capability: everything above `frozen_layers` is trained."""

    conditions: Mapping[str, Mapping[str, Sequence[Any]]] = MappingProxyType({})
    settings: Collection[str] = ()
    freezing = ("frozen_layers",)

    def frozen_stages(self, model: "ModelInfo | None", values: Mapping[str, Any]) -> int:
        """The value of `frozen_layers`."""
        return int(values["frozen_layers"])


FROZEN_LAYERS = FrozenLayers()


def methods_of(spec: object) -> FineTuningMethods:
    """The task's methods of fine-tuning."""
    return spec if isinstance(spec, FineTuningMethods) else FROZEN_LAYERS


@runtime_checkable
class PerExample(Protocol):
    """Capability of a TaskSpec: its test report contains a score for each test example."""

    def examples(self, report: BaseModel) -> ExampleScores | None:
        """The scores in a test report; None if there were too many examples to store them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantScore:
    """The best constant prediction on one part of the data: the same prediction for each example."""

    label: str  # the prediction
    share: float  # of the part's examples for which it is correct
    value: float  # of the metric
    sentence: str  # states share and value
    advice: str  # remedy for a result that is not better; may be empty


@runtime_checkable
class ConstantPrediction(Protocol):
    """Capability of a TaskSpec: the score of the best constant prediction can be computed from DatasetInfo."""

    def constant(self, info: DatasetInfo, part: Part, metric: str) -> ConstantScore | None:
        """None if the info does not determine it, or the part has no examples."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRun(Generic[Config, Info]):
    """The input of a training script: a trial of a study."""

    config: Config
    info: Info
    study: str  # its name
    trial: int
    metric: str  # of the objective
    reached: float
    single_run: tuple[float, float] | None  # 95 % prediction interval of one run with a fresh seed; None without a confirmation
    environment: Mapping[str, str]
    manifest: str | None


@runtime_checkable
class TrainingScript(Protocol):
    """Capability of a TaskSpec: writes a Python file that trains a plain configuration without Thawline."""

    @property
    def script_needs(self) -> str:
        """The packages that the file needs, as a phrase."""
        ...

    def script_obstacle(self, run: ExportedRun[Any, Any]) -> str | None:
        """The reason, as a clause, why no such file would train this configuration as the study did; None for a plain configuration."""
        ...

    def script(self, run: ExportedRun[Any, Any]) -> str:
        """The text of the file for a plain configuration. It contains text from users only as literals."""
        ...


@runtime_checkable
class ReportSummary(Protocol):
    """Capability of a TaskSpec: summarises the reports of runs for exported files."""

    @property
    def Summary(self) -> type[BaseModel]:
        """The model of the summary, whose fields are inlined in the file. Each has a default, for files without it."""
        ...

    def summary(self, info: DatasetInfo, reports: Sequence[Mapping[str, Any]]) -> BaseModel:
        """Summarise reports of runs with one configuration on the same part of the data. There may be none."""
        ...


@dataclass(frozen=True, slots=True)
class CardTable:
    """A table of a model card. Values are written as text."""

    heads: Sequence[object]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True)
class CardSection:
    """A section of a model card: paragraphs and tables, without markup."""

    title: str
    blocks: Sequence[str | CardTable]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardData:
    """The contents of a model card about data and model, without markup."""

    opening: str  # a sentence about the task and its targets
    counts: Sequence[str | CardTable] = ()  # follow the sizes of the parts
    split: str = "content"  # the unit by which the parts are drawn
    notes: Sequence[str] = ()  # sentences
    model: Sequence[tuple[str, str]] = ()  # rows of the configuration besides hyperparameters
    predicts: bool = False  # whether the task has the capability Predicts
    loading: str = ""  # Python code that loads a model from `model/`, the folder that `thaw train` wrote; without text from users


@runtime_checkable
class NamesPackages(Protocol):
    """Capability of a TaskSpec: distributions on which results depend besides those of all tasks. Each run records their versions."""

    @property
    def packages(self) -> Sequence[str]:
        """Names of the distributions."""
        ...


@runtime_checkable
class ModelCard(Protocol):
    """Capability of a TaskSpec: sections of a model card about the task's data and results."""

    def card_data(self, config: TrainConfig, info: DatasetInfo) -> CardData:
        """The contents about data and model."""
        ...

    def card_results(self, info: DatasetInfo, summary: BaseModel, where: str) -> CardSection | None:
        """The section about the results in a summary. `where` names the runs and the part of the data."""
        ...


@runtime_checkable
class NamesWrongExamples(Protocol):
    """Capability of a TaskSpec: reports on validation examples name those that are most wrong."""

    def card_examples(self, report: Mapping[str, Any]) -> CardSection | None:
        """The section of a model card about the most wrong ones; None if there is nothing to show."""
        ...


@runtime_checkable
class ResolvesConfig(Protocol):
    """Capability of a TaskSpec: completes a config with facts that a run found about data or weights."""

    def resolved(self, config: TrainConfig, info: DatasetInfo) -> TrainConfig:
        """The config that reproduces the run without the info."""
        ...


@runtime_checkable
class HeadsTogether(Protocol):
    """Capability of a TaskSpec: heads of several runs can be trained together in one pass over the data."""

    @property
    def shared(self) -> tuple[str, ...]:
        """The hyperparameters that must be equal for runs trained together."""
        ...

    def trains_together(self, model: "ModelInfo", values: Mapping[str, Any]) -> bool:
        """Whether heads of that model can be trained together, with these values of hyperparameters. Some may be left out."""
        ...

    def head_parameters(self, model: "ModelInfo", info: DatasetInfo) -> int:
        """The number of parameters of the model's head for that data."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedData:
    """What a data set contains, without torch."""

    listing: ListingFacts
    labels: Mapping[str, Mapping[Part | None, int]] = field(default_factory=dict)  # number of examples by label and part
    measures: Mapping[str, Sequence[float]] = field(default_factory=dict)  # a value of each example, by name, such as the length in words


@runtime_checkable
class Predicts(Protocol):
    """Capability of a Task: predicts examples by an exported model, the folder that `thaw train` writes."""

    def exported_config(self, config: TrainConfig, folder: Path) -> TrainConfig:
        """The config with which `Task.model` builds the exported network, without files outside of the folder. Raises UnfitModel."""
        ...

    def input_rows(self, data: DataConfig, look: "Look", *, targets: bool) -> "Iterator[InputRow]":
        """The examples at `data.path`, with their targets if asked. Raises UnfitData."""
        ...

    def inputs(
        self, contents: Sequence[Any], config: TrainConfig, info: DatasetInfo, device: "torch.device"
    ) -> "tuple[Examples | None, Sequence[str | None]]":
        """The contents of rows as a run reads them, without those that cannot be read; and for each the reason if it cannot.

        None without any that can be read. Raises BadData, UnfitModel.
        """
        ...

    def probability_names(self, info: DatasetInfo) -> Sequence[str]:
        """The names of the probabilities in `final`; empty if there are none."""
        ...

    def decision(self, metadata: Mapping[str, str]) -> "Decision":
        """The decision in the metadata of the exported model. Raises ValueError with the reason as a clause."""
        ...

    def encoded(self, target: str, info: DatasetInfo) -> "Tensor":
        """The row of `Task.targets` for the target of a row. Raises ValueError with the reason as a clause."""
        ...

    def final(self, outputs: "Tensor", info: DatasetInfo) -> "Tensor":
        """Outputs of `Task.predict` [N, ...] → probabilities [N, K], or numbers in the unit of the data [N], float64."""
        ...

    def answers(self, outputs: "Tensor", info: DatasetInfo, decision: "Decision") -> "Sequence[TargetValue]":
        """Outputs of `Task.predict` [N, ...] → the predicted targets."""
        ...


class Graph(Protocol):
    """A model as a function of tensors without this project's types, and its inputs."""

    @property
    def network(self) -> str:
        """The type or the name of the network, for messages."""
        ...

    @property
    def module(self) -> "nn.Module":
        """Maps the inputs to the outputs of `Task.predict`, [B, ...]."""
        ...

    @property
    def inputs(self) -> Mapping[str, Mapping[int, str]]:
        """The names of the inputs in order, each with the names of its dynamic axes."""
        ...

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """How the inputs are made, as JSON, for programs that use the model without this project."""
        ...

    def of(self, examples: "Examples", rows: "Tensor") -> "tuple[Tensor, ...]":
        """The inputs for rows of examples."""
        ...

    def random_inputs(self, sizes: Sequence[int], generator: "torch.Generator") -> "tuple[Tensor, ...]":
        """Random inputs. Each example has its size, where examples differ in size."""
        ...


@runtime_checkable
class Portable(Protocol):
    """Capability of a Task: its exported models can be converted to graphs for other programs."""

    def graph(self, model: "StagedModel", config: TrainConfig) -> Graph:
        """The model on the CPU as a graph."""
        ...


@runtime_checkable
class InspectsData(Protocol):
    """Capability of a TaskSpec: describes a data set for `thaw data inspect`."""

    def inspect_data(self, data: DataConfig, look: "Look") -> InspectedData:
        """List the examples. Raises UnfitData and the errors of the hooks of `look`."""
        ...


@runtime_checkable
class MeasuresInput(Protocol):
    """Capability of a Task: measures the examples as a model's input, such as their length in tokens."""

    def measure_input(self, model: ModelConfig, dataset: "Dataset") -> Mapping[str, Sequence[float]]:
        """A value of each content, by name. Raises UnfitModel."""
        ...

    def note_of_input(self, measured: Mapping[str, Sequence[float]], size: int) -> str | None:
        """A sentence about these values in runs with this value of the hyperparameter `TaskSpec.size`; None without one."""
        ...


@runtime_checkable
class ClosedFormHeads(Protocol):
    """Capability of a Task: loss and hand-written gradient for heads trained together."""

    def heads_loss(self, configs: Sequence[TrainConfig], targets: "Tensor", info: DatasetInfo) -> "HeadsLoss":
        """The loss of members with these configs, given the targets of the training rows on the device."""
        ...

    def heads_tally(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Outputs [M, O, B] of M heads and targets [B, ...] → tallies as of `Task.tally`, [M, B, K]."""
        ...


class HeadsLoss(Protocol):
    """The training loss of M members."""

    def of(self, first: int, last: int) -> "HeadsLoss":
        """The loss of members `first` to `last`, exclusive."""
        ...

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        """Outputs [M, O, B] and targets [B, ...] → mean losses [M], and their gradient with respect to the outputs [M, O, B]."""
        ...
