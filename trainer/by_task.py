"""Base of models that have a variant for each task, chosen by the field `task`. Imports no torch."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Self, cast, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ModelWrapValidatorHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

FIRST_TASK = "image_classification"
"""The task of documents without the field `task`: it was the only task of version 0.1."""


class Frozen(BaseModel):
    """Immutable model that is validated when it is created."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")  # metrics may be NaN


class ByTask(Frozen):
    """Base of model families with one model for each task: a union discriminated by `task`, which installed tasks extend.

    A direct subclass is a family. Calling or validating the family returns an instance of the model of the document's task, and
    serializing a field of the family's type writes all fields of that model. A subclass of the family with a literal `task` is the model
    of that task; one without is a part of the models of several tasks, and calling or validating it refuses the other tasks.
    """

    find_tasks: ClassVar[Callable[[], Collection[str]]] = lambda: ()
    """The names of the installed tasks."""
    find_task: ClassVar[Callable[[str], object]] = lambda name: None
    """Imports the task with that name, if it is installed. `trainer.tasks.registry` sets both variables."""
    _family: ClassVar[type["ByTask"]]
    _models: ClassVar[dict[str, type["ByTask"]]]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if ByTask in cls.__bases__:
            cls._family, cls._models = cls, {}
        elif cls._is_of_one_task():
            cls._models[get_args(cls.model_fields["task"].annotation)[0]] = cls

    def __new__(cls, *args: Any, **values: Any) -> Self:
        """Create an instance of the task's model, also when the family is called."""
        part = hasattr(cls, "_family") and not cls._is_of_one_task()
        return super().__new__(cls.of_task(values.get("task", FIRST_TASK)) if part and values else cls)

    @classmethod
    def _is_of_one_task(cls) -> bool:
        return bool(get_args(cls.__pydantic_fields__["task"].annotation))

    @classmethod
    def of_task(cls, task: str) -> type[Self]:
        """The task's model of this family. Raises ValueError for a task that is not installed, or whose model is no subclass."""
        if task not in cls._models:
            ByTask.find_task(task)
        if task not in cls._models:
            raise ValueError(f"there is no task {task[:100]!r}; choose one of {', '.join(sorted(ByTask.find_tasks() or cls._models))}")
        found = cls._models[task]
        if not issubclass(found, cls):
            raise ValueError(f"the task {task} has no {cls.__name__}; choose another task")
        return found

    @model_validator(mode="wrap")
    @classmethod
    def _dispatch_by_task(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if cls._is_of_one_task():
            return handler(value)
        if isinstance(value, cls):
            return value
        task = value.get("task", FIRST_TASK) if isinstance(value, Mapping) else FIRST_TASK
        return cls.of_task(task if isinstance(task, str) else FIRST_TASK).model_validate(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        if "task" in cls.__pydantic_fields__ and not cls._is_of_one_task():
            schema = cast(CoreSchema, {**schema, "serialization": core_schema.simple_ser_schema("any")})  # like SerializeAsAny
        return schema

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of a family: a union of its models' schemas, or the schema of the only model."""
        if cls is not cls._family:
            return handler(schema)
        tasks = sorted(ByTask.find_tasks() or cls._models)
        schemas = [handler(cls.of_task(task).__pydantic_core_schema__) for task in tasks]
        if len(schemas) == 1:
            return {**handler.resolve_ref_schema(schemas[0]), "title": cls.__name__}
        # A document without a task belongs to the first one alone, so the others require the field.
        branches = [
            schema if task == FIRST_TASK else {**schema, "required": [*schema.get("required", ()), "task"]}
            for task, schema in zip(tasks, schemas, strict=True)
        ]
        return {"oneOf": branches, "discriminator": {"propertyName": "task"}, "title": cls.__name__}
