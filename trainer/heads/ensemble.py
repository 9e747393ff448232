"""The learner that trains the heads of several runs together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.cache import Cache
from trainer.checkpoints import TrainingState
from trainer.configuration import DatasetInfo, TrainConfig
from trainer.features import Inputs, stored_outputs
from trainer.graphs import CudaGraphs, GraphedStep, GraphMode, Graphs, Outputs
from trainer.heads.joint import Execution, JointLinear, execution_on, flattened
from trainer.heads.layers import (
    MemberActivation,
    MemberDropout,
    MemberLayer,
    MemberLinear,
    MemberMean,
    MemberNorm,
    MemberParameter,
    MemberScale,
    Noise,
    SharedLinear,
)
from trainer.heads.optimizers import Optimizers, sort_of
from trainer.heads.stack import Activation, Affine, ChannelNorm, Dropout, Linear, PlacesMean, Stack, split_head
from trainer.learners import Member, MemberState
from trainer.order import seed_for
from trainer.preparation import PreparedRun
from trainer.sequences import Features, dense
from trainer.stopwatch import Stopwatch
from trainer.tasks.base import Task, described_model
from trainer.tasks.capabilities import ClosedFormHeads, HeadsLoss, HeadsTogether, methods_of
from trainer.tasks.registry import spec_of

UNTIMED = Stopwatch()
COPIES = 3  # of each layer's activations in memory: forward, backward and intermediate


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Traits:
    """The members' hyperparameters of the forward pass and the loss."""

    dropout: tuple[float, ...]
    loss: HeadsLoss

    def of(self, first: int, last: int) -> "Traits":
        """The traits of members `first` to `last`, the latter excluded."""
        return Traits(dropout=self.dropout[first:last], loss=self.loss.of(first, last))


class Graphing(NamedTuple):
    """How steps become graphs."""

    graphs: Callable[[torch.Generator], Graphs]  # of work that draws from the generator
    timed: bool  # only where they are faster


