"""The catalogue of models, readable without torch: stages, tensor names and shapes, and names of weights."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from trainer.configuration import Frozen

ADAPTED = {"vit": ("lora", "dora", "bitfit", "adapter"), "swin": ("lora", "dora", "bitfit", "adapter")}
"""Methods besides full, by family."""
Shapes = Mapping[str, tuple[int, ...]]


class Stage(Frozen):
    """A part of the forward pass that is frozen or trained as a whole, with its tensors (parameters and buffers)."""

    name: str
    tensors: Shapes


class Model(Frozen):
    """A model of the catalogue. Tensor names are those of its state dict."""

    name: str
    family: str
    stages: tuple[Stage, ...]
    head: Stage
    classifier: tuple[str, ...]  # the head's tensors that are replaced for the task's outputs
    weights: tuple[str, ...]  # names of torchvision's weights, without the enum's name
    smallest_image: int  # pixels
    image_step: int  # the image size must be a multiple of this
    lanes: bool  # whether heads of many runs can be trained together
    resizable: tuple[str, ...]  # tensors that are interpolated for another image size (positions of a ViT)

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods of fine-tuning besides full."""
        return ADAPTED.get(self.family, ())


def names() -> tuple[str, ...]:
    """All model names, sorted."""
    folder = files(__package__).joinpath("models")
    return tuple(sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json")))


@cache
def load(name: str) -> Model:
    """The model of that name. Raises KeyError for an unknown name."""
    if name not in names():
        raise KeyError(name)
    return Model.model_validate_json(files(__package__).joinpath("models", f"{name}.json").read_bytes())
