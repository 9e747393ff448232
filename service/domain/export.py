"""The exported configuration of a trial: the training config, its confirmed result, and its origin."""

from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    FiniteFloat,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from search_spaces import Fault, Scalar
from search_spaces.documents import from_json, from_yaml, plain
from search_spaces.faults import Faulty, Path
from search_spaces.parameters import FrozenModel
from service.domain.errors import InvalidInput, NoModel
from service.domain.fault_messages import faults_of
from service.domain.spec import Objective
from service.domain.verdict import Compared, Estimate, Helped, Optimism, Price
from trainer.configuration import FIRST_TASK, DatasetInfo, RunConfig, TrainConfig
from trainer.tasks.capabilities import ReportSummary
from trainer.tasks.registry import spec_of, specs

KIND = "thawline/training-config"
FIRST_SCHEMA_NOTE = "This file has schema version 1, which records no confirmation. Its value is the best of many trials, an overestimate."
LOCKED = ("torch", "torchvision", "numpy", "pillow", "safetensors", "transformers", "tokenizers", "peft", "thawline")
LONGEST_PLAIN = 100  # characters; a longer text is always quoted, which saves parsing it


class Origin(FrozenModel):
    """The study and trial that the configuration was taken from."""

    study: str
    study_name: str
    trial: int
    params: Mapping[str, Scalar]


class Reached(FrozenModel):
    """The trial's metrics on the validation examples after its last epoch."""

    objective: Objective
    value: FiniteFloat
    metrics: Mapping[str, FiniteFloat]
    steps: int


class Point(FrozenModel):
    """The validation metrics and the training loss after an epoch of the trial."""

    step: int
    metrics: Mapping[str, FiniteFloat]


class NoSummary(FrozenModel):
    """The summary of a task that does not summarise the reports of runs."""


class Confirmed(FrozenModel):
    """The confirmation's result for the configuration: runs with fresh seeds, scored on test examples that no trial of the search used.

    `test_images`, `new_images` and `uplift_new_images` are names from version 0.1; they apply to examples of any task.
    """

    seeds: int = Field(description="number of runs of this configuration")
    run_seeds: tuple[int, ...] = Field(description="their seeds; `thaw verify` uses another one")
    test_images: int
    expected: Estimate = Field(description="mean of the objective over seeds, on these test examples")
    new_images: Estimate | None = Field(description="the same for new examples of the same kind")
    single_run: Estimate | None = Field(description="prediction interval of one more run with a fresh seed, on these test examples")
    uplift: Estimate | None = Field(description="difference to the baseline, above 0 where better; mean over seeds, on these test examples")
    uplift_new_images: Estimate | None = Field(description="the same for new examples of the same kind")
    optimism: Optimism | None = Field(description="by how much the search overestimated its best trial")
    helped: Helped | None = Field(description="whether tuning helped; null where the baseline has no result")
    words: tuple[str, ...] = Field(description="the result in plain sentences, the most important first")
    best: int | None = Field(description="the trial with the best mean")
    tied: tuple[int, ...] = Field(description="trials not distinguishable from the best; the cheapest of them is recommended")
    arms: tuple[Compared, ...] = Field(description="the configurations that were compared, with all their runs")
    summary: SerializeAsAny[BaseModel] = Field(default=NoSummary(), description="the task's summary of the runs on the test examples")

    @model_serializer(mode="wrap")
    def _with_the_summary_flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Inline the summary's fields after the others."""
        fields = handler(self)
        summary = fields.pop("summary", {})
        return {**fields, **summary}


