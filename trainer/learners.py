"""Learners: the interface between the training loop and the models that it trains."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainer import memory
from trainer.cache import Cache
from trainer.checkpoints import Checkpoints, HeldState, TrainingState, copied, tensors_in
from trainer.compilation import compile_trained_part
from trainer.configuration import TrainConfig
from trainer.features import Direct, Inputs, inputs_for
from trainer.graphs import CudaGraphs, GraphedStep, GraphMode, Graphs, Outputs
from trainer.optimization import make_optimizer, parameter_groups
from trainer.order import seed_for
from trainer.preparation import Expected, PreparedRun, inference_batch
from trainer.sequences import Features
from trainer.stopwatch import Stopwatch

log = logging.getLogger(__name__)

IMPLEMENTATION = ("lr", "fused", "foreach", "capturable")  # settings of an optimizer that follow from the device; lr is set in each step
HELD_SHARE = 0.25  # of the device's free memory, for the state that the next checkpoint will hold


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Member:
    """A run that a learner trains, alone or with others. Its number is its place among them."""

    config: TrainConfig
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    expected: Expected = field(default_factory=Expected)
    decision_steps: tuple[int, ...] = ()  # rounds after which the pruner decides
    model_file: Path | None = None  # path of the exported model
    score_test: bool = False
    demand: Mapping[int, float] = field(default_factory=dict)  # as protocol.Run.demand; `depths` likewise
    depths: tuple[int, int] | None = None

    @property
    def rounds(self) -> int:
        """Number of evaluation rounds; a round is an epoch."""
        return self.config.epochs


class MemberState(NamedTuple):
    """The state from which a member's next round is computed, on the host."""

    model: Mapping[str, Tensor]  # trainable parameters and all buffers, by their names in the network
    optimizer: Mapping[str, Any]  # torch's state dict
    scaler: Mapping[str, Any] | None = None  # torch's state dict of the loss scaling, if there is any


