"""Models of a run's configuration and of its data, which each task extends. Imports no torch."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, FiniteFloat, WithJsonSchema, model_validator

from trainer.by_task import FIRST_TASK as FIRST_TASK
from trainer.by_task import ByTask
from trainer.by_task import Frozen as Frozen

if TYPE_CHECKING:
    from trainer.tasks.base import ModelInfo

Direction = Literal["minimize", "maximize"]
Part = Literal["train", "validation", "test"]
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
WEIGHT_FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
ALL_STAGES = 10_000
"""The value of `frozen_layers` for all stages of a model whose stages are not known yet; no model has as many."""
RANDOM = "random"
"""Value of `weights` for random initial values."""

T = TypeVar("T")


def counted(count: int, one: str, many: str = "") -> str:
    """Such as `1 row` and `1,200 rows`; `many` if the plural does more than add an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def narrowing(kind: type[T], fault: str) -> Callable[[object], T]:
    """A function that returns its argument as one of that type, and raises TypeError for another one.

    `fault` follows the name of the other type in the message, such as "has no labels".
    """

    def narrowed(value: object) -> T:
        if not isinstance(value, kind):
            raise TypeError(f"{type(value).__name__} {fault}")
        return value

    return narrowed


Resolve = Callable[[str], str]
"""A path as written in a document → the path from the document's folder."""


def resolve_fields(section: Mapping[str, Any], fields: Mapping[str, Callable[[str], bool]], resolve: Resolve) -> dict[str, Any]:
    """The section with those of the fields resolved that contain a path; a field's function decides that for its text."""
    paths = {name: text for name, is_path in fields.items() if isinstance(text := section.get(name), str) and text and is_path(text)}
    return {**section, **{name: resolve(text) for name, text in paths.items()}}


