"""Training steps as CUDA graphs: one launch in place of some hundred or thousand."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from trainer.checkpoints import HeldState, tensors_in

log = logging.getLogger(__name__)

WARM_STEPS = 3  # eager steps with batches of a shape before it is captured: they create the optimizer's state and choose kernels
MOST_GRAPHS = 4  # batch shapes; each graph has memory of its own
TIMED_STEPS = 6  # eager ones and replays of a shape that are compared where graphs are chosen by their time
PAYS = 0.95  # of the time of an eager step, which a replay must not exceed
UPDATE_ERROR, LOSS_ERROR = 0.25, 0.02  # of the proof, relative; some kernels of CUDA add in a varying order

GraphMode = Literal["off", "auto", "on"]
"""Whether a GPU performs steps by graphs: never, where a measurement finds them faster, or wherever they can be captured."""

Outputs = tuple[Tensor, ...]
Work = Callable[..., Outputs]


class Graphs(Protocol):
    """Captures work of a device; implemented by CudaGraphs."""

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        """Record the work without performing it. Returns its outputs, which each call of the returned function computes anew.

        Raises RuntimeError for work that cannot be captured.
        """

    def random_state(self) -> Tensor:
        """The state of the device's random numbers."""

    def set_random_state(self, state: Tensor) -> None:
        """Continue from the state."""

    def seconds(self) -> float:
        """Wait for the device, and return the time of a clock."""


class CudaGraphs:
    """Graphs of a GPU. Random numbers go on from replay to replay as they do from step to step.

    `generator` draws the random numbers of the work; without it, torch's own of the device.
    """

    def __init__(self, device: torch.device, generator: torch.Generator | None = None) -> None:
        self._device, self._generator = device, generator

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        if self._generator is not None:
            graph.register_generator_state(self._generator)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads decode and may allocate pinned memory
            outputs = work()
        return outputs, graph.replay

    def random_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self._device) if self._generator is None else self._generator.get_state()

    def set_random_state(self, state: Tensor) -> None:
        if self._generator is None:
            torch.cuda.set_rng_state(state, self._device)
        else:
            self._generator.set_state(state)

    def seconds(self) -> float:
        torch.cuda.synchronize(self._device)
        return time.perf_counter()


@dataclass(frozen=True, slots=True, eq=False)
class _Captured:
    inputs: tuple[Tensor, ...]  # read by the graph
    outputs: Outputs  # written by the graph
    replay: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Shape:
    """The steps with batches of a shape."""

    warm: int = 0  # steps
    captured: _Captured | None = None
    is_slower: bool = False  # by a graph
    eager_seconds: list[float] = field(default_factory=list)
    graph_seconds: list[float] = field(default_factory=list)


