"""What a family of networks has to say of itself: its members, how one is made, and where its stages lie."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torchvision.models import get_model

State = dict[str, Tensor]
Split = tuple[dict[str, nn.Module], nn.Module]
"""Stages by name in the order of the forward pass, and the head. Run one after the other they are the network's forward."""


def from_torchvision(name: str, classes: int, image_size: int) -> nn.Module:
    """The network with random initial values. Most take images of any size, so `image_size` plays no part."""
    return cast(nn.Module, get_model(name, weights=None, num_classes=classes))


def as_it_is(state: State, network: nn.Module) -> State:
    """Most families need no change to a state dict before it is loaded."""
    return state


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Networks that are split in the same way."""

    name: str
    members: tuple[str, ...]
    classifier: str
    """The last layer, by its path in the network; it is made anew for the task's classes."""
    split: Callable[[Any], Split]
    make: Callable[[str, int, int], nn.Module] = from_torchvision
    """Name, number of classes, image size in pixels → network."""
    adapt: Callable[[State, Any], State] = as_it_is
    """A state dict as files hold it, and the network → the state dict as the network wants it."""
    resizable: tuple[str, ...] = ()
    """Tensors that depend on the image size; `adapt` interpolates them."""
    original_classes: int = 1000

    @property
    def classifier_tensors(self) -> tuple[str, ...]:
        return f"{self.classifier}.weight", f"{self.classifier}.bias"


def attach(layers: nn.Sequential, starts: Callable[[nn.Module], bool], path: str) -> dict[str, nn.Module]:
    """Cut a sequence into stages: each layer for which `starts` holds begins one, the layers that follow it belong to it."""
    groups: dict[str, list[nn.Module]] = {}
    for name, layer in layers.named_children():
        if not groups or starts(layer):
            groups[f"{path}.{name}"] = []
        groups[next(reversed(groups))].append(layer)
    return {name: group[0] if len(group) == 1 else nn.Sequential(*group) for name, group in groups.items()}


def pyramid(features: nn.Sequential) -> dict[str, nn.Module]:
    """The stages of a stem and groups of blocks with a downsampling layer between each two groups, which goes with the block behind it."""
    (stem_name, stem), *rest = features.named_children()
    stages: dict[str, nn.Module] = {f"features.{stem_name}": stem}
    between: tuple[nn.Module, ...] = ()
    for index, (group, layers) in enumerate(rest):
        if index % 2:
            between = (layers,)
            continue
        for name, block in layers.named_children():
            stages[f"features.{group}.{name}"] = nn.Sequential(*between, block) if between else block
            between = ()
    return stages