class DataConfig(Frozen):
    """Labelled examples: a folder or a table (.csv, .tsv)."""

    path: str = Field(min_length=1, max_length=4096)
    validation: FiniteFloat = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="share held out for validation, of each label where there are labels; ignored where the data has such a part",
    )
    test: FiniteFloat = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share held out for testing, unused by the search; must be 0 where the data has a test part",
    )
    seed: int = Field(default=0, ge=0, le=2**53, description="seed of the split; the split also depends on the content of the examples")
    location: Literal["server", "workers"] = Field(
        default="server", description="`workers` if the server cannot read the path; the first worker then checks the data"
    )
    split: Literal["auto", "given", "drawn"] = Field(
        default="auto", exclude_if=lambda split: split == "auto",
        description="given: the data must have its own split, as folders train/, val/, test/ or a column `split`; drawn: folders with "
        "these names are labels, and the column is ignored; auto: given if the data has a split, else drawn",
    )  # fmt: skip

    @model_validator(mode="after")
    def _training_part_is_not_empty(self) -> Self:
        if self.validation + self.test >= 1:
            both = f"validation ({self.validation:g}) and test ({self.test:g})"
            raise ValueError(f"{both} together leave no training examples; lower one of them, so that their sum is below 1")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths in this section."""
        return (self.path,)

    @classmethod
    def resolved(cls, section: Mapping[str, Any], resolve: "Resolve") -> dict[str, Any]:
        """The section as written, with its relative paths resolved."""
        return resolve_fields(section, {"path": bool}, resolve)

    @property
    def path_fields(self) -> Mapping[str, str]:
        """Paths that are opened first, by the field of this section that names them in a study document."""
        return {"path": self.path}

    @property
    def has_test(self) -> bool:
        """Whether a test part is asked for, or must be in the data."""
        return self.test > 0 or self.split == "given"

    @property
    def is_table(self) -> bool:
        """Whether the path is a table (CSV) rather than a folder."""
        return PurePath(self.path).suffix.lower() in TABLE_SUFFIXES


def split_sizes(count: int, data: DataConfig, given: Collection[Part] = ()) -> tuple[int, int, int]:
    """The sizes of train, validation and test for `count` distinct examples (of one label, where there are labels).

    The server and the trainer both use this rule. Shares are rounded, and each part with a share above 0 gets at least one example; train
    gets the rest, possibly none. Where the data has parts of its own (`given`), `count` is the size of its train part, and no examples are
    drawn for the given parts.
    """
    test = max(1, round(count * data.test)) if data.test > 0 and "test" not in given else 0
    validation = max(1, round(count * data.validation)) if "validation" not in given else 0
    return count - validation - test, validation, test


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)  # in study documents the default is another one, which depends on the model


class ModelConfig(Frozen):
    """A model, and where its weights come from."""

    name: str = Field(min_length=1, max_length=128)
    weights: Annotated[
        str,
        BeforeValidator(lambda weights: RANDOM if weights is None else weights),  # version 0.1 stored null for random values
        WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1, "maxLength": 4096}, {"type": "null"}]}),
    ] = Field(
        default=RANDOM, min_length=1, max_length=4096, json_schema_extra=_without_default,
        description="a safetensors or state-dict file, the name of published weights, or `random` for random initial values; "
        "without this field, a study takes the model's default pretrained weights",
    )  # fmt: skip

    @classmethod
    def resolved(cls, section: Mapping[str, Any], resolve: "Resolve") -> dict[str, Any]:
        """The section as written, with its relative paths resolved."""
        return resolve_fields(section, {"weights": is_weights_file}, resolve)

    @property
    def is_published(self) -> bool:
        """Whether workers can load the model by its name alone."""
        return True

    @property
    def weights_file(self) -> str | None:
        """The weights when they are a file; None when they are a name or random."""
        return self.weights if is_weights_file(self.weights) else None

    @property
    def pretrained(self) -> bool:
        """Whether the stages start from weights rather than from random values."""
        return self.weights != RANDOM


def is_weights_file(weights: str) -> bool:
    """Whether the text names a file rather than published weights."""
    return "/" in weights or "\\" in weights or PurePath(weights).suffix.lower() in WEIGHT_FILE_SUFFIXES


Seed = Annotated[int, Field(ge=0, le=2**53, description="seed for weight initialisation and dropout")]
Precision = Literal["auto", "float32", "bfloat16", "float16", "tf32"]


class Hyperparameters(Frozen):
    """The hyperparameters common to all tasks, which a study may vary or fix."""

    lr: FiniteFloat = Field(default=1e-3, gt=0, le=100, description="peak learning rate")
    batch_size: int = Field(default=32, ge=1, le=65_536)
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "adamw"
    momentum: FiniteFloat = Field(default=0.9, ge=0, lt=1, description="of sgd and rmsprop; ignored by the other optimizers")
    beta1: FiniteFloat = Field(default=0.9, ge=0, lt=1, description="of adam and adamw: decay rate of the mean of gradients")
    beta2: FiniteFloat = Field(default=0.999, ge=0, lt=1, description="of adam and adamw: decay rate of the mean of squared gradients")
    weight_decay: FiniteFloat = Field(default=0.0, ge=0, le=10)
    frozen_layers: int = Field(
        default=0, ge=0, le=ALL_STAGES, description="number of stages, counted from the input, whose weights are not trained"
    )
    dropout: FiniteFloat = Field(default=0.0, ge=0, lt=1, description="before the last layer of the head")
    schedule: Literal["constant", "cosine", "step", "one_cycle"] = "constant"
    warmup_fraction: FiniteFloat = Field(default=0.0, ge=0, lt=1, description="share of all steps during which lr rises linearly")
    lr_step_epochs: int = Field(
        default=5, ge=1, le=100_000, description="the step schedule multiplies lr by lr_gamma after each such number of epochs"
    )
    lr_gamma: FiniteFloat = Field(default=0.1, gt=0, le=1)
    epochs: int = Field(default=5, ge=1, le=100_000)
    precision: Precision = Field(
        default="float32",
        description="auto, which new studies have that give none: bfloat16 or float16, the first that the device has matrix units for, "
        "else float32; float16 scales the loss; tf32: float32 with matrix products and convolutions in TF32, which float32 excludes",
    )
    compile: bool = Field(
        default=False,
        exclude_if=lambda compile: not compile,
        description="compile the layers that are trained with torch.compile; computed as usual where that fails",
    )
    seed: Seed = 0
    order_seed: int = Field(
        default=0,
        ge=0,
        le=2**53,
        description="shuffle seed; the same for all trials of a study, so that they can share batches",
    )


class RunConfig(ByTask):
    """The complete configuration of one run, of a task with or without a torch half."""

    task: str
    seed: Seed = 0

    @classmethod
    def resolved(cls, document: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
        """The study document with the relative paths of its sections resolved. Other values stay as they are."""
        return dict(document)

    @property
    def last_step(self) -> int:
        """The step after which the run ends; 1 if it is not known."""
        return 1

    @property
    def paths(self) -> tuple[str, ...]:
        """The files and folders that the run reads first, which may lie on a mount that does not respond."""
        return ()

    def with_seed(self, seed: int) -> Self:
        """The config of another run, with that seed for everything random."""
        return self.model_copy(update={"seed": seed})


class TrainConfig(RunConfig, Hyperparameters):
    """The complete configuration of one run of a task with a torch half. Equal configs give equal results on the same machine."""

    task: str
    data: DataConfig
    model: ModelConfig

    @classmethod
    def resolved(cls, document: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
        """The study document with the relative paths of data and model resolved."""
        sections = {part: section for part in ("data", "model") if isinstance(section := document.get(part), dict)}
        models = {part: cls.model_fields[part].annotation for part in sections}
        return {
            **document,
            **{
                part: model.resolved(sections[part], resolve)
                for part, model in models.items()
                if isinstance(model, type) and issubclass(model, DataConfig | ModelConfig)
            },
        }

    @property
    def last_step(self) -> int:
        return self.epochs

    @property
    def paths(self) -> tuple[str, ...]:
        weights = self.model.weights_file
        return (*self.data.paths, *(() if weights is None else (weights,)))

    def with_seed(self, seed: int) -> Self:
        return self.model_copy(update={"seed": seed, "order_seed": seed})


def resolve_paths(document: object, base: Path) -> object:
    """The study document with the relative paths of its sections made absolute, from the folder `base`. Other values stay as they are."""
    if not isinstance(document, dict):
        return document
    try:
        config = RunConfig.of_task(str(document.get("task", FIRST_TASK)))
    except ValueError:  # the task is not installed; the parser reports it
        config = RunConfig.of_task(FIRST_TASK)
    return config.resolved(document, lambda text: _normal(base / _expanded(text)))


def _normal(path: Path) -> str:
    """The path without `..`, where that names the same place: a link may lead elsewhere."""
    normal = os.path.normpath(path)
    try:
        return normal if os.path.realpath(normal) == os.path.realpath(path) else str(path)
    except (OSError, ValueError):
        return str(path)


def _expanded(text: str) -> Path:
    """The path with `~` expanded; unchanged where the home directory is unknown."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


