"""Endpoints that list the installed tasks, and the models and search spaces that ship with Thawline."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

import trainer.tasks.images.catalogue as catalogue
from search_spaces import presets
from search_spaces.documents import finite
from search_spaces.presets import Preset
from service.domain.errors import quoted
from service.rest_models import View
from service.web import API
from service.web.pages import module_of
from service.web.problems import UNKNOWN_MODEL, ProblemError
from trainer.configuration import FIRST_TASK, Direction
from trainer.tasks.base import Metric, TaskSpec
from trainer.tasks.capabilities import ExternalRunner, ReportPage, TrainingScript
from trainer.tasks.registry import spec_of, specs

router = APIRouter(prefix=API, tags=["catalogues"])


class ModelsView(View):
    models: list[str] = Field(examples=[["resnet18", "squeezenet1_1"]])


class TensorView(View):
    """A tensor of the state dict."""

    name: str
    shape: tuple[int, ...]


class StageView(View):
    """A stage of the network: consecutive layers that are frozen or trained together."""

    name: str
    tensors: list[TensorView]


class ModelView(View):
    """A model of the catalogue. `frozen_layers: k` freezes the first k stages; the head is always trained."""

    name: str
    family: str
    stages: list[StageView]
    head: StageView
    weights: list[str] = Field(description="names of torchvision's pretrained weights for the model")
    smallest_image: int = Field(description="minimum size of an example, in the unit of the size hyperparameter")
    image_step: int = Field(description="the size must be a multiple of this number")


class MetricView(View):
    """A metric that runs of a task report."""

    direction: Direction = Field(description="whether higher or lower values are better")
    low: float | None = Field(description="lowest possible value; null if unbounded", examples=[0.0])
    high: float | None = Field(description="highest possible value; null if unbounded", examples=[1.0])
    unit: str = Field(
        description="`share` for a share from 0 to 1, which the pages show in percent; empty if the metric has no unit", examples=["share"]
    )
    additive: bool = Field(description="whether the metric is the mean of one number per example")


class TaskView(View):
    """An installed task, with the facts that clients need to show its studies."""

    name: str = Field(description="value of a study's `task`", examples=["image_classification"])
    example: str = Field(description="noun for one example of the data; its plural ends in s", examples=["row"])
    metrics: Mapping[str, MetricView] = Field(description="metrics that are valid for the objective, by name; empty if any is")
    external: bool = Field(
        description="whether programs of the user are run: parameters and metrics may have any names, data and model are not known"
    )
    report: Sequence[str] = Field(description="fields that the task adds to the `result` of a complete trial", examples=[["residuals"]])
    module: str | None = Field(
        description="path of the JavaScript module that draws these fields; if null, the pages show their single numbers as a table",
    )
    input_module: str | None = Field(description="path of the JavaScript module that shows facts about the data; or null")
    script_needs: str | None = Field(
        description="packages that a training script without Thawline requires; null if the task has no training script",
        examples=["torch and torchvision"],
    )


class TasksView(View):
    tasks: list[TaskView] = Field(description="the default task first, the others sorted by name")


class SpacesView(View):
    presets: list[Preset] = Field(description="search spaces that ship with Thawline; a study selects one with `preset`")


@router.get("/models", summary="List the models")
def list_models() -> ModelsView:
    """The names that are valid for a study's `model.name`."""
    return ModelsView(models=list(catalogue.names()))


@router.get("/models/{name}", summary="Show a model")
def show_model(name: Annotated[str, Path(examples=["squeezenet1_1"])]) -> ModelView:
    """The model's stages in the order of the forward pass, with every tensor and its shape, and its torchvision weights names."""
    if name not in catalogue.names():
        raise ProblemError(UNKNOWN_MODEL, f"The catalogue has no model {quoted(name)}; GET /api/v1/models lists the names.")
    return _model_view(catalogue.load(name))


@router.get("/search-spaces", summary="List the shipped search spaces")
def list_search_spaces() -> SpacesView:
    """The presets, each with its purpose, its cost and the results to expect."""
    return SpacesView(presets=[presets.load(name) for name in presets.names()])


@router.get("/tasks", summary="List the tasks")
def list_tasks() -> TasksView:
    """The installed tasks, which a study's `task` can name, with their metrics."""
    names = sorted(specs(), key=lambda name: (name != FIRST_TASK, name))
    return TasksView(tasks=[_task_view(spec_of(name)) for name in names])


def _model_view(model: catalogue.Model) -> ModelView:
    """The REST model of a catalogue entry, without the fields that only the trainer uses."""
    stages = [_stage_view(stage.name, stage.tensors) for stage in model.stages]
    return ModelView(
        name=model.name, family=model.family, stages=stages, head=_stage_view(model.head.name, model.head.tensors),
        weights=list(model.weights), smallest_image=model.smallest_image, image_step=model.image_step,
    )  # fmt: skip


def _task_view(spec: TaskSpec) -> TaskView:
    """The REST model of the task."""
    page = spec if isinstance(spec, ReportPage) else None
    metrics = {name: _metric_view(metric) for name, metric in spec.metrics.items()}
    return TaskView(
        name=spec.name,
        example=spec.example,
        metrics=metrics,
        external=isinstance(spec, ExternalRunner),
        report=list(spec.Report.model_fields),
        module=module_of(page.page) if page is not None else None,
        input_module=module_of(page.page_of_input) if page is not None else None,
        script_needs=spec.script_needs if isinstance(spec, TrainingScript) else None,
    )


def _metric_view(metric: Metric) -> MetricView:
    return MetricView(
        direction=metric.direction, low=finite(metric.low), high=finite(metric.high), unit=metric.unit, additive=metric.additive
    )


def _stage_view(name: str, tensors: Mapping[str, tuple[int, ...]]) -> StageView:
    return StageView(name=name, tensors=[TensorView(name=tensor, shape=shape) for tensor, shape in tensors.items()])
