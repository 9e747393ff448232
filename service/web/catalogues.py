"""What a study can be made of: the models and the search spaces that ship with Thawline."""

from typing import Annotated

from fastapi import APIRouter, Path

import trainer.catalogue as catalogue
from search_spaces import presets
from service.web import API
from service.web.problems import UNKNOWN_MODEL, ProblemError
from service.web.views import ModelsView, ModelView, SpacesView, model_view

router = APIRouter(prefix=API, tags=["catalogues"])


@router.get("/models", summary="List the models")
def list_models() -> ModelsView:
    """The names that a study's `model.name` can have."""
    return ModelsView(models=list(catalogue.names()))


@router.get("/models/{name}", summary="Show a model")
def show_model(name: Annotated[str, Path(examples=["squeezenet1_1"])]) -> ModelView:
    """The model's stages in the order of the forward pass, with every tensor and its shape, and its torchvision weights names."""
    if name not in catalogue.names():
        raise ProblemError(UNKNOWN_MODEL, "The catalogue has no such model; GET /api/v1/models lists them.")
    return model_view(catalogue.load(name))


@router.get("/search-spaces", summary="List the shipped search spaces")
def list_search_spaces() -> SpacesView:
    """The presets, each with what it is for, what it costs and what to expect."""
    return SpacesView(presets=[presets.load(name) for name in presets.names()])