ShownName = Annotated[str, Field(max_length=300)]


class LeftOut(Frozen):
    """Files that were left out for one reason."""

    reason: str = Field(max_length=400)
    count: int = Field(ge=1)
    examples: tuple[ShownName, ...] = Field(default=(), max_length=20, description="names of some of them")


class ListingFacts(Frozen):
    """How the data was read: the role of folders and columns, and the files left out."""

    given: tuple[Part, ...] = Field(default=(), description="parts of the split that the data has of its own; the others are drawn")
    folders: tuple[tuple[str, Part], ...] = Field(default=(), description="the folder of each part, for a folder with a given split")
    columns: Mapping[str, str] = Field(default_factory=dict, description="column names of a table, by role: path, label, split, group")
    separator: str | None = Field(default=None, max_length=1, description="separator of a table")
    unused_columns: tuple[ShownName, ...] = Field(default=(), max_length=100, description="columns of a table that are not read")
    groups: int | None = Field(default=None, ge=0, description="distinct values of the group column; None without one")
    heic: bool = Field(default=False, description="whether there are HEIC files among the examples, which need the package pillow-heif")
    left_out: tuple[LeftOut, ...] = Field(default=(), max_length=50)
    notes: tuple[Annotated[str, Field(max_length=2_000)], ...] = Field(
        default=(), max_length=50, description="sentences about assumptions made"
    )

    def sentences(self) -> tuple[str, ...]:
        """Sentences about the listing, for logs and model cards."""
        found = list(self.notes)
        if self.groups is not None:
            column = self.columns.get("group", "group").strip()
            found.append(f"{counted(self.groups, 'group')} by the column {column}, each in one part of the split.")
        if self.unused_columns:
            found.append(f"Columns that are not used: {', '.join(self.unused_columns)}.")
        for one in self.left_out:
            more = ", …" if one.count > len(one.examples) else ""
            found.append(f"Left out: {one.count:,}, {one.reason} ({', '.join(one.examples)}{more}).")
        return tuple(found)


