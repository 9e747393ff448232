"""What lanes' optimizers remember, in torch's terms: so that a checkpoint does not tell whether its run was alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainer.contract import Hyperparameters
from trainer.optimization import make_optimizer

Kind = Literal["sgd", "adam", "adamw", "rmsprop"]
MOMENTS: Mapping[Kind, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg", "momentum_buffer"),
}
"""What each keeps of earlier gradients, by torch's names."""


def keeps(config: Hyperparameters, moment: str) -> bool:
    """Whether torch would: it has no buffer for a momentum of 0."""
    return moment != "momentum_buffer" or config.momentum > 0


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Of all lanes, after `done` steps."""

    configs: tuple[Hyperparameters, ...]
    shapes: Mapping[str, torch.Size]  # of a lane's parameters, by their names in the network
    done: int
    groups: tuple[tuple[slice, Mapping[str, Sequence[Tensor]]], ...]  # lanes, and by kind a tensor [L, N] for each parameter

    def copied(self) -> "Moments":
        """What they are now, whatever step follows."""
        groups = tuple((lanes, {kind: [tensor.clone() for tensor in of] for kind, of in found.items()}) for lanes, found in self.groups)
        return replace(self, groups=groups)

    def of(self, lane: int) -> dict[str, list[Tensor]]:
        """A lane's: by kind, a tensor [N] for each parameter."""
        lanes, found = next(group for group in self.groups if group[0].start <= lane < group[0].stop)
        return {kind: [tensor[lane - lanes.start] for tensor in of] for kind, of in found.items()}

    def exported(self, lane: int, order: Sequence[str]) -> dict[str, Any]:
        """The state dict of torch's optimizer for parameters in that order, on the host."""
        config, own, names = self.configs[lane], self.of(lane), list(self.shapes)
        blank = [nn.Parameter(torch.empty(self.shapes[name], device="meta")) for name in order]
        found: dict[str, Any] = make_optimizer(blank, config).state_dict()
        for index, name in enumerate(order if self.done else ()):
            place, shape = names.index(name), self.shapes[name]
            state = {kind: of[place].view(shape).to("cpu", copy=True) for kind, of in own.items() if keeps(config, kind)}
            if config.optimizer != "sgd":
                state["step"] = torch.tensor(float(self.done))
            if state:
                found["state"][index] = state
        return found
