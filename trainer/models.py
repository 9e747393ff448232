"""Models as ordered stages and a head, and the errors of building one."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from trainer.sequences import Features


class UnfitModel(Exception):
    """Base of the errors of building a model; raised itself for an unknown model name."""


class Infeasible(UnfitModel):
    """This combination of hyperparameters cannot be trained; others may be trained on the same data, model and weights."""


class UnfitWeights(UnfitModel):
    """The weights were read, but are not those of this model; the text names the tensors."""


class WeightsUnavailable(UnfitModel):
    """The weights could not be loaded: no such file, no such name, or a failed download."""


class MissingWeights(WeightsUnavailable):
    """The weights cannot be read or downloaded on this machine; another machine, or a later try, may have them."""


class GlobalMean(nn.Module):
    """[N, D, H, W] → [N, D]."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean([2, 3])


class ClassToken(nn.Module):
    """Tokens [N, T, D] → the first token's features [N, D]."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class StagedModel(nn.Module):
    """A network as ordered stages and a head. Its tensors keep their names: `model.network.state_dict()` is the network's own.

    Frozen stages have no gradient, fixed BatchNorm statistics and no dropout; they stay in evaluation mode while the rest is trained. So
    they are a pure function of their input, and their output can be stored. `stages` and `head` share the network's layers. No
    stage changes its input in place, since the input may be a stored output of `forward_prefix`.
    """

    def __init__(self, network: nn.Module, stages: Mapping[str, nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.stage_names = tuple(stages)
        self.frozen = 0
        self.compiled: Callable[[Tensor], Tensor] | None = None  # computes `trained_part` in training mode
        self.drawn = frozenset(network.state_dict().keys())  # names of tensors that were not loaded from weights
        self.trained: frozenset[str] | None = None  # parameters of stages above the frozen ones that are trained; None: all
        self.merge: Callable[[nn.Module], nn.Module] | None = None  # the network → one without the layers that were added to it
        self.extended = False  # whether layers were added that the network's own layout does not have
        self.layer_decay = 1.0  # learning rate of a stage relative to that of the stage above it
        self._parts = (*stages.values(), head)  # a tuple is not registered, so the state dict holds each tensor once

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The stages in the order of the forward pass."""
        return self._parts[:-1]

    @property
    def head(self) -> nn.Module:
        """The last part: the last stage's output → predictions. Never frozen."""
        return self._parts[-1]

    def replace_stage(self, index: int, stage: nn.Module) -> None:
        """Put another stage in the place of one; its parameters are in the network."""
        self._parts = (*self._parts[:index], stage, *self._parts[index + 1 :])

    def forward(self, inputs: Features) -> Tensor:
        """The input of the first stage [N, ...] → predictions [N, ...]."""
        return self.forward_from(self.forward_prefix(inputs, self.frozen), self.frozen)

    def forward_prefix(self, inputs: Features, k: int) -> Features:
        """The output of the first `k` stages, without gradient. Raises ValueError when fewer than `k` stages are frozen."""
        if not 0 <= k <= self.frozen:
            raise ValueError(f"the first {k} stages are not all frozen; {self.frozen} are")
        with torch.no_grad():
            return _run(self.stages[:k], inputs)

    def forward_from(self, features: Features, k: int) -> Tensor:
        """The output of the first `k` stages → predictions [N, ...]. Stages above `k` that are frozen run without gradient."""
        with torch.no_grad():
            features = _run(self.stages[k : self.frozen], features)
        if self.compiled is not None and self.training and k <= self.frozen and isinstance(features, Tensor):
            return self.compiled(features)
        predictions: Tensor = self.head(_run(self.stages[max(k, self.frozen) :], features))
        return predictions

    def trained_part(self, features: Tensor) -> Tensor:
        """The output of the frozen stages → predictions."""
        predictions: Tensor = self.head(_run(self.stages[self.frozen :], features))
        return predictions

    def freeze(self, k: int) -> Self:
        """Freeze the first `k` stages and thaw all others, or what `trained` names of them.

        Raises ValueError for more stages than the model has.
        """
        if not 0 <= k <= len(self.stages):
            raise ValueError(f"{k} stages cannot be frozen; the model has {len(self.stages)}")
        self.frozen = k
        for index, part in enumerate(self._parts):
            part.requires_grad_(index >= k)
        if self.trained is not None:
            kept = {id(parameter) for parameter in self.head.parameters()}
            for name, parameter in self.network.named_parameters():
                parameter.requires_grad_(parameter.requires_grad and (name in self.trained or id(parameter) in kept))
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but frozen stages stay in evaluation mode."""
        super().train(mode)
        for index, part in enumerate(self._parts):
            part.train(mode and index >= self.frozen)
        return self

    def plain_network(self) -> nn.Module:
        """The network in its own layout: the network itself, or a copy of an adapted one on the CPU."""
        return self.network if self.merge is None else self.merge(self.network)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The trainable parameters in the network's order."""
        return (parameter for parameter in self.network.parameters() if parameter.requires_grad)

    def fresh_head(self, seed: int) -> dict[str, Tensor]:
        """Initial values of the head's parameters that were not loaded from weights, on the CPU, by their names in the network.

        A function of the seed: each layer's `reset_parameters` draws them, one layer after the other. Torch's random state is restored.
        """
        names = {id(tensor): name for name, tensor in self.network.state_dict(keep_vars=True).items()}
        values = dict[str, Tensor]()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for layer in self.head.modules():
                own = [title for title, tensor in layer.named_parameters(recurse=False) if names[id(tensor)] in self.drawn]
                if own:
                    twin = copy.deepcopy(layer).cpu()
                    twin.reset_parameters()  # type: ignore[operator]
                    values |= {names[id(getattr(layer, title))]: getattr(twin, title).detach() for title in own}
        return values

    def tensors_of(self, part: nn.Module) -> dict[str, Tensor]:
        """The parameters and buffers of a stage or of the head, by their names in the network's state dict."""
        own = {id(tensor) for tensor in part.state_dict(keep_vars=True).values()}
        return {name: tensor for name, tensor in self.network.state_dict(keep_vars=True).items() if id(tensor) in own}


def _run(stages: tuple[nn.Module, ...], features: Features) -> Features:
    for stage in stages:
        features = stage(features)
    return features
