"""Optional capabilities of tasks, as protocols that the callers test with isinstance. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, runtime_checkable

from pydantic import BaseModel

from trainer.configuration import DatasetInfo, Part, TrainConfig

if TYPE_CHECKING:  # torch and numpy take long to import, and the server does without torch
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Config = TypeVar("Config", bound=TrainConfig)
Info = TypeVar("Info", bound=DatasetInfo)


class ExampleScores(Protocol):
    """What one run predicted for each of N test examples, in an order that follows from the data."""

    def __len__(self) -> int: ...

    def are_those_of(self, other: Self) -> bool:
        """Whether another run was scored on the same examples."""
        ...

    def has_scores(self, metric: str) -> bool:
        """Whether the scores are finite numbers."""
        ...

    def scores(self, metric: str) -> "NDArray[np.float64]":
        """Each example's part in the metric, shape (N,). Their mean is the metric.

        Where the metric is not additive these are the jackknife's pseudo-values, N times the metric of all examples less N - 1 times that
        of all but this one, and their mean is the metric but for a bias of the order 1/N.
        Source: Tukey, Ann. Math. Stat. 29, 1958; Efron, The Jackknife, 1982.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Spellings:
    """Other tools' names for what a study document may say: by our name, those of the others with blanks between them."""

    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by hyperparameter, its values
    dropped: str = ""  # names that other tools have and the trainer has nothing for


@runtime_checkable
class OtherNames(Protocol):
    """Capability of a TaskSpec: documents of other tools are translated with its names."""

    @property
    def spellings(self) -> Spellings:
        """Those of the task's own hyperparameters, metrics and data."""
        ...


@runtime_checkable
class ExampleStudy(Protocol):
    """Capability of a TaskSpec: studies to show."""

    @property
    def example_study(self) -> Mapping[str, Any]:
        """A whole document."""
        ...

    @property
    def example_study_yaml(self) -> str:
        """A document as people write it."""
        ...


@runtime_checkable
class Demonstration(Protocol):
    """Capability of a TaskSpec: `python -m PACKAGE.demo FOLDER` makes data and weights for a study, and prints their paths as JSON."""

    @property
    def demo_preparing(self) -> str:
        """A sentence to show meanwhile."""
        ...

    def demo(self, data: str, weights: str, model: str) -> Mapping[str, Any]:
        """The study without its name, sampler, pruner and budget."""
        ...


@runtime_checkable
class PerExample(Protocol):
    """Capability of a TaskSpec: its test report holds a score of each test example."""

    def examples(self, report: BaseModel) -> ExampleScores | None:
        """Those of a test report; None where there were too many to keep them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantScore:
    """The best constant prediction on one part of the data: the same answer for each example."""

    label: str  # the answer
    share: float  # of the part's examples for which the answer is right
    value: float  # of the metric
    sentence: str  # the share and the value
    advice: str  # the remedy for a result that is not better; may be empty


@runtime_checkable
class ConstantPrediction(Protocol):
    """Capability of a TaskSpec: the score of a constant prediction follows from what is known of the data."""

    def constant(self, info: DatasetInfo, part: Part, metric: str) -> ConstantScore | None:
        """None where too little is known, or the part has no examples."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRun(Generic[Config, Info]):
    """A trial of a study, as a training script is made of it."""

    config: Config
    info: Info
    study: str  # its name
    trial: int
    metric: str  # of the objective
    reached: float
    expected: float | None  # mean over seeds on the test examples; None without a confirmation
    single_run: tuple[float, float] | None  # where one run with a fresh seed falls, 95 times of 100
    environment: Mapping[str, str]
    lock: Mapping[str, str]  # versions by package
    manifest: str | None


@runtime_checkable
class TrainingScript(Protocol):
    """Capability of a TaskSpec: a Python file that trains a configuration without Thawline."""

    @property
    def script_needs(self) -> str:
        """The packages that the file needs, as a sentence lists them."""
        ...

    def script(self, run: ExportedRun[Any, Any]) -> str:
        """The file. Text from a user is in it as literals only."""
        ...


@runtime_checkable
class ReportSummary(Protocol):
    """Capability of a TaskSpec: an exported file summarises the reports of runs."""

    @property
    def Summary(self) -> type[BaseModel]:
        """Its fields stand beside those of the file. Each has a default, for files without it."""
        ...

    def summary(self, info: DatasetInfo, reports: Sequence[Mapping[str, Any]]) -> BaseModel:
        """Of reports of runs with one configuration, all on the same part of the data; perhaps of none."""
        ...


@dataclass(frozen=True, slots=True)
class CardTable:
    """A table of a model card: any values, which the card writes as text."""

    heads: Sequence[object]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True)
class CardSection:
    """A section of a model card: paragraphs and tables, without markup."""

    title: str
    blocks: Sequence[str | CardTable]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardData:
    """What a model card says of data and model, without markup."""

    opening: str  # a sentence: the task, and what its targets are
    counts: Sequence[str | CardTable] = ()  # after the sizes of the parts
    split: str = "content"  # by what the parts are drawn
    notes: Sequence[str] = ()  # sentences
    model: Sequence[tuple[str, str]] = ()  # rows of the configuration besides hyperparameters


@runtime_checkable
class ModelCard(Protocol):
    """Capability of a TaskSpec: parts of a model card about the task's own data and results."""

    def card_data(self, config: TrainConfig, info: DatasetInfo) -> CardData:
        """The part about data and model."""
        ...

    def card_results(self, info: DatasetInfo, summary: BaseModel, where: str) -> CardSection | None:
        """The section about results, of a summary; `where` names their runs and part of the data."""
        ...


@runtime_checkable
class ResolvesConfig(Protocol):
    """Capability of a TaskSpec: what a run found of data or weights completes its config."""

    def resolved(self, config: TrainConfig, info: DatasetInfo) -> TrainConfig:
        """The config that gives the same run without the info."""
        ...


@runtime_checkable
class HeadsTogether(Protocol):
    """Capability of a TaskSpec: runs of the head alone can train in one pass over the data."""

    @property
    def shared(self) -> tuple[str, ...]:
        """The hyperparameters in which such runs agree."""
        ...

    def trains_together(self, model: str) -> bool:
        """Whether the head of that model is one of those that can."""
        ...

    def head_parameters(self, model: str, info: DatasetInfo) -> int:
        """The number of parameters of such a head for that data."""
        ...


@runtime_checkable
class ClosedFormHeads(Protocol):
    """Capability of a Task: the loss of heads that train together, with its gradient by hand."""

    def heads_loss(self, configs: Sequence[TrainConfig], targets: "Tensor", info: DatasetInfo) -> "HeadsLoss":
        """Of members with those configs, given the targets of the training rows on the device."""
        ...

    def heads_tally(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Outputs [M, O, B] of M heads and targets [B, ...] → as `Task.tally`, [M, B, K]."""
        ...


class HeadsLoss(Protocol):
    """The training loss of M members."""

    def of(self, first: int, last: int) -> "HeadsLoss":
        """That of members `first` to `last`, the latter excluded."""
        ...

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        """Outputs [M, O, B] and targets [B, ...] → mean losses [M], and their gradient by the outputs [M, O, B]."""
        ...
