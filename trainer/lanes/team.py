"""The lanes that are still under way: their heads and optimizers, side by side."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.checkpoints import State
from trainer.contract import TrainConfig
from trainer.lanes.head import Heads, Traits
from trainer.lanes.moments import Moments
from trainer.lanes.optimization import Optimizers, sort_of
from trainer.lanes.split import Stack
from trainer.models.build import fresh_head
from trainer.models.staged import StagedModel


@dataclass(frozen=True, slots=True, eq=False)
class Team:
    """Lane `numbers[i]` is at place `i` everywhere."""

    numbers: tuple[int, ...]
    configs: tuple[TrainConfig, ...]
    heads: Heads
    optimizers: Optimizers

    @classmethod
    def of(cls, model: StagedModel, stack: Stack, configs: Sequence[TrainConfig]) -> "Team":
        """All lanes at their beginning, each head as `build` would make it with the lane's seed. The model lies on its device."""
        numbers = sorted(range(len(configs)), key=lambda lane: (sort_of(configs[lane]), configs[lane].dropout, lane))
        ordered = tuple(configs[lane] for lane in numbers)
        drawn = {config.seed: fresh_head(model, config.seed) for config in ordered}
        values = {
            name: torch.stack([drawn[config.seed].get(name, tensor.detach()).to(tensor.device) for config in ordered])
            for name, tensor in model.tensors_of(model.head).items()
        }
        device = next(iter(values.values())).device
        heads = Heads(stack, values, _traits(ordered, device), half=ordered[0].precision == "bfloat16")
        return cls(tuple(numbers), ordered, heads, Optimizers(ordered, heads.parameters))

    def without(self, gone: Collection[int]) -> "Team":
        """The other lanes alone, which take up no room for those that are gone."""
        places = [place for place, number in enumerate(self.numbers) if number not in gone]
        if len(places) == len(self.numbers):
            return self
        configs = tuple(self.configs[place] for place in places)
        heads = self.heads.kept(places, _traits(configs, self.heads.device))
        numbers = tuple(self.numbers[place] for place in places)
        return Team(numbers, configs, heads, self.optimizers.kept(places, heads.parameters))

    def heads_of(self, numbers: Collection[int]) -> Heads:
        """The heads of those lanes alone, in the team's order."""
        places = [place for place, number in enumerate(self.numbers) if number in numbers]
        configs = [self.configs[place] for place in places]
        return self.heads.kept(places, _traits(configs, self.heads.device))

    def finite(self) -> list[bool]:
        """For each place, whether all of its parameters are."""
        parameters = self.heads.parameters.values()
        return torch.stack([parameter.value.flatten(1).isfinite().all(1) for parameter in parameters]).all(0).tolist()

    def snapshot(self) -> "Snapshot":
        """All that the next epoch follows from, as it is now."""
        values = {name: parameter.value.clone() for name, parameter in self.heads.parameters.items()}
        return Snapshot(self.numbers, values, self.optimizers.moments.copied())

    def load(self, state: State, order: Sequence[str], steps: int) -> None:
        """Go on, as the only lane, from the state after so many steps; its optimizer has the parameters in that order."""
        for name, parameter in self.heads.parameters.items():
            parameter.value[0].copy_(state.model[name])
        self.optimizers.load(0, state.optimizer, order, steps)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Heads and optimizers after a whole epoch. They are copied for all lanes at once, and told apart when one is asked for."""

    numbers: tuple[int, ...]
    values: Mapping[str, Tensor]
    moments: Moments

    def head(self, number: int) -> dict[str, Tensor]:
        """A lane's parameters by their names in the network, on the host."""
        place = self.numbers.index(number)
        return {name: tensor[place].to("cpu", copy=True) for name, tensor in self.values.items()}

    def optimizer(self, number: int, order: Sequence[str]) -> dict[str, Any]:
        """A lane's optimizer as torch's state dict, for parameters in that order, on the host."""
        return self.moments.exported(self.numbers.index(number), order)


def _traits(configs: Sequence[TrainConfig], device: torch.device) -> Traits:
    smoothing = torch.tensor([config.label_smoothing for config in configs], device=device)
    return Traits(dropout=tuple(config.dropout for config in configs), smoothing=smoothing)