class LoadedWeights(Frozen):
    """The part of a weights file that was loaded."""

    format: str = Field(max_length=32, description="safetensors, torch or legacy torch (before 1.6)")
    name: str | None = Field(
        default=None,
        max_length=128,
        description="torchvision's name of these weights, also for a file whose SHA-256 is that of published weights",
    )
    container: tuple[str, ...] = Field(default=(), description="keys of the checkpoint that lead to the state dict")
    prefix: str = Field(default="", max_length=400, description="prefix removed from the tensors' names")
    wrappers: tuple[str, ...] = Field(default=(), description="names of wrapping modules that were removed from the tensors' names")
    unused: tuple[str, ...] = Field(default=(), description="keys of other state dicts in the checkpoint, up to five")
    left_out: int = Field(
        default=0, ge=0, description="number of tensors of the state dict that the model does not have and that were not loaded"
    )
    examples: tuple[str, ...] = Field(default=(), description="names of some of these tensors")


class DatasetInfo(ByTask):
    """Facts about data and weights, on which results depend besides the config."""

    example: ClassVar[str] = "example"
    """The noun for one example in sentences."""

    task: str
    fingerprint: str = Field(description="SHA-256 over the content and target of every example, and its part of a given split")
    split: str = Field(description="SHA-256 over the assignment of examples to parts")
    weights_sha256: str | None = Field(description="SHA-256 of the weights file, also of a downloaded one; None without weights")
    listing: ListingFacts | None = Field(
        default=None, exclude_if=lambda listing: listing is None, description="how the data was read; None in records of version 0.1"
    )
    weights: LoadedWeights | None = Field(
        default=None,
        exclude_if=lambda weights: weights is None,
        description="the loaded weights; None without weights, and in results of version 0.1",
    )

    @property
    def sizes(self) -> Mapping[str, int]:
        """The number of examples in train, validation and test."""
        raise NotImplementedError

    @property
    def in_words(self) -> str:
        """The amount of data as a phrase for logs."""
        return f"{counted(self.sizes.get('train', 0), self.example)} to train on, {self.sizes.get('validation', 0):,} to validate"

    @property
    def checked(self) -> Mapping[str, Any]:
        """The body of the event `study_checked`."""
        return {f"{self.example}s": dict(self.sizes)}

    @property
    def described_model(self) -> "ModelInfo | None":
        """The model as the check found it, for tasks whose models the server may not be able to read; None for other tasks."""
        return None

    def unrecorded(self, part: Part) -> Mapping[str, str]:
        """The metrics that runs do not record for the part, by name, each with the reason as a predicate."""
        return {}

    def faults(self) -> Iterable[tuple[str, str, str]]:
        """Field, code and message of impossible values, for imported facts."""
        return ()

    def differences_from(self, other: "DatasetInfo") -> list[str]:
        """The inputs that differ, as nouns in the plural."""
        examples = f"{self.example}s"
        parts = {
            f"the {examples} or their labels": self.fingerprint != other.fingerprint,
            f"the train, validation and test parts of the {examples}": self.split != other.split,
            "the weights": self.weights_sha256 != other.weights_sha256,
        }
        return [name for name, differs in parts.items() if differs]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes to the user about data and weights, of one or two sentences, for pages, logs and model cards."""
        return ()

    @property
    def identity_fields(self) -> frozenset[str]:
        """The fields in `identity`."""
        return frozenset({"fingerprint", "split", "weights_sha256"})

    @property
    def identity(self) -> Sequence[Mapping[str, Any]]:
        """The inputs of a run besides its config, as JSON: data, split and weights, without the way in which they were read."""
        # Checkpoints depend on this value. A field that does not change training must stay out of it, or resuming would be refused.
        return (self.model_dump(mode="json", include=set(self.identity_fields)),)