class Exported(FrozenModel):
    """A file that starts production training: `thaw train FILE`."""

    kind: Literal["thawline/training-config"] = "thawline/training-config"
    schema_version: Literal[2] = 2
    note: str = Field(description="one sentence about the expected result of the configuration, or why it is not known")
    confirmed: Confirmed | None = Field(description="null while not confirmed")
    origin: Origin
    reached: Reached
    config: RunConfig
    facts: DatasetInfo = Field(description="size, fingerprint and split of the data, findings of the task, hash of the weights")
    environment: Mapping[str, str] = Field(description="versions, device and threads of the run that reached the metric")
    lock: Mapping[str, str] = Field(default_factory=dict, description="package versions of the run that reached the metric")
    depths: tuple[int, int] | None = Field(
        default=None,
        description="frozen stages whose stored output was read, for training and validation examples; results depend on it by rounding",
    )
    cost: Price | None = Field(default=None, description="cost of the trial; null where it was not reported")
    curve: tuple[Point, ...] = Field(default=(), description="learning curve of the trial, at most 64 epochs")
    summary: SerializeAsAny[BaseModel] = Field(default=NoSummary(), description="the task's summary of the trial, on validation examples")
    manifest: str | None = Field(default=None, description="trainer.protocol.Checked.manifest: identifies examples that have changed")

    @property
    def training(self) -> TrainConfig:
        """The config of a task with a torch half. Raises NoModel for another one."""
        if not isinstance(self.config, TrainConfig):
            raise NoModel(self.config.task)
        return self.config

    @property
    def test_examples(self) -> int:
        """The number of examples that no trial of the search has used."""
        return self.facts.sizes.get("test", 0)

    @model_validator(mode="before")
    @classmethod
    def _with_the_summaries_of_the_task(cls, value: Any) -> Any:
        """In a file the fields of the summaries are inlined. Collect them under `summary`."""
        if not isinstance(value, Mapping):
            return value
        summary = _summary_of(_task_of(value.get("config")))
        document = _with_summary(value, summary, ())
        if isinstance(confirmed := value.get("confirmed"), Mapping):
            document["confirmed"] = _with_summary(confirmed, summary, ("confirmed",))
        return document

    @model_serializer(mode="wrap")
    def _with_the_summary_flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Inline the summary's fields in its place."""
        flat: dict[str, Any] = {}
        for name, item in handler(self).items():
            flat |= item if name == "summary" else {name: item}
        return flat

    def to_yaml(self) -> str:
        """The file as YAML. Floats are written with Python's repr, so that reading restores the same bits."""
        head = f"# {_comment(self.note)}\n# Trial {self.origin.trial} of study {self.origin.study_name!a}. Train it with: thaw train FILE\n"
        return head + yaml.dump(self.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)

    def to_json(self) -> str:
        """The file as JSON."""
        return self.model_dump_json(indent=2) + "\n"


def _task_of(config: Any) -> str:
    task = config.task if isinstance(config, RunConfig) else config.get("task", FIRST_TASK) if isinstance(config, Mapping) else FIRST_TASK
    return task if isinstance(task, str) and task in specs() else FIRST_TASK


def _summary_of(name: str) -> type[BaseModel]:
    task = spec_of(name)
    return task.Summary if isinstance(task, ReportSummary) else NoSummary


def _with_summary(document: Mapping[str, Any], summary: type[BaseModel], place: Path) -> dict[str, Any]:
    """The document with the summary's fields collected under `summary`. Raises Faulty."""
    if isinstance(document.get("summary"), BaseModel):
        return dict(document)
    own = {name: item for name, item in document.items() if name in summary.model_fields}
    try:
        found = summary.model_validate(own)
    except ValidationError as error:
        raise Faulty(fault.below(place) for item in error.errors() for fault in faults_of(item)) from None
    return {**{name: item for name, item in document.items() if name not in own}, "summary": found}


def _comment(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode().replace("\n", " ").replace("\r", " ")


class _Dumper(yaml.SafeDumper):
    """Writes no aliases, since `search_spaces.documents` rejects them."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Quote a text that `search_spaces.documents` would not read as text: it reads numbers such as `12e45`, which PyYAML does not."""
        plain = len(text) <= LONGEST_PLAIN and _reads_as_text(text)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')

    def represent_numbers(self, items: list[Any]) -> yaml.SequenceNode:
        """Write a list of numbers in one line, so that a matrix has one line for each row."""
        flow = all(isinstance(item, int | float) for item in items)
        return self.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flow)


def _reads_as_text(text: str) -> bool:
    try:
        return bool(from_yaml(text) == text)
    except Faulty:
        return False


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(list, _Dumper.represent_numbers)


def lock_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The versions of the packages that affect results, without local version labels such as `+cu130`."""
    return {name: environment[name].partition("+")[0] for name in LOCKED if environment.get(name)}


def read_export(text: str) -> Exported:
    """Read an exported file, YAML or JSON, of schema 1 or 2. Raises InvalidInput with the faults."""
    try:
        document = plain(from_json(text) if text.lstrip().startswith("{") else from_yaml(text))
    except Faulty as error:
        raise InvalidInput(error.faults) from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise InvalidInput(
            [Fault((), "not_an_export", "this is not a configuration that Thawline exported; get one with `thaw best STUDY`")]
        )
    try:
        return _of_first_schema(document) if document.get("schema_version") == 1 else Exported.model_validate(document)
    except ValidationError as error:
        raise InvalidInput(fault for item in error.errors() for fault in faults_of(item)) from None


def _of_first_schema(document: Mapping[str, Any]) -> Exported:
    exported = Exported.model_validate({**document, "schema_version": 2, "note": FIRST_SCHEMA_NOTE, "confirmed": None})
    return exported.model_copy(update={"lock": lock_of(exported.environment)})
