"""A plain PyTorch loop with the same network, as the comparison of the trainer's steps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bench.gpu.material import CLASSES
from trainer.tasks.images.config import IMAGENET_MEAN, IMAGENET_STD
from trainer.tasks.images.networks.factory import staged

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
GRAPH_WARM_STEPS = 3


@dataclass(frozen=True, slots=True)
class Way:
    """How the loop computes. By default as the trainer does."""

    precision: str
    channels_last: bool = False  # of the weights; the images always are
    free: bool = False  # cuDNN measures its algorithms and may choose one that is not deterministic
    graph: bool = False  # the whole step is one CUDA graph


class PlainLoop:
    """Training steps on images that are on the device, in random order. TF32 and cuDNN are as the trainer has left them."""

    def __init__(self, name: str, size: int, batch: int, way: Way, device: torch.device) -> None:
        torch.manual_seed(0)
        self._way, self._device = way, device
        self._model = staged(name, CLASSES, size).to(device).train()
        if way.channels_last:
            self._model.to(memory_format=torch.channels_last)
        count = 2 * batch
        self._pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, device=device)
        self._labels = torch.arange(count, device=device) % CLASSES
        self._rows = torch.randperm(count, device=device)[:batch]
        self._mean, self._std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        capturable = way.graph and device.type == "cuda"
        self._optimizer = torch.optim.AdamW(self._model.parameters(), 1e-4, fused=True, capturable=capturable)
        self._scaler = torch.amp.GradScaler(device.type, enabled=way.precision == "float16")

    def stepper(self) -> Callable[[], object]:
        """A function that issues one step."""
        return self._graphed() if self._way.graph else self._step

    def evaluator(self) -> Callable[[], object]:
        """A function that issues the forward pass of one batch in evaluation mode."""
        self._model.eval()

        def evaluate() -> Tensor:
            with torch.no_grad():
                return self._loss()

        return evaluate

    def _loss(self) -> Tensor:
        pixels = self._pixels[self._rows].to(memory_format=torch.channels_last).float() / 255
        with torch.autocast(self._device.type, DTYPES.get(self._way.precision, torch.bfloat16), enabled=self._way.precision in DTYPES):
            logits = self._model((pixels - self._mean) / self._std)
        return functional.cross_entropy(logits.float(), self._labels[self._rows])

    def _step(self) -> None:
        self._optimizer.zero_grad()
        self._scaler.scale(self._loss()).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _graphed(self) -> Callable[[], object]:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(GRAPH_WARM_STEPS):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay
