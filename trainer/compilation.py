"""Compiles the trained part of a network by torch.compile."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from trainer import memory
from trainer.checkpoints import HeldState
from trainer.preparation import PreparedRun

log = logging.getLogger(__name__)

BACKEND: str | Callable[..., Any] = "inductor"


def compile_trained_part(run: PreparedRun) -> bool:
    """Compile the trained part of the run's model for each batch size of an epoch. Returns whether that succeeded.

    A forward and a backward pass of each size are performed, so that nothing is compiled in the steps that follow; they leave the model
    and the random numbers as they were. If they fail, the cause is logged and the model stays eager. Only the lack of the device's memory,
    and errors of the device, are raised.
    """
    model, before = run.model, HeldState()
    before.hold(dict(model.named_buffers()))  # parameters do not change without a step of the optimizer
    torch._dynamo.reset()  # code of earlier runs, which counts towards torch's limit of versions of a function
    devices = [run.device] if run.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            compiled = torch.compile(model.trained_part, backend=BACKEND, dynamic=False, options=_options())
            for features in _inputs(run):
                with run.autocast:
                    predictions = compiled(features)
                predictions.float().sum().backward()  # type: ignore[no-untyped-call]
        model.compiled = compiled
    except Exception as error:  # of any type: those of torch's compilers have no common base
        cause: Exception = getattr(error, "inner_exception", error)
        if isinstance(cause, torch.AcceleratorError) or memory.lack(cause, memory.of(run.device)) is not None:
            raise cause from error
        first, *_ = str(cause).strip().splitlines() or [""]
        log.warning("training steps are not compiled: %s: %s", type(cause).__name__, first)
        model.compiled = None
    finally:
        before.put_back(dict(model.named_buffers()))
        model.zero_grad()
    return model.compiled is not None


def _options() -> dict[str, Any] | None:
    """Options of inductor: dropout draws the numbers of eager steps, and compiling takes no more threads than the run has."""
    return {"fallback_random": True, "compile_threads": torch.get_num_threads()} if BACKEND == "inductor" else None


def _inputs(run: PreparedRun) -> Iterable[Tensor]:
    """The input of the trained part for one batch of each size. The model is in training mode meanwhile."""
    sizes = {len(rows): rows for rows in run.batches_of(1)}
    run.model.train()
    for rows in sizes.values():
        with torch.no_grad(), run.autocast:
            features = run.model.forward_prefix(run.examples.take(rows, run.view_of(1)), run.model.frozen)
        if not isinstance(features, Tensor):
            raise TypeError("each batch of sequences has a length of its own")
        yield features
