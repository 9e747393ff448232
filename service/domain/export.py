"""The exported configuration: all that production training needs, what it is worth, and where it came from."""

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
from service.domain.errors import InvalidInput
from service.domain.fault_messages import faults_of
from service.domain.spec import Objective
from service.domain.verdict import Compared, Estimate, Helped, Optimism, Price
from trainer.configuration import FIRST_TASK, DatasetInfo, TrainConfig
from trainer.tasks.capabilities import ReportSummary
from trainer.tasks.registry import spec_of, specs

KIND = "thawline/training-config"
FIRST_SCHEMA_NOTE = (
    "Nothing is known of a confirmation: the file is of the first schema. Its value is the best of many tries and looks better than it is."
)
LOCKED = ("torch", "torchvision", "numpy", "pillow", "safetensors", "thawline")
LONGEST_PLAIN = 100  # characters of a text whose quotes are decided by reading it


class Origin(FrozenModel):
    """The study and trial that the configuration was taken from."""

    study: str
    study_name: str
    trial: int
    params: Mapping[str, Scalar]


class Reached(FrozenModel):
    """What the trial measured on the validation examples after its last epoch."""

    objective: Objective
    value: FiniteFloat
    metrics: Mapping[str, FiniteFloat]
    steps: int


class Point(FrozenModel):
    """The validation metrics and the training loss after an epoch of the trial."""

    step: int
    metrics: Mapping[str, FiniteFloat]


class NoSummary(FrozenModel):
    """Of a task that does not summarise the reports of runs."""


class Confirmed(FrozenModel):
    """What the confirmation found of the configuration: fresh seeds, on test examples that no trial of the search has seen.

    `test_images`, `new_images` and `uplift_new_images` are the names of version 0.1; they are of any examples.
    """

    seeds: int = Field(description="runs of this configuration that the figures rest on")
    run_seeds: tuple[int, ...] = Field(description="their seeds; `thaw verify` takes another one")
    test_images: int
    expected: Estimate = Field(description="mean of the objective over seeds, on these test examples")
    new_images: Estimate | None = Field(description="the same for new examples of the same kind")
    single_run: Estimate | None = Field(description="where one more run with a fresh seed falls, on these test examples")
    uplift: Estimate | None = Field(description="over the baseline, above 0 where better; over seeds, on these test examples")
    uplift_new_images: Estimate | None = Field(description="the same for new examples of the same kind")
    optimism: Optimism | None = Field(description="how much better the best of the search looked than it is")
    helped: Helped | None = Field(description="whether tuning helped; null where the baseline has no result")
    words: tuple[str, ...] = Field(description="all of it in plain sentences, the most important first")
    best: int | None = Field(description="the trial with the best mean")
    tied: tuple[int, ...] = Field(description="trials that cannot be told apart from the best; the cheapest of them is recommended")
    arms: tuple[Compared, ...] = Field(description="the configurations that were compared, with every run")
    summary: SerializeAsAny[BaseModel] = Field(default=NoSummary(), description="the task's, of the runs on the test examples")

    @model_serializer(mode="wrap")
    def _with_the_summary_flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Its fields are the last."""
        fields = handler(self)
        summary = fields.pop("summary", {})
        return {**fields, **summary}


class Exported(FrozenModel):
    """A file that starts production training: `thaw train FILE`."""

    kind: Literal["thawline/training-config"] = "thawline/training-config"
    schema_version: Literal[2] = 2
    note: str = Field(description="what the configuration is worth, or why that is not known, in a sentence")
    confirmed: Confirmed | None = Field(description="null while not confirmed")
    origin: Origin
    reached: Reached
    config: TrainConfig
    facts: DatasetInfo = Field(description="size, fingerprint and split of the data, what its task found in it, hash of the weights")
    environment: Mapping[str, str] = Field(description="versions, device and threads that the metric was reached with")
    lock: Mapping[str, str] = Field(default_factory=dict, description="by package, the version that the metric was reached with")
    depths: tuple[int, int] | None = Field(
        default=None,
        description="frozen stages whose stored output was read, for training and for validation examples; rounding follows from it",
    )
    cost: Price | None = Field(default=None, description="of the trial; null where it did not tell")
    curve: tuple[Point, ...] = Field(default=(), description="of the trial, 64 epochs at most")
    summary: SerializeAsAny[BaseModel] = Field(default=NoSummary(), description="the task's, of the trial on the validation examples")
    manifest: str | None = Field(default=None, description="trainer.protocol.Checked.manifest: names the examples that have changed")

    @property
    def test_examples(self) -> int:
        """How many examples no trial of the search has seen."""
        return self.facts.sizes.get("test", 0)

    @model_validator(mode="before")
    @classmethod
    def _with_the_summaries_of_the_task(cls, value: Any) -> Any:
        """In a file their fields stand beside the others."""
        if not isinstance(value, Mapping):
            return value
        summary = _summary_of(_task_of(value.get("config")))
        document = _with_summary(value, summary, ())
        if isinstance(confirmed := value.get("confirmed"), Mapping):
            document["confirmed"] = _with_summary(confirmed, summary, ("confirmed",))
        return document

    @model_serializer(mode="wrap")
    def _with_the_summary_flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Its fields stand in its place."""
        flat: dict[str, Any] = {}
        for name, item in handler(self).items():
            flat |= item if name == "summary" else {name: item}
        return flat

    def to_yaml(self) -> str:
        """The file as people read it; floats as Python writes them, so that reading gives the same bits."""
        head = f"# {_comment(self.note)}\n# Trial {self.origin.trial} of study {self.origin.study_name!a}. Train it with: thaw train FILE\n"
        return head + yaml.dump(self.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)

    def to_json(self) -> str:
        """The same as JSON."""
        return self.model_dump_json(indent=2) + "\n"


def _task_of(config: Any) -> str:
    task = config.task if isinstance(config, TrainConfig) else config.get("task", FIRST_TASK) if isinstance(config, Mapping) else FIRST_TASK
    return task if isinstance(task, str) and task in specs() else FIRST_TASK


def _summary_of(name: str) -> type[BaseModel]:
    task = spec_of(name)
    return task.Summary if isinstance(task, ReportSummary) else NoSummary


def _with_summary(document: Mapping[str, Any], summary: type[BaseModel], place: Path) -> dict[str, Any]:
    """The document with those of its fields that are the summary's as `summary`. Raises Faulty."""
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
    """Writes every value out, for our own reader takes no aliases."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """In quotes unless our reader takes it for text: it knows more numbers than PyYAML does, such as `12e45`."""
        plain = len(text) <= LONGEST_PLAIN and _reads_as_text(text)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')

    def represent_numbers(self, items: list[Any]) -> yaml.SequenceNode:
        """In one line where they are numbers: a matrix has a line a row."""
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
    """The versions of the packages in it that decide on a result, without what a build adds to its own (`+cu130`)."""
    return {name: environment[name].partition("+")[0] for name in LOCKED if environment.get(name)}


def read_export(text: str) -> Exported:
    """The configuration in a file's text, YAML or JSON, of this schema or the first. Raises InvalidInput with the faults."""
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