class BatchedHeads:
    """The heads of M members. `parameters` are keyed by their names in the network, each [M, ...]."""

    def __init__(self, stack: Stack, values: Mapping[str, Tensor], traits: Traits, execution: Execution, *, half: bool = False) -> None:
        self.parameters = {name: MemberParameter(value, torch.zeros_like(value)) for name, value in values.items()}
        self.flat: MemberParameter | None = None  # all parameters in one tensor, if they are computed jointly
        if execution.joint:
            self.flat, self.parameters = flattened(values)
        # Rounded once a step, not once for each product. A CPU rounds the masked features of each piece.
        self.reads = torch.bfloat16 if half and execution.joint and not isinstance(stack[0], Affine) else torch.float32
        self._stack, self._traits, self._execution, self._half = stack, traits, execution, half
        self._parts = dict[int, list[_Part]]()  # by the largest number of members in a part

    def __len__(self) -> int:
        return len(self._traits.dropout)

    def kept(self, places: Sequence[int], traits: Traits) -> "BatchedHeads":
        """Copies of the heads at `places`, with their traits."""
        values = {name: parameter.value[list(places)] for name, parameter in self.parameters.items()}
        return BatchedHeads(self._stack, values, traits, self._execution, half=self._half)

    def learn(self, features: Tensor, targets: Tensor, noise: Noise, stopwatch: Stopwatch) -> Tensor:
        """Features [B, D] or [B, D, H, W], targets [B, ...] → mean loss of each member [M]. Writes the gradients into `parameters`."""
        rows, places = _rows(features)
        found, parts = list[Tensor](), self._parts_of(rows)
        before = noise.state() if len(parts) > 1 else None
        for part in parts:
            if before is not None:
                noise.restore(before)  # every part repeats the same draws, so results do not depend on the number of parts
            with stopwatch("forward"):
                outputs = part.forward(rows, places, noise)
                losses, slope = part.loss(outputs.squeeze(2), targets)  # [m], [m, O, B]
            with stopwatch("backward"):
                part.backward(slope.unsqueeze(2))
            found.append(losses)
        return found[0] if len(found) == 1 else torch.cat(found)

    def outputs(self, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Features [B, D] or [B, D, H, W] → pairs of members and their outputs, float [m, O, B], in evaluation mode."""
        rows, places = _rows(features)
        for part in self._parts_of(rows):
            yield part.members, part.forward(rows, places, None).squeeze(2)

    def _parts_of(self, rows: Tensor) -> "list[_Part]":
        # Each weight [M, E, ...] contributes E activations for each row; a bias [M, E] contributes none.
        values = [parameter.value for parameter in self.parameters.values()]
        widths = sum(value.shape[1] for value in values if value.ndim > 2)
        count = max(1, self._execution.activation_bytes // (COPIES * values[0].element_size() * len(rows) * max(1, widths)))
        if count not in self._parts:
            self._parts[count] = [self._part(first, min(first + count, len(self))) for first in range(0, len(self), count)]
        return self._parts[count]

    def _part(self, first: int, last: int) -> "_Part":
        parameters = {name: parameter.of(first, last) for name, parameter in self.parameters.items()}
        return _Part(self._stack, slice(first, last), parameters, self._traits.of(first, last), self._execution, half=self._half)


class _Part:
    """Members whose activations are in memory at the same time."""

    def __init__(
        self,
        stack: Stack,
        members: slice,
        parameters: Mapping[str, MemberParameter],
        traits: Traits,
        execution: Execution,
        *,
        half: bool,
    ) -> None:
        self.members, self.loss = members, traits.loss
        drops = stack[:1] == (Dropout(),)
        first, *rest = stack[1:] if drops else stack
        self._first = _first(first, parameters, traits.dropout if drops else (0.0,) * len(traits.dropout), execution, half=half)
        self._rest = [_later(layer, parameters, traits.dropout, half=half) for layer in rest]

    def forward(self, rows: Tensor, places: int, noise: Noise | None) -> Tensor:
        """Rows [P * B, D] → outputs [M, O, 1, B]."""
        found = self._first.forward(rows, places, noise)
        for layer in self._rest:
            found = layer.forward(found, noise)
        return found

    def backward(self, slope: Tensor) -> None:
        """Backpropagate the gradient of the loss by the outputs [M, O, 1, B]; writes the gradients of all parameters."""
        for layer in reversed(self._rest):
            slope = layer.backward(slope)
        self._first.backward(slope)


def _first(
    layer: object, parameters: Mapping[str, MemberParameter], rates: Sequence[float], execution: Execution, *, half: bool
) -> SharedLinear | JointLinear | MemberScale:
    match layer:
        case Linear() if execution.joint:
            weight, bias = parameters[layer.weight], _bias(layer, parameters)
            return JointLinear(weight, bias, rates, half=half, masked_bytes=execution.masked_bytes)
        case Linear():
            return SharedLinear(parameters[layer.weight], _bias(layer, parameters), rates, half=half)
        case Affine():
            return MemberScale(parameters[layer.weight], _bias(layer, parameters), layer.offset, extremes=layer.extremes)
        case _:
            raise TypeError(f"no head begins with {layer}")


def _later(layer: object, parameters: Mapping[str, MemberParameter], rates: Sequence[float], *, half: bool) -> MemberLayer:
    match layer:
        case Linear():
            return MemberLinear(parameters[layer.weight], _bias(layer, parameters), half=half)
        case ChannelNorm():
            return MemberNorm(parameters[layer.weight], _bias(layer, parameters), layer.eps)
        case Dropout():
            return MemberDropout(rates)
        case PlacesMean():
            return MemberMean()
        case Activation():
            return MemberActivation(layer.module)
        case _:
            raise TypeError(f"{layer} can only come first")


def _bias(layer: Linear | Affine | ChannelNorm, parameters: Mapping[str, MemberParameter]) -> MemberParameter:
    """The layer's bias; zeros that no optimizer changes for a layer without one."""
    if layer.bias is not None:
        return parameters[layer.bias]
    value = parameters[layer.weight].value
    return MemberParameter(*(value.new_zeros(value.shape[:2]) for _ in range(2)))


def _rows(features: Tensor) -> tuple[Tensor, int]:
    """Features [B, D] → themselves, [B, D, H, W] → [H * W * B, D]; and the number of places."""
    if features.ndim == 2:
        return features, 1
    places = features.shape[2] * features.shape[3]
    return features.permute(2, 3, 0, 1).reshape(places * len(features), -1), places  # channels stay contiguous


def fits(config: TrainConfig, info: DatasetInfo | None = None) -> bool:
    """Whether the run trains only a head, with hand-written gradients, on pretrained weights. The info describes a model of a hub."""
    spec = spec_of(config.task)
    if not isinstance(spec, HeadsTogether) or not config.model.pretrained:
        return False
    model, values = described_model(spec, config.model.name, info), dict(config)
    return model is not None and spec.trains_together(model, values) and methods_of(spec).frozen_stages(model, values) == model.stages


class HeadEnsemble:
    """Trains the heads of all members together by hand-written gradients. `members[i]` is at place i of every tensor.

    Each head equals the one of the same run trained alone, up to rounding: a matrix product of another shape adds in another order. The
    order of examples and the draws of dropout follow from the order seed, which all members share.
    """

    smallest_batch = 256  # an example is a single feature vector, so small batches waste time

    def __init__(
        self,
        members: Sequence[int],
        configs: Sequence[TrainConfig],
        run: PreparedRun,
        heads: BatchedHeads,
        optimizers: Optimizers,
        stopwatch: Stopwatch,
    ) -> None:
        self.members = tuple(members)
        self._configs, self._run, self._task, self._model = tuple(configs), run, together(run.task), run.model
        self._heads, self._optimizers, self._stopwatch = heads, optimizers, stopwatch
        self._buffers, self._noise = FrozenBuffers(run.model.network), Noise(0, run.device)
        self._graphing: Graphing | None = None
        self._graphed: GraphedStep | None = None

    @classmethod
    def build(
        cls, run: PreparedRun, members: Sequence[Member], cache: Cache, stopwatch: Stopwatch, *, graphs: GraphMode = "off"
    ) -> tuple["HeadEnsemble", Inputs]:
        """The learner, and its inputs: the output of the frozen stages and the head's prefix. Raises ValueError for runs without `fits`.

        `graphs` is for GPUs; other devices have none.
        """
        if not all(fits(member.config, run.info) for member in members):
            raise ValueError("only runs that train just a head on pretrained stages can be trained together")
        prefix, stack = split_head(run.model)
        longest = max(members, key=lambda member: member.config.epochs)
        inputs = stored_outputs(run, cache, longest.demand, stopwatch, prefix, len(members))
        learner = cls.of(run, stack, [member.config for member in members], stopwatch)
        if graphs != "off" and run.device.type == "cuda":
            learner.use_graphs(Graphing(partial(CudaGraphs, run.device), timed=graphs == "auto"))
        return learner, inputs

    @classmethod
    def of(cls, run: PreparedRun, stack: Stack, configs: Sequence[TrainConfig], stopwatch: Stopwatch) -> "HeadEnsemble":
        """The learner with each member's head initialised as the task's `model` does it with the member's seed."""
        # Sorted so that members of equal optimizer sort and of equal dropout are adjacent: both are computed in one operation.
        members = sorted(range(len(configs)), key=lambda member: (sort_of(configs[member]), configs[member].dropout, member))
        ordered, model = [configs[member] for member in members], run.model
        drawn = {config.seed: model.fresh_head(config.seed) for config in ordered}
        values = {
            name: torch.stack([drawn[config.seed].get(name, tensor.detach()).to(tensor.device) for config in ordered])
            for name, tensor in model.tensors_of(model.head).items()
        }
        heads = BatchedHeads(stack, values, _traits(ordered, run), execution_on(run.device), half=ordered[0].precision == "bfloat16")
        return cls(members, ordered, run, heads, Optimizers(ordered, heads.parameters, heads.flat), stopwatch)

    def use_graphs(self, graphing: Graphing) -> None:
        """Perform steps by graphs where that is possible, also in the learners of `keep`. Needs parameters that are computed jointly."""
        flat, optimizers = self._heads.flat, self._optimizers
        if flat is None:
            raise ValueError("heads are captured only where they are computed jointly")
        graphs, values = graphing.graphs(self._noise.generator), flat.value
        self._graphing = graphing
        self._graphed = GraphedStep(self._computed, lambda: [values, *optimizers.tensors], lambda: None, graphs, timed=graphing.timed)

    @property
    def facts(self) -> Mapping[str, str]:
        # Heads have no loss scaling, so the precision float16 is only that of the frozen stages. Their gradients are written by hand, so
        # there is nothing to compile.
        precision = {"head_precision": "float32"} if self._configs[0].precision == "float16" else {}
        return precision | ({"compile": "off"} if self._configs[0].compile else {})

    def begin(self, number: int, rates: Tensor) -> None:
        self._optimizers.begin(rates)
        self._noise.seed(seed_for(self._configs[0].order_seed, "numbers", number))

    def step(self, batch: int, features: Features, targets: Tensor) -> tuple[Tensor, float]:
        features = dense(features)
        self._optimizers.advance(batch, in_place=self._graphed is not None)
        if self._graphed is not None:
            with self._stopwatch("backward"):  # a graph is not divided into forward and backward
                if (found := self._graphed.step(features, targets)) is not None:
                    return found[0], len(features)
        losses = self._heads.learn(features.to(self._heads.reads), targets, self._noise, self._stopwatch)
        with self._stopwatch("backward"):
            self._optimizers.update()
        return losses, len(features)

    def _computed(self, features: Tensor, targets: Tensor) -> Outputs:
        """A step without the stopwatch, which does not time within a graph."""
        losses = self._heads.learn(features.to(self._heads.reads), targets, self._noise, UNTIMED)
        self._optimizers.update()
        return (losses,)

    def tallies(self, features: Features, targets: Tensor) -> Iterator[tuple[slice, Tensor]]:
        for members, outputs in self._heads.outputs(dense(features).to(self._heads.reads)):  # [m, O, B]
            yield members, self._task.heads_tally(outputs, targets)

    def finite(self) -> list[bool]:
        parameters = self._heads.parameters.values()
        return torch.stack([parameter.value.flatten(1).isfinite().all(1) for parameter in parameters]).all(0).tolist()

    def keep(self, members: Sequence[int]) -> "HeadEnsemble":
        places = [place for place, member in enumerate(self.members) if member in members]
        if len(places) == len(self.members):
            return self
        configs = [self._configs[place] for place in places]
        heads = self._heads.kept(places, _traits(configs, self._run))
        optimizers = self._optimizers.kept(places, heads.parameters, heads.flat)
        kept = [self.members[place] for place in places]
        found = HeadEnsemble(kept, configs, self._run, heads, optimizers, self._stopwatch)
        found._buffers = self._buffers
        if self._graphing is not None:
            found.use_graphs(self._graphing)
        return found

    def snapshot(self) -> Callable[[int], MemberState]:
        """Copy all members with one operation a tensor; the returned function extracts one member."""
        members, moments = self.members, self._optimizers.moments.copied()
        values = {name: parameter.value.clone() for name, parameter in self._heads.parameters.items()}

        def state_of(member: int) -> MemberState:
            place = members.index(member)
            head = {name: tensor[place].to("cpu", copy=True) for name, tensor in values.items()}
            return MemberState({**self._buffers.on_host, **head}, moments.exported(place, self._trained))

        return state_of

    def restore(self, states: Mapping[int, TrainingState], steps: int) -> None:
        for place, member in enumerate(self.members):
            for name, parameter in self._heads.parameters.items():
                parameter.value[place].copy_(states[member].model[name])
            self._optimizers.load(place, states[member].optimizer, self._trained, steps)

    def network_of(self, member: int) -> nn.Module:
        place = self.members.index(member)
        head = {name: parameter.value[place] for name, parameter in self._heads.parameters.items()}
        self._model.network.load_state_dict(head, strict=False)
        return self._model.network

    @property
    def _trained(self) -> list[str]:
        """Names of the head's parameters in the order in which torch's optimizer numbers them."""
        return [name for name, parameter in self._model.network.named_parameters() if parameter.requires_grad]


class FrozenBuffers:
    """The buffers in a network's state dict. They are constant, since all of its stages are frozen."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    @cached_property
    def on_host(self) -> Mapping[str, Tensor]:
        """The buffers by their names, copied from the device once."""
        tensors = self._network.state_dict(keep_vars=True)
        return {name: tensor.cpu() for name, tensor in tensors.items() if not isinstance(tensor, nn.Parameter)}


def _traits(configs: Sequence[TrainConfig], run: PreparedRun) -> Traits:
    loss: HeadsLoss = together(run.task).heads_loss(configs, run.training_targets, run.info)
    return Traits(dropout=tuple(config.dropout for config in configs), loss=loss)


def together(task: Task) -> ClosedFormHeads:
    """The task as ClosedFormHeads. Raises ValueError if it lacks this capability."""
    if not isinstance(task, ClosedFormHeads):
        raise ValueError(f"heads of the task {task.spec.name} cannot be trained together")
    return task
