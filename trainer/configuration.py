"""What a run is given and what is known of its data: the models that each task extends. Imports no torch."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal, Self, cast, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

Direction = Literal["minimize", "maximize"]
Part = Literal["train", "validation", "test"]

FIRST_TASK = "image_classification"
"""The task of documents that name none: version 0.1 had no other."""
TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
WEIGHT_FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
RANDOM = "random"
"""In place of weights: random initial values."""


class Frozen(BaseModel):
    """A value that is checked once, when it is made, and never changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")  # metrics may be NaN


class ByTask(Frozen):
    """A family of models, one for each task: a union discriminated by `task` that installed tasks extend.

    A direct subclass is the family: calling or validating it gives the model of the document's task, and serializing a field of its type
    gives all fields of that model. A subclass of the family with a literal `task` is that task's model.
    """

    find_tasks: ClassVar[Callable[[], Collection[str]]] = lambda: ()
    """The names of the installed tasks."""
    find_task: ClassVar[Callable[[str], object]] = lambda name: None
    """Imports the task of that name, if it is installed. `trainer.tasks.registry` sets both."""
    _family: ClassVar[type["ByTask"]]
    _models: ClassVar[dict[str, type["ByTask"]]]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if ByTask in cls.__bases__:
            cls._family, cls._models = cls, {}
        else:
            (task,) = get_args(cls.model_fields["task"].annotation)
            cls._models[task] = cls

    def __new__(cls, *args: Any, **values: Any) -> Self:
        """An instance of the task's model, also where the family is called."""
        family = getattr(cls, "_family", None)
        return super().__new__(cls.of_task(values.get("task", FIRST_TASK)) if cls is family and values else cls)

    @classmethod
    def of_task(cls, task: str) -> type[Self]:
        """The task's model of this family. Raises ValueError for a task that is not installed."""
        if task not in cls._models:
            ByTask.find_task(task)
        if task not in cls._models:
            raise ValueError(f"there is no task {task[:100]!r}; choose one of {', '.join(sorted(ByTask.find_tasks() or cls._models))}")
        return cls._models[task]  # type: ignore[return-value]  # of the family, which is cls or a base of it

    @model_validator(mode="wrap")
    @classmethod
    def _as_the_task_has_it(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if cls is not cls._family:
            return handler(value)
        if isinstance(value, cls):
            return value
        task = value.get("task", FIRST_TASK) if isinstance(value, Mapping) else FIRST_TASK
        return cls.of_task(task if isinstance(task, str) else FIRST_TASK).model_validate(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        if any(base.__name__ == "ByTask" for base in cls.__bases__):  # the model does not exist while its own schema is made
            schema = cast(CoreSchema, {**schema, "serialization": core_schema.simple_ser_schema("any")})  # as SerializeAsAny has it
        return schema

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Of a family: its models' schemas, or the schema of the only one."""
        if cls is not cls._family:
            return handler(schema)
        schemas = [handler(cls.of_task(task).__pydantic_core_schema__) for task in sorted(ByTask.find_tasks() or cls._models)]
        if len(schemas) == 1:
            return {**handler.resolve_ref_schema(schemas[0]), "title": cls.__name__}
        return {"oneOf": schemas, "discriminator": {"propertyName": "task"}, "title": cls.__name__}


class DataConfig(Frozen):
    """Labelled examples: a folder or a table (.csv, .tsv)."""

    path: str = Field(min_length=1, max_length=4096)
    validation: FiniteFloat = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="share held out for validation, of each label where there are labels; unused where the data has a validation part",
    )
    test: FiniteFloat = Field(
        default=0.0, ge=0, lt=1, description="share that no trial sees, likewise; must be 0 where the data has a test part"
    )
    seed: int = Field(default=0, ge=0, le=2**53, description="decides, with the content, which example goes where")
    location: Literal["server", "workers"] = Field(
        default="server", description="`workers` when the server cannot see the path; the first worker checks it then"
    )
    split: Literal["auto", "given", "drawn"] = Field(
        default="auto", exclude_if=lambda split: split == "auto",
        description="given: the data must have a split of its own, as folders train/, val/, test/ or a column `split`; drawn: folders of "
        "these names are labels, and the column is not used; auto: given where the data has one",
    )  # fmt: skip

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            both = f"validation ({self.validation:g}) and test ({self.test:g})"
            raise ValueError(f"{both} together leave nothing to train on; lower one of them, so that their sum is below 1")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that the section names."""
        return (self.path,)

    @property
    def is_table(self) -> bool:
        """Whether the path is a table (CSV) rather than a folder."""
        return PurePath(self.path).suffix.lower() in TABLE_SUFFIXES


def split_sizes(count: int, data: DataConfig, given: Collection[Part] = ()) -> tuple[int, int, int]:
    """How many of `count` distinct examples (of a label, where there are labels) go to train, validation and test.

    One rule for server and trainer. Shares are rounded, and a share that is wanted gets at least one example; train gets what is left,
    perhaps none. Where the data gives some parts itself, `count` is the examples of its train part, and nothing is drawn for the other
    given parts.
    """
    test = max(1, round(count * data.test)) if data.test > 0 and "test" not in given else 0
    validation = max(1, round(count * data.validation)) if "validation" not in given else 0
    return count - validation - test, validation, test


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)  # the default of a study document is another one, and depends on the model


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
        "a study document without it takes the model's default pretrained weights",
    )  # fmt: skip

    @property
    def weights_file(self) -> str | None:
        """The weights when they are a file; None when they are a name or random."""
        return self.weights if is_weights_file(self.weights) else None

    @property
    def pretrained(self) -> bool:
        """Whether the stages begin with weights rather than random values."""
        return self.weights != RANDOM


def is_weights_file(weights: str) -> bool:
    """Whether the text names a file rather than published weights."""
    return "/" in weights or "\\" in weights or PurePath(weights).suffix.lower() in WEIGHT_FILE_SUFFIXES


class Hyperparameters(Frozen):
    """What a study of any task may vary or fix."""

    lr: FiniteFloat = Field(default=1e-3, gt=0, le=100, description="peak learning rate")
    batch_size: int = Field(default=32, ge=1, le=65_536)
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "adamw"
    momentum: FiniteFloat = Field(default=0.9, ge=0, lt=1, description="of sgd and rmsprop; unused by the others")
    beta1: FiniteFloat = Field(default=0.9, ge=0, lt=1, description="of adam and adamw: how slowly the mean of the gradients changes")
    beta2: FiniteFloat = Field(default=0.999, ge=0, lt=1, description="of adam and adamw: how slowly the mean of their squares changes")
    weight_decay: FiniteFloat = Field(default=0.0, ge=0, le=10)
    frozen_layers: int = Field(default=0, ge=0, le=10_000, description="how many stages, from the input, stay as they are")
    dropout: FiniteFloat = Field(default=0.0, ge=0, lt=1, description="before the last layer of the head")
    schedule: Literal["constant", "cosine", "step", "one_cycle"] = "constant"
    warmup_fraction: FiniteFloat = Field(default=0.0, ge=0, lt=1, description="share of all steps in which lr rises linearly")
    lr_step_epochs: int = Field(default=5, ge=1, le=100_000, description="the step schedule multiplies lr by lr_gamma each so many epochs")
    lr_gamma: FiniteFloat = Field(default=0.1, gt=0, le=1)
    epochs: int = Field(default=5, ge=1, le=100_000)
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="float32", description="auto: bfloat16 where the device has matrix units for it, float32 elsewhere"
    )
    seed: int = Field(default=0, ge=0, le=2**53, description="of the initial values and of what the layers draw")
    order_seed: int = Field(
        default=0,
        ge=0,
        le=2**53,
        description="of the order of the training examples; a study's trials have it in common, so that they may share batches",
    )


class TrainConfig(ByTask, Hyperparameters):
    """One run, wholly resolved: equal configs on the same machine give equal results."""

    task: str
    data: DataConfig
    model: ModelConfig


ShownName = Annotated[str, Field(max_length=300)]


class LeftOut(Frozen):
    """Files that are not used, all for the same reason."""

    reason: str = Field(max_length=400)
    count: int = Field(ge=1)
    examples: tuple[ShownName, ...] = Field(default=(), max_length=20, description="names of some of them")


class ListingFacts(Frozen):
    """How the data was read: what was used as what, and what was left out."""

    given: tuple[Part, ...] = Field(default=(), description="parts of the split that the data has itself; the others are drawn")
    folders: tuple[tuple[str, Part], ...] = Field(default=(), description="of a folder with a given split: the folder of each part")
    columns: Mapping[str, str] = Field(default_factory=dict, description="of a table: path, label, split, group by the column's name")
    separator: str | None = Field(default=None, max_length=1, description="of a table")
    unused_columns: tuple[ShownName, ...] = Field(default=(), max_length=100, description="columns of a table that nothing is read from")
    groups: int | None = Field(default=None, ge=0, description="distinct values of the group column; None without one")
    heic: bool = Field(default=False, description="whether HEIC files are among the examples: reading them needs pillow-heif")
    left_out: tuple[LeftOut, ...] = Field(default=(), max_length=50)
    notes: tuple[Annotated[str, Field(max_length=2_000)], ...] = Field(
        default=(), max_length=50, description="sentences about what was assumed"
    )

    def sentences(self) -> tuple[str, ...]:
        """All that people should know of it, for log and card."""
        told = list(self.notes)
        if self.groups is not None:
            told.append(
                f"{self.groups:,} groups by the column {self.columns.get('group', 'group').strip()}, each in one part of the split."
            )
        if self.unused_columns:
            told.append(f"Columns that are not used: {', '.join(self.unused_columns)}.")
        for one in self.left_out:
            more = ", …" if one.count > len(one.examples) else ""
            told.append(f"Left out: {one.count:,} of the files: {one.reason} ({', '.join(one.examples)}{more}).")
        return tuple(told)


class LoadedWeights(Frozen):
    """Which part of a weights file was loaded."""

    format: str = Field(max_length=32, description="safetensors, torch or legacy torch (before 1.6)")
    name: str | None = Field(
        default=None, max_length=128, description="torchvision's name of these weights, also for a file known by its SHA-256"
    )
    container: tuple[str, ...] = Field(default=(), description="the checkpoint's keys that lead to the state dict")
    prefix: str = Field(default="", max_length=400, description="removed from the beginning of the tensors' names")
    wrappers: tuple[str, ...] = Field(default=(), description="names of wrapping modules that were removed from the tensors' names")
    unused: tuple[str, ...] = Field(default=(), description="keys of other state dicts in the checkpoint, up to five")
    left_out: int = Field(default=0, ge=0, description="tensors of the state dict that do not belong to the model and were not loaded")
    examples: tuple[str, ...] = Field(default=(), description="names of some of these")


class DatasetInfo(ByTask):
    """What was found about data and weights: the part of a result that the config alone does not say."""

    task: str
    fingerprint: str = Field(description="SHA-256 over the content and target of every example, and its part of a given split")
    split: str = Field(description="SHA-256 over which example went where")
    weights_sha256: str | None = Field(description="of the weights file, or of the downloaded one; None without weights")
    listing: ListingFacts | None = Field(
        default=None, exclude_if=lambda listing: listing is None, description="how the data was read; None in facts of version 0.1"
    )
    weights: LoadedWeights | None = Field(
        default=None, exclude_if=lambda weights: weights is None, description="None without weights, and in results of version 0.1"
    )

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many examples are in train, validation and test."""
        raise NotImplementedError

    @property
    def in_words(self) -> str:
        """How much data there is, for logs."""
        return f"{self.sizes.get('train', 0):,} examples to train on, {self.sizes.get('validation', 0):,} to validate"

    @property
    def checked(self) -> Mapping[str, Any]:
        """The body of the event that says that data and weights were checked."""
        return {"examples": dict(self.sizes)}

    def faults(self) -> Iterable[tuple[str, str, str]]:
        """Field, code and message of what no run finds, for facts that were not found here but imported."""
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about data and weights, a sentence or two each: for pages, logs and model cards."""
        return ()

    @property
    def identity(self) -> Sequence[Mapping[str, Any]]:
        """What the state of a run follows from besides its config, as JSON: data, split and weights, not how they were found."""
        return (self.model_dump(mode="json", include={"fingerprint", "split", "weights_sha256"}),)
