"""What the server must know of models without torch: their stages, parameters, shapes and weights names."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from trainer.configuration import Frozen

Shapes = Mapping[str, tuple[int, ...]]


class Stage(Frozen):
    """A step of the forward pass that is frozen or trained as a whole, with its tensors (parameters and buffers)."""

    name: str
    tensors: Shapes


class Model(Frozen):
    """A model of the catalogue. Tensor names are those of its state dict."""

    name: str
    family: str
    stages: tuple[Stage, ...]
    head: Stage
    classifier: tuple[str, ...]  # the head's tensors that are made anew for the task's classes
    weights: tuple[str, ...]  # torchvision's weights names, without the enum's own name
    smallest_image: int  # pixels
    image_step: int  # the image size must be a multiple of this
    lanes: bool  # whether many runs of the head alone can share a pass over the data
    resizable: tuple[str, ...]  # tensors that are interpolated when the image size differs (positions of a ViT)


def names() -> tuple[str, ...]:
    """All model names, sorted."""
    folder = files(__package__).joinpath("models")
    return tuple(sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json")))


@cache
def load(name: str) -> Model:
    """The model of that name. Raises KeyError when the catalogue has none."""
    if name not in names():
        raise KeyError(name)
    return Model.model_validate_json(files(__package__).joinpath("models", f"{name}.json").read_bytes())