class GraphedStep:
    """Performs a training step by a graph of its batch's shape.

    `work` maps the inputs to the outputs and changes the tensors of `state`, in place; `clear` removes gradients. A graph is proved when
    it is captured: it repeats an eager step from the same state and random numbers, and must change the state as that did. If a capture
    or a proof fails, this is logged, and all further steps are eager. Results do not depend on it: the state goes on from the eager step.

    `proves` returns whether a step with these outputs changed the state; a graph is not captured at another one. With `timed` some eager
    steps and some replays of each shape are timed, and the faster way is kept.
    """

    def __init__(
        self,
        work: Work,
        state: Callable[[], Any],
        clear: Callable[[], object],
        graphs: Graphs,
        *,
        proves: Callable[[Outputs], bool] = lambda outputs: True,
        timed: bool = False,
    ) -> None:
        self._work, self._state, self._clear, self._graphs, self._proves, self._timed = work, state, clear, graphs, proves, timed
        self._shapes = dict[tuple[object, ...], _Shape]()
        self.gave_up = False

    def step(self, *inputs: Tensor) -> Outputs | None:
        """The outputs; None if this step is to be performed eagerly."""
        shape = self._shapes.setdefault(tuple((tensor.shape, tensor.dtype, tensor.stride()) for tensor in inputs), _Shape())
        if shape.captured is not None:
            if not self._timed or len(shape.graph_seconds) == TIMED_STEPS:
                return _replayed(shape.captured, inputs)
            outputs = self._clocked(shape.graph_seconds, _replayed, shape.captured, inputs)
            if len(shape.graph_seconds) == TIMED_STEPS:
                self._choose(shape, len(inputs[0]))
            return outputs
        if self.gave_up or shape.is_slower:
            return None
        if shape.warm < WARM_STEPS:
            shape.warm += 1
            return None
        if sum(one.captured is not None for one in self._shapes.values()) == MOST_GRAPHS:
            return None
        if self._timed and len(shape.eager_seconds) < TIMED_STEPS:
            return self._clocked(shape.eager_seconds, self._work, *inputs)
        return self._performed_and_captured(shape, inputs)

    def _clocked(self, seconds: list[float], work: Work, *arguments: Any) -> Outputs:
        started = self._graphs.seconds()
        outputs = work(*arguments)
        seconds.append(self._graphs.seconds() - started)
        return outputs

    def _choose(self, shape: _Shape, size: int) -> None:
        """Keep the graph if it is faster."""
        eager, graph = median(shape.eager_seconds), median(shape.graph_seconds)
        shape.is_slower = graph > PAYS * eager
        if shape.is_slower:
            shape.captured = None  # returns its memory
            self._clear()
        way = "without a graph" if shape.is_slower else "by a CUDA graph"
        log.info("a step of %d examples takes %.2f ms by a CUDA graph and %.2f ms without: %s", size, 1000 * graph, 1000 * eager, way)

    def _performed_and_captured(self, shape: _Shape, inputs: tuple[Tensor, ...]) -> Outputs:
        before, after, graphs = HeldState(), HeldState(), self._graphs
        before.hold(self._state())
        random = graphs.random_state()
        expected = tuple(output.clone() for output in self._work(*inputs))
        if not self._proves(expected):
            return expected
        after.hold(self._state())
        random_after = graphs.random_state()
        try:
            self._clear()  # so that the graph allocates its own gradients
            static = tuple(tensor.clone() for tensor in inputs)
            outputs, replay = graphs.capture(lambda: self._work(*static))
            before.put_back(self._state())
            graphs.set_random_state(random)
            replay()
            if fault := self._fault(before, after, expected, outputs):
                raise RuntimeError(fault)
            shape.captured = _Captured(static, outputs, replay)
        except RuntimeError as error:
            self.gave_up = True
            for one in self._shapes.values():
                one.captured = None
            log.warning("steps are not performed by CUDA graphs: %s", str(error).splitlines()[0])
        self._clear()
        after.put_back(self._state())
        graphs.set_random_state(random_after)
        return expected

    def _fault(self, before: HeldState, after: HeldState, expected: Outputs, outputs: Outputs) -> str | None:
        """The difference between the replay and the eager step; None if they agree."""
        found, start, end = (
            [tensor for tensor in tensors_in(state) if tensor.is_floating_point()] for state in (self._state(), before.state, after.state)
        )
        error, update = (_norm(torch._foreach_sub(one, end)) for one in (found, start))
        if not error <= UPDATE_ERROR * update:
            return f"a replay changed the state by {error:.3g} more or less than an eager step, which changed it by {update:.3g}"
        for output, wanted in zip(outputs, expected, strict=True):
            if not torch.allclose(output, wanted, rtol=LOSS_ERROR, atol=LOSS_ERROR, equal_nan=True):
                return f"a replay computed {output.flatten()[0].item():.6g} where an eager step computed {wanted.flatten()[0].item():.6g}"
        return None


def _replayed(captured: _Captured, inputs: tuple[Tensor, ...]) -> Outputs:
    for static, tensor in zip(captured.inputs, inputs, strict=True):
        static.copy_(tensor)
    captured.replay()
    return tuple(output.clone() for output in captured.outputs)


def _norm(tensors: tuple[Tensor, ...]) -> float:
    return float(torch.stack([norm.float() for norm in torch._foreach_norm(list(tensors))]).norm())
