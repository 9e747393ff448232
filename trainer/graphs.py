"""Training steps as CUDA graphs: one launch in place of some hundred or thousand."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from trainer.checkpoints import HeldState, tensors_in

log = logging.getLogger(__name__)

WARM_STEPS = 3  # eager steps with batches of a shape before it is captured: they create the optimizer's state and choose kernels
MOST_GRAPHS = 4  # batch shapes; each graph has memory of its own
UPDATE_ERROR, LOSS_ERROR = 0.25, 0.02  # of the proof, relative; some kernels of CUDA add in a varying order

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


class CudaGraphs:
    """Graphs of a GPU. Random numbers go on from replay to replay as they do from step to step."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def capture(self, work: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads decode and may allocate pinned memory
            outputs = work()
        return outputs, graph.replay

    def random_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self._device)

    def set_random_state(self, state: Tensor) -> None:
        torch.cuda.set_rng_state(state, self._device)


@dataclass(frozen=True, slots=True, eq=False)
class _Captured:
    inputs: tuple[Tensor, ...]  # read by the graph
    outputs: Outputs  # written by the graph
    replay: Callable[[], None]


class GraphedStep:
    """Performs a training step by a graph of its batch's shape.

    `work` maps the inputs to the outputs and changes the tensors of `state`, in place; `clear` removes gradients. A graph is proved when
    it is captured: it repeats an eager step from the same state and random numbers, and must change the state as that did. If a capture
    or a proof fails, this is logged, and all further steps are eager. Results do not depend on it: the state goes on from the eager step.
    """

    def __init__(self, work: Work, state: Callable[[], Any], clear: Callable[[], object], graphs: Graphs) -> None:
        self._work, self._state, self._clear, self._graphs = work, state, clear, graphs
        self._seen = Counter[tuple[object, ...]]()
        self._captured = dict[tuple[object, ...], _Captured]()
        self.gave_up = False

    def step(self, *inputs: Tensor) -> Outputs | None:
        """The outputs; None if this step is to be performed eagerly."""
        signature = tuple((tensor.shape, tensor.dtype, tensor.stride()) for tensor in inputs)
        if (captured := self._captured.get(signature)) is not None:
            for static, tensor in zip(captured.inputs, inputs, strict=True):
                static.copy_(tensor)
            captured.replay()
            return tuple(output.clone() for output in captured.outputs)
        self._seen[signature] += 1
        if self.gave_up or self._seen[signature] <= WARM_STEPS or len(self._captured) == MOST_GRAPHS:
            return None
        return self._performed_and_captured(signature, inputs)

    def _performed_and_captured(self, signature: tuple[object, ...], inputs: tuple[Tensor, ...]) -> Outputs:
        before, after, graphs = HeldState(), HeldState(), self._graphs
        before.hold(self._state())
        random = graphs.random_state()
        expected = tuple(output.clone() for output in self._work(*inputs))
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
            self._captured[signature] = _Captured(static, outputs, replay)
        except RuntimeError as error:
            self.gave_up = True
            self._captured.clear()
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


def _norm(tensors: tuple[Tensor, ...]) -> float:
    return float(torch.stack([norm.float() for norm in torch._foreach_norm(list(tensors))]).norm())
