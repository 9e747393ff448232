"""Endpoints that list the installed tasks, and the models and search spaces that ship with Thawline."""

from typing import Annotated

from fastapi import APIRouter, Path

import trainer.tasks.images.catalogue as catalogue
from search_spaces import presets
from service.domain.errors import quoted
from service.rest_models import ModelsView, ModelView, SpacesView, TasksView
from service.web import API
from service.web.problems import UNKNOWN_MODEL, ProblemError
from service.web.views import model_view, task_view
from trainer.configuration import FIRST_TASK
from trainer.tasks.registry import spec_of, specs

router = APIRouter(prefix=API, tags=["catalogues"])


@router.get("/models", summary="List the models")
def list_models() -> ModelsView:
    """The names that are valid for a study's `model.name`."""
    return ModelsView(models=list(catalogue.names()))


@router.get("/models/{name}", summary="Show a model")
def show_model(name: Annotated[str, Path(examples=["squeezenet1_1"])]) -> ModelView:
    """The model's stages in the order of the forward pass, with every tensor and its shape, and its torchvision weights names."""
    if name not in catalogue.names():
        raise ProblemError(UNKNOWN_MODEL, f"The catalogue has no model {quoted(name)}; GET /api/v1/models lists the names.")
    return model_view(catalogue.load(name))


@router.get("/search-spaces", summary="List the shipped search spaces")
def list_search_spaces() -> SpacesView:
    """The presets, each with its purpose, its cost and the results to expect."""
    return SpacesView(presets=[presets.load(name) for name in presets.names()])


@router.get("/tasks", summary="List the tasks")
def list_tasks() -> TasksView:
    """The installed tasks, which a study's `task` can name, with their metrics."""
    names = sorted(specs(), key=lambda name: (name != FIRST_TASK, name))
    return TasksView(tasks=[task_view(spec_of(name)) for name in names])