class Learner(Protocol):
    """Trains one model for each of M members. Row i of a tensor [M, ...] belongs to `members[i]`."""

    @property
    def members(self) -> Sequence[int]:
        """The numbers of the members, in the learner's order."""

    @property
    def facts(self) -> Mapping[str, str]:
        """Facts besides those of `devices.environment` on which results depend."""

    @property
    def smallest_batch(self) -> int:
        """Smallest batch size of evaluation; only the last batch may be smaller."""

    def begin(self, number: int, rates: Tensor) -> None:
        """Start a round; `rates` are the learning rates of its steps, float64 [steps, M] on the host."""

    def step(self, batch: int, features: Features, targets: Tensor) -> tuple[Tensor, Tensor | float]:
        """Train on batch number `batch` of the round → mean loss of each member [M], weight of the batch in the round's mean."""

    def tallies(self, features: Features, targets: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yields the task's tallies [m, B, K] of some members at a time, computed in evaluation mode."""

    def finite(self) -> list[bool]:
        """For each member, whether all of its trainable parameters are finite."""

    def keep(self, members: Sequence[int]) -> "Learner":
        """A learner of those members, at least one, in this learner's order; returns itself when they are all of its members."""

    def snapshot(self) -> Callable[[int], MemberState]:
        """Copy the state of all members. The returned function maps a member's number to its state; call it before the next snapshot."""

    def restore(self, states: Mapping[int, TrainingState], steps: int) -> None:
        """Continue from the states of all members, by number, after `steps` steps."""

    def network_of(self, member: int) -> nn.Module:
        """The member's whole network; valid until the next call."""


class ModelLearner:
    """Trains the model of a single run by autograd."""

    members = (0,)
    smallest_batch = 32

    def __init__(
        self, run: PreparedRun, depth: int, stopwatch: Stopwatch, graphs: Graphs | None = None, *, timed_graphs: bool = False
    ) -> None:
        """With `graphs` steps are performed by graphs where that is possible; with `timed_graphs` where they are faster."""
        self._run, self._task, self._model, self._config = run, run.task, run.model, run.config
        self._depth, self._stopwatch = depth, stopwatch
        self._groups = parameter_groups(run.model)
        self._optimizer = make_optimizer(self._groups, run.config)
        self._loss_settings = run.task.loss_settings(run.config, run.training_targets, run.info)
        self._rates = list[float]()
        # float16 has 5 bits of exponent: without scaling, small gradients would be 0. Disabled, the scaler only calls the optimizer.
        self._scaler = torch.amp.GradScaler(run.device.type, enabled=run.config.precision == "float16")
        self._overflows = torch.zeros((), device=run.device)  # steps of the round that were skipped
        self.skipped_steps = 0  # of earlier rounds of this attempt
        if (size := inference_batch(run)) is not None:
            self.smallest_batch = size
        self._held: HeldState | None = None  # of the last snapshot, if it is on the device
        self._fixed: Mapping[str, Tensor] = {}  # buffers of frozen stages, on the host
        # Compiled in any case before the first round, whose seconds are compared with those of other runs.
        self.facts: Mapping[str, str] = {"compile": "on" if compile_trained_part(run) else "off"} if run.config.compile else {}
        self._graphed: GraphedStep | None = None
        if graphs is not None and run.model.compiled is None:  # compiled code in graphs has not been tried
            self._graphed = GraphedStep(
                self._computed, self._stepped_state, self._optimizer.zero_grad, graphs, proves=self._proves, timed=timed_graphs
            )
            for group in self._optimizer.param_groups:  # a graph reads the learning rate and the number of steps from the device
                group["lr"] = torch.tensor(float(group["lr"]), device=run.device)
                group |= {"capturable": True} if "capturable" in group and run.device.type != "cpu" else {}

    @classmethod
    def build(
        cls,
        run: PreparedRun,
        members: Sequence[Member],
        cache: Cache,
        stopwatch: Stopwatch,
        *,
        share: bool = True,
        graphs: GraphMode = "off",
    ) -> tuple["ModelLearner", Inputs]:
        """The learner and its inputs. With `share=False` every round computes the whole network, and no output is stored.

        `graphs` is for GPUs; other devices have none.
        """
        (member,) = members
        inputs = inputs_for(run, cache, member.demand, stopwatch, member.depths) if share else Direct(run)
        own = CudaGraphs(run.device) if graphs != "off" and run.device.type == "cuda" else None
        return cls(run, inputs.depth, stopwatch, own, timed_graphs=graphs == "auto"), inputs

    def begin(self, number: int, rates: Tensor) -> None:
        self._rates = rates[:, 0].tolist()
        self._overflows.zero_()
        # Dropout and stochastic depth draw from torch's global generators. Seeding them by round makes a resumed run draw the same numbers
        # without a generator state in the checkpoint.
        torch.manual_seed(seed_for(self._config.seed, "numbers", number))
        self._model.train()

    def step(self, batch: int, features: Features, targets: Tensor) -> tuple[Tensor, Tensor]:
        for group, own in zip(self._optimizer.param_groups, self._groups, strict=True):
            if self._graphed is None:
                group["lr"] = self._rates[batch] * own.lr_factor
            else:
                group["lr"].fill_(self._rates[batch] * own.lr_factor)
        if self._graphed is not None and isinstance(features, Tensor):  # sequences have many shapes
            with self._stopwatch("backward"):  # a graph is not divided into forward and backward
                if (found := self._graphed.step(features, targets)) is not None:
                    return found[0], found[1]
        with self._stopwatch("forward"):
            loss, weight = self._forward(features, targets)
        with self._stopwatch("backward"):
            self._backward(loss)
        return loss.detach()[None], weight

    def _forward(self, features: Features, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss, and the weight of the batch."""
        with self._run.autocast:
            losses, weights = self._task.loss(self._model, features, self._depth, targets, self._loss_settings)  # [B], [B]
        weight = weights.sum()
        return losses.sum() / weight, weight

    def _backward(self, loss: Tensor) -> None:
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        if self._scaler.is_enabled():
            (overflow,) = self._scaler._found_inf_per_device(self._optimizer).values()  # stays on the device
            self._overflows += overflow
            self._scaler.update()

    def _computed(self, features: Tensor, targets: Tensor) -> Outputs:
        """A step without the stopwatch, which does not time within a graph. Returns loss, weight, and the overflows of the round."""
        loss, weight = self._forward(features, targets)
        before = self._overflows.clone()
        self._backward(loss)
        return loss.detach()[None], weight, self._overflows - before

    def _proves(self, outputs: Outputs) -> bool:
        """Whether the step changed the parameters: its gradients did not overflow. Waits for the device."""
        return not self._scaler.is_enabled() or not bool(outputs[2])

    def _stepped_state(self) -> tuple[object, ...]:
        """The tensors that a step changes."""
        scaling = [self._scaler._scale, self._scaler._growth_tracker, self._overflows] if self._scaler.is_enabled() else []
        return self._changing(), self._optimizer.state_dict()["state"], scaling

    def tallies(self, features: Features, targets: Tensor) -> Iterator[tuple[slice, Tensor]]:
        if self._model.training:
            self._model.eval()
        with torch.no_grad():
            with self._run.autocast:
                predictions = self._task.predict(self._model, features, self._depth)
            found = self._task.tally(predictions, targets)[None]
        yield slice(0, 1), found

    def finite(self) -> list[bool]:
        # The largest absolute value of each parameter: unlike a sum of squares it is finite if all values are.
        finite = torch.stack(torch._foreach_norm(list(self._model.trainable_parameters()), float("inf"))).isfinite().all()
        sound, overflows = torch.stack([finite.to(self._overflows.dtype), self._overflows]).tolist()
        if overflows:
            self.skipped_steps += int(overflows)
            steps = len(self._rates)
            log.info("float16: %d of %d steps changed nothing, because gradients overflowed; the loss is scaled less", overflows, steps)
        return [sound == 1]

    def keep(self, members: Sequence[int]) -> "ModelLearner":
        return self

    def snapshot(self) -> Callable[[int], MemberState]:
        """Copy the state. On a device with room for it the copy stays there until the function is called, at the latest before the next
        snapshot; otherwise it is on the host.
        """
        scaler = self._scaler.state_dict() if self._scaler.is_enabled() else None
        model, optimizer = self._changing(), self._optimizer.state_dict()
        if self._held is None and not self._has_room_for(model, optimizer):
            state = MemberState(copied(model), copied(optimizer), scaler)
            return lambda member: state
        if self._held is None:
            self._held = HeldState()
            self._fixed = copied({name: model[name] for name in self._frozen_buffers() & model.keys()})
        held, fixed, names = self._held, self._fixed, list(model)
        held.hold(({name: tensor for name, tensor in model.items() if name not in fixed}, optimizer))

        def state_of(member: int) -> MemberState:
            moving, moments = held.on_host()
            return MemberState({name: fixed[name] if name in fixed else moving[name] for name in names}, moments, scaler)

        return state_of

    def _has_room_for(self, *state: Mapping[str, Any]) -> bool:
        """Whether the device has memory of its own, of which a copy of the state takes a small share."""
        own = memory.of(self._run.device)
        return own is not None and sum(tensor.nbytes for tensor in tensors_in(state)) <= HELD_SHARE * own.usage().left

    def _frozen_buffers(self) -> set[str]:
        """Names of the buffers of frozen stages, which do not change."""
        frozen = {id(buffer) for stage in self._model.stages[: self._model.frozen] for buffer in stage.buffers()}
        return {name for name, buffer in self._model.network.named_buffers() if id(buffer) in frozen}

    def restore(self, states: Mapping[int, TrainingState], steps: int) -> None:
        state, changing = states[0], self._changing()
        self._held = None
        rest = {name: tensor for name, tensor in self._model.network.state_dict().items() if name not in changing}
        self._model.network.load_state_dict({**rest, **state.model})
        # The state may come from another device, whose implementation of the optimizer this one need not have.
        groups = [
            {**saved, **{name: own[name] for name in IMPLEMENTATION if name in own}}
            for saved, own in zip(state.optimizer["param_groups"], self._optimizer.param_groups, strict=True)
        ]
        self._optimizer.load_state_dict({**state.optimizer, "param_groups": groups})
        if state.scaler is not None:
            self._scaler.load_state_dict(dict[str, Any](state.scaler))

    def network_of(self, member: int) -> nn.Module:
        return self._model.plain_network()

    def _changing(self) -> dict[str, Tensor]:
        """Trainable parameters and all buffers. Frozen parameters are left out: they follow from weights and seed."""
        tensors = self._model.network.state_dict(keep_vars=True)
        return {name: tensor.detach() for name, tensor in tensors.items() if not isinstance(tensor, nn.Parameter) or tensor.requires_grad}
